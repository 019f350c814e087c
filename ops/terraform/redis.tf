# State, timers and outbox. Losing all of it costs repeated work and mlfs recover, never a second commit.
resource "google_redis_instance" "store" {
  name                    = "mlfs"
  region                  = var.region
  tier                    = "STANDARD_HA" # a replica in another zone
  memory_size_gb          = 1             # a season is a few megabytes
  redis_version           = "REDIS_7_2"
  authorized_network      = var.network
  reserved_ip_range       = var.redis_range
  auth_enabled            = true
  transit_encryption_mode = "SERVER_AUTHENTICATION"

  # The default of Memorystore is volatile-lru, which forgets dates without a word. A worker does not start on it.
  redis_configs = {
    "maxmemory-policy" = "noeviction"
  }

  persistence_config {
    persistence_mode    = "RDB"
    rdb_snapshot_period = "ONE_HOUR"
  }

  # Failovers of an update fall on a Tuesday noon, not into a night. Times are UTC.
  maintenance_policy {
    weekly_maintenance_window {
      day = "TUESDAY"
      start_time {
        hours   = 16
        minutes = 0
        seconds = 0
        nanos   = 0
      }
    }
  }

  lifecycle {
    prevent_destroy = true
  }

  depends_on = [google_project_service.api]
}

locals {
  redis_secrets = {
    "mlfs-redis-url" = "rediss://:${google_redis_instance.store.auth_string}@${google_redis_instance.store.host}:${google_redis_instance.store.port}/0?ssl_ca_certs=/etc/mlfs/redis/ca.pem"
    "mlfs-redis-ca"  = join("\n", google_redis_instance.store.server_ca_certs[*].cert)
  }
}

resource "google_secret_manager_secret" "redis" {
  for_each = toset(["mlfs-redis-url", "mlfs-redis-ca"])

  secret_id = each.value

  replication {
    auto {}
  }

  depends_on = [google_project_service.api]
}

resource "google_secret_manager_secret_version" "redis" {
  for_each = google_secret_manager_secret.redis

  secret      = each.value.id
  secret_data = local.redis_secrets[each.key]
}
