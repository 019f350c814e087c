# The worker's own tables, as `mlfs sql` declares them (tables.json is made from it). The worker would make what
# is missing; here it has no right to, so an upgrade that adds a column is applied here first.
resource "google_bigquery_dataset" "predictions" {
  count = var.create_predictions_dataset ? 1 : 0

  dataset_id = "nba_predictions"
  location   = var.bigquery_location

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.api]
}

resource "google_bigquery_dataset" "staging" {
  dataset_id                  = "mlfs_staging"
  location                    = var.bigquery_location
  description                 = "Attempts build here; nothing outlives a day."
  default_table_expiration_ms = 86400000
  delete_contents_on_destroy  = true

  depends_on = [google_project_service.api]
}

resource "google_bigquery_table" "own" {
  for_each = local.tables

  dataset_id          = "nba_predictions"
  table_id            = each.key
  description         = each.value.description
  schema              = jsonencode(each.value.schema)
  clustering          = each.value.clustering
  deletion_protection = true

  time_partitioning {
    type  = "DAY"
    field = each.value.partition
  }

  depends_on = [google_bigquery_dataset.predictions]
}
