# The worker's own tables and views, as `mlfs sql` declares them (tables.json and views.json are made from it). The
# worker would make what is missing; here it has no right to, so an upgrade that adds a column is applied here first.
resource "google_bigquery_dataset" "predictions" {
  count = var.create_predictions_dataset ? 1 : 0

  dataset_id = "nba_predictions"
  location   = var.bigquery_location

  lifecycle {
    prevent_destroy = true
  }

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

# What consumers read: the rows that the ledger names. Whoever reads a view needs the tables below it as well.
resource "google_bigquery_table" "view" {
  for_each = local.views

  dataset_id          = "nba_predictions"
  table_id            = each.key
  description         = each.value.description
  deletion_protection = false # a view holds nothing

  view {
    query          = replace(each.value.query, "`project`", "`${var.project}`")
    use_legacy_sql = false
  }

  depends_on = [google_bigquery_table.own]
}
