# What only Google can see: the worker may be the thing that is dead. Everything else is in ops/prometheus.
locals {
  # Where docs/ is served: docs.json is made from pyproject.toml (make manifests).
  docs_url = jsondecode(file("${path.module}/docs.json")).docs_url

  backlog = {
    oldest_unacked = {
      title        = "A completion has been waiting for five minutes"
      metric       = "oldest_unacked_message_age"
      subscription = google_pubsub_subscription.worker.name
      threshold    = 300
      duration     = "300s"
      aligner      = "ALIGN_MAX"
      severity     = "CRITICAL"
      what_to_do   = "Does a worker run, and is its stream open? mlfs status; then ${local.docs_url}/runbook.md#mlfsstreamdown. Where workers run at night only, silence this by day."
    }
    undelivered = {
      title        = "More completions wait than ten nights bring"
      metric       = "num_undelivered_messages"
      subscription = google_pubsub_subscription.worker.name
      threshold    = 40
      duration     = "600s"
      aligner      = "ALIGN_MAX"
      severity     = "WARNING"
      what_to_do   = "A processor repeats itself, or no worker reads. mlfs status; then ${local.docs_url}/runbook.md#mlfsstreamdown"
    }
    forwarded = {
      title        = "Pub/Sub gave a completion up"
      metric       = "dead_letter_message_count"
      subscription = google_pubsub_subscription.worker.name
      threshold    = 0
      duration     = "0s"
      aligner      = "ALIGN_DELTA"
      severity     = "ERROR"
      what_to_do   = "No worker could store it in twenty tries. mlfs dlq list; then ${local.docs_url}/runbook.md#mlfsdeadletters"
    }
    parked = {
      title        = "Dead letters are parked"
      metric       = "num_undelivered_messages"
      subscription = google_pubsub_subscription.dead_letter.name
      threshold    = 0
      duration     = "300s"
      aligner      = "ALIGN_MAX"
      severity     = "WARNING"
      what_to_do   = "mlfs dlq list shows why each was refused; once its sender is repaired, mlfs dlq redrive. After 31 days they are gone."
    }
  }
}

resource "google_monitoring_alert_policy" "backlog" {
  for_each = local.backlog

  display_name          = "mlfs: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = var.notification_channels

  conditions {
    display_name = each.value.metric

    condition_threshold {
      filter          = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${each.value.subscription}\" AND metric.type = \"pubsub.googleapis.com/subscription/${each.value.metric}\""
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = each.value.duration

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = each.value.aligner
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = each.value.what_to_do
  }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "redis_memory" {
  display_name          = "mlfs: the state store is nearly full"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = var.notification_channels

  conditions {
    display_name = "memory usage ratio"

    condition_threshold {
      filter          = "resource.type = \"redis_instance\" AND resource.labels.instance_id = \"${google_redis_instance.store.id}\" AND metric.type = \"redis.googleapis.com/stats/memory/usage_ratio\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0.8
      duration        = "300s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "It evicts nothing: once full it refuses every commit. Lower MLFS_KEEP_FINISHED_DAYS, or give it more memory."
  }

  depends_on = [google_project_service.api]
}
