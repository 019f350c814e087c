# Topics and subscriptions by the names of docs/settings.md.
locals {
  topics = {
    completions = "phase4-processor-success"
    success     = "ml-feature-store-success"
    failure     = "ml-feature-store-failure"
    dead_letter = "phase4-processor-success-dlq"
  }

  subscriptions = {
    worker      = google_pubsub_subscription.worker
    dead_letter = google_pubsub_subscription.dead_letter
    phase5      = google_pubsub_subscription.phase5
    oncall      = google_pubsub_subscription.oncall
  }
}

# Retention on the topic is the second copy: whoever may read a subscription may also seek it to its end.
resource "google_pubsub_topic" "topic" {
  for_each = local.topics

  name                       = each.value
  message_retention_duration = "2678400s" # 31 days, the most there is

  depends_on = [google_project_service.api]
}

# No filter: what does not belong here is refused with a reason, and seen. No order and no exactly-once: a completion
# is known by its run, so order and repeats change nothing, and a stuck key would hold a date up.
resource "google_pubsub_subscription" "worker" {
  name                         = "ml-feature-store-worker"
  topic                        = google_pubsub_topic.topic["completions"].id
  ack_deadline_seconds         = 60
  message_retention_duration   = "604800s" # 7 days
  retain_acked_messages        = true      # mlfs recover turns it back
  enable_message_ordering      = false
  enable_exactly_once_delivery = false

  expiration_policy {
    ttl = "" # never: the off-season is longer than the 31 days of the default
  }

  # The default is at once: a store that is away would burn every attempt in seconds.
  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  # What a worker refuses it parks itself; this is for what kills workers. Pauses grow to ten minutes, so it takes hours.
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.topic["dead_letter"].id
    max_delivery_attempts = 20
  }

  dynamic "push_config" {
    for_each = local.pushes ? [var.push_endpoint] : []

    content {
      push_endpoint = "${push_config.value}/pubsub/push"

      oidc_token {
        service_account_email = google_service_account.account["pusher"].email
        audience              = "${var.audience}/push"
      }
    }
  }
}

# Without it a dead letter is gone at once. No retry policy, no dead-letter policy: people look into it with mlfs dlq.
resource "google_pubsub_subscription" "dead_letter" {
  name                       = "phase4-processor-success-dlq-parked"
  topic                      = google_pubsub_topic.topic["dead_letter"].id
  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}

# Ordered by date: done must not overtake the degraded that it supersedes.
resource "google_pubsub_subscription" "phase5" {
  name                       = "ml-feature-store-success-phase5"
  topic                      = google_pubsub_topic.topic["success"].id
  ack_deadline_seconds       = 60
  message_retention_duration = "604800s"
  enable_message_ordering    = true

  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }
}

# A failure that nobody subscribes to is lost.
resource "google_pubsub_subscription" "oncall" {
  name                       = "ml-feature-store-failure-oncall"
  topic                      = google_pubsub_topic.topic["failure"].id
  ack_deadline_seconds       = 60
  message_retention_duration = "604800s"

  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }
}

# Every minute around the deadline; a push service does nothing by itself. Pull workers need none.
resource "google_cloud_scheduler_job" "tick" {
  count = local.pushes ? 1 : 0

  name             = "mlfs-tick"
  region           = var.region
  schedule         = "* 22,23,0 * * *"
  time_zone        = "America/New_York"
  attempt_deadline = "150s"

  retry_config {
    retry_count = 0 # the next minute is the next try
  }

  http_target {
    http_method = "POST"
    uri         = "${var.push_endpoint}/tick"

    oidc_token {
      service_account_email = google_service_account.account["scheduler"].email
      audience              = "${var.audience}/tick"
    }
  }

  depends_on = [google_project_service.api]
}
