# Neither provider nor project was reachable where this was written: fmt and the tests of tests/integration/test_terraform.py
# are what it has seen. Run validate and plan, and read the plan, before the first apply. State holds the password of
# Redis: keep it in a bucket that few may read.
terraform {
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 6.0, < 8.0"
    }
  }

  # backend "gcs" { bucket = "…", prefix = "mlfs" }
}

provider "google" {
  project = var.project
  region  = var.region
}
