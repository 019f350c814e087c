# Additive grants: what others have granted on the same resources stays. One block for each kind of resource in roles.yaml.
resource "google_project_iam_custom_role" "custom" {
  for_each = local.table.custom_roles

  role_id     = each.key
  title       = each.value.title
  permissions = each.value.permissions

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "grant" {
  for_each = { for key, grant in local.grants : key => grant if grant.kind == "project" }

  project = var.project
  role    = each.value.role
  member  = each.value.member
}

resource "google_bigquery_dataset_iam_member" "grant" {
  for_each = { for key, grant in local.grants : key => grant if grant.kind == "dataset" }

  dataset_id = each.value.name
  role       = each.value.role
  member     = each.value.member
}

resource "google_bigquery_table_iam_member" "grant" {
  for_each = { for key, grant in local.grants : key => grant if grant.kind == "table" }

  dataset_id = merge(google_bigquery_table.own, google_bigquery_table.view)[each.value.name].dataset_id
  table_id   = merge(google_bigquery_table.own, google_bigquery_table.view)[each.value.name].table_id
  role       = each.value.role
  member     = each.value.member
}

resource "google_pubsub_topic_iam_member" "grant" {
  for_each = { for key, grant in local.grants : key => grant if grant.kind == "topic" }

  topic  = google_pubsub_topic.topic[each.value.name].id
  role   = each.value.role
  member = each.value.member
}

resource "google_pubsub_subscription_iam_member" "grant" {
  for_each = { for key, grant in local.grants : key => grant if grant.kind == "subscription" }

  subscription = local.subscriptions[each.value.name].name
  role         = each.value.role
  member       = each.value.member
}

resource "google_secret_manager_secret_iam_member" "grant" {
  for_each = { for key, grant in local.grants : key => grant if grant.kind == "secret" }

  secret_id = google_secret_manager_secret.redis[each.value.name].id
  role      = each.value.role
  member    = each.value.member
}

resource "google_service_account_iam_member" "grant" {
  for_each = { for key, grant in local.grants : key => grant if grant.kind == "service_account" }

  service_account_id = google_service_account.account[each.value.name].name
  role               = each.value.role
  member             = each.value.member
}

resource "google_artifact_registry_repository_iam_member" "grant" {
  for_each = { for key, grant in local.grants : key => grant if grant.kind == "repository" }

  location   = var.region
  repository = google_artifact_registry_repository.mlfs.name
  role       = each.value.role
  member     = each.value.member
}

# The service is deployed from ops/cloudrun, after the first apply; its address switches these on.
resource "google_cloud_run_v2_service_iam_member" "grant" {
  for_each = { for key, grant in local.grants : key => grant if grant.kind == "run_service" && local.pushes }

  location = var.region
  name     = each.value.name
  role     = each.value.role
  member   = each.value.member
}
