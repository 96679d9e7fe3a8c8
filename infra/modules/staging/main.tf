# Two buckets, because different identities write to them: code is written by the identity that runs
# Terraform, and is executed; work has Dataflow's files while it runs.

resource "google_storage_bucket" "code" {
  #checkov:skip=CKV_GCP_78:Archives and templates are named by their content and never get a second version.
  #checkov:skip=CKV_GCP_62:Only deployments write here, and Cloud Audit Logs record them.
  project                     = var.project
  name                        = "${var.name}-code"
  location                    = var.location
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy
  labels                      = var.labels

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 30
      matches_prefix = ["builds/"] # a build's sources are used once
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }
}

resource "google_storage_bucket" "work" {
  #checkov:skip=CKV_GCP_78:Nothing here is worth restoring: every launch writes it again.
  #checkov:skip=CKV_GCP_62:Only Dataflow writes here.
  project                     = var.project
  name                        = "${var.name}-work"
  location                    = var.location
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true # see above
  labels                      = var.labels

  soft_delete_policy {
    retention_duration_seconds = 0 # temporary files would cost money for a week longer
  }

  # Not staging/: a streaming job's new workers fetch their files there for as long as it runs.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 14
      matches_prefix = ["temp/"]
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 1
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }
}
