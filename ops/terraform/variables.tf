variable "project" {
  description = "Project of topics, tables and accounts."
  type        = string
  default     = "nba-props-platform"
}

variable "region" {
  description = "Region of Redis, Cloud Run, the scheduler and the image repository."
  type        = string
  default     = "us-central1"
}

variable "bigquery_location" {
  description = "Where the datasets lie; no query joins datasets of two locations."
  type        = string
  default     = "US"
}

variable "create_predictions_dataset" {
  description = "Make nba_predictions; false where Phase 5 has it already."
  type        = bool
  default     = false
}

variable "network" {
  description = "VPC of the workers, from which Redis is reached: projects/P/global/networks/N."
  type        = string
}

variable "redis_range" {
  description = "Addresses kept for Redis; the network policies of ops/k8s name the same."
  type        = string
  default     = "10.80.0.0/29"
}

variable "upstream_members" {
  description = "Accounts of the four processors: serviceAccount:…"
  type        = list(string)
}

variable "phase5_members" {
  description = "Accounts of Phase 5: serviceAccount:…"
  type        = list(string)
}

variable "deployer_members" {
  description = "Who deploys from CI, by workload identity federation: principalSet://iam.googleapis.com/…"
  type        = list(string)
  default     = []
}

variable "gke_pods" {
  description = "Kubernetes accounts that are the worker: serviceAccount:PROJECT.svc.id.goog[mlfs/mlfs-worker]. Empty without GKE."
  type        = list(string)
  default     = []
}

variable "push_endpoint" {
  description = "Address of the Cloud Run service mlfs-push, https://mlfs-push-….run.app. Empty: workers pull, and nothing calls /tick."
  type        = string
  default     = ""
}

variable "audience" {
  description = "Stem of the audiences of pushes and ticks, as in ops/cloudrun/service.yaml."
  type        = string
  default     = "https://mlfs.nba-props-platform.example"
}

variable "notification_channels" {
  description = "Where alerts go: projects/P/notificationChannels/ID."
  type        = list(string)
  default     = []
}
