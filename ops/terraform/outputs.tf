output "settings" {
  description = "Environment of a worker, beside MLFS_REDIS_URL: terraform output -json settings."
  value = {
    MLFS_WAREHOUSE                = "bigquery://${var.project}?location=${var.bigquery_location}"
    MLFS_PUBSUB                   = "google"
    MLFS_PUBSUB_PROJECT           = var.project
    MLFS_TOPIC                    = local.topics.completions
    MLFS_SUBSCRIPTION             = google_pubsub_subscription.worker.name
    MLFS_SUCCESS_TOPIC            = local.topics.success
    MLFS_FAILURE_TOPIC            = local.topics.failure
    MLFS_DEAD_LETTER_TOPIC        = local.topics.dead_letter
    MLFS_DEAD_LETTER_SUBSCRIPTION = google_pubsub_subscription.dead_letter.name
  }
}

output "accounts" {
  description = "E-mail addresses of the accounts; none has a key."
  value       = { for name, account in google_service_account.account : name => account.email }
}

output "redis_secrets" {
  description = "Names in Secret Manager of the address (with its password) and of the certificate authority."
  value       = sort(keys(google_secret_manager_secret.redis))
}

output "image" {
  description = "Where images are pushed; the tag is in ops/k8s/image/kustomization.yaml."
  value       = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.mlfs.repository_id}/worker"
}
