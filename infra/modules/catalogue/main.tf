# The source media: a bucket that is created here, or an existing one that is only read.

locals {
  bucket       = var.create ? google_storage_bucket.this[0].name : var.name
  is_elsewhere = var.bucket_project != null && var.bucket_project != var.project

  # Function → what triggers it, as Eventarc and as a bucket's notifications call it.
  events = {
    arrival  = { eventarc = "finalized", notification = "OBJECT_FINALIZE" }
    deletion = var.versioned ? { eventarc = "archived", notification = "OBJECT_ARCHIVE" } : { eventarc = "deleted", notification = "OBJECT_DELETE" }
  }
}

resource "google_storage_bucket" "this" {
  #checkov:skip=CKV_GCP_78:Versions are optional (versioned); soft delete restores accidental deletions, and expires by itself.
  #checkov:skip=CKV_GCP_62:Cloud Audit Logs record reads; usage logs would be a second bucket with the same information.
  count = var.create ? 1 : 0

  project                     = var.project
  name                        = var.name
  location                    = var.location
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy
  labels                      = var.labels

  soft_delete_policy {
    retention_duration_seconds = var.soft_delete_days * 86400
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  dynamic "versioning" {
    for_each = var.versioned ? [true] : []
    content {
      enabled = true
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.versioned ? [true] : []
    content {
      action {
        type = "Delete"
      }
      condition {
        days_since_noncurrent_time = 30
        with_state                 = "ARCHIVED"
      }
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }
}
