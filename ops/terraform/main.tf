# Names of everything, the accounts, and the grants of roles.yaml.
locals {
  table  = yamldecode(file("${path.module}/roles.yaml"))
  tables = jsondecode(file("${path.module}/tables.json"))
  views  = jsondecode(file("${path.module}/views.json"))
  pushes = var.push_endpoint != ""

  accounts = {
    worker    = "Runs mlfs"
    pusher    = "Signs Pub/Sub's pushes to mlfs-push"
    scheduler = "Calls /tick of mlfs-push"
  }

  # Who the principals of roles.yaml are. An account's address is known only after it is made, so it is never a key.
  principals = {
    worker       = ["serviceAccount:${google_service_account.account["worker"].email}"]
    pusher       = ["serviceAccount:${google_service_account.account["pusher"].email}"]
    scheduler    = ["serviceAccount:${google_service_account.account["scheduler"].email}"]
    pubsub_agent = ["serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"]
    upstream     = var.upstream_members
    phase5       = var.phase5_members
    deployer     = var.deployer_members
    gke_pod      = var.gke_pods
  }

  roles = merge(
    { for role in toset(local.table.roles[*].role) : role => role if !startswith(role, "custom/") },
    { for name, role in google_project_iam_custom_role.custom : "custom/${name}" => role.id },
  )

  grants = merge([
    for row in local.table.roles : merge([
      for name in lookup(row, "names", ["-"]) : {
        for index, member in local.principals[row.principal] :
        "${row.principal}[${index}] ${row.role} ${row.kind} ${name}" => {
          kind   = row.kind
          name   = name
          role   = local.roles[row.role]
          member = member
        }
      }
    ]...)
  ]...)
}

data "google_project" "this" {
  project_id = var.project

  # Without the resource manager's API the project cannot be read, nor a right on it be granted.
  depends_on = [google_project_service.api]
}

resource "google_project_service" "api" {
  for_each = toset([
    "artifactregistry.googleapis.com",
    "bigquery.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "cloudscheduler.googleapis.com",
    "iam.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "redis.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
  ])

  service            = each.value
  disable_on_destroy = false
}

resource "google_service_account" "account" {
  for_each = local.accounts

  account_id   = "mlfs-${each.key}"
  display_name = each.value

  depends_on = [google_project_service.api]
}

resource "google_artifact_registry_repository" "mlfs" {
  location      = var.region
  repository_id = "mlfs"
  format        = "DOCKER"
  description   = "Images of the feature-store worker."

  docker_config {
    immutable_tags = true
  }

  depends_on = [google_project_service.api]
}
