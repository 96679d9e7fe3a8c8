mock_provider "google" {}

variables {
  project  = "acme-segue-dev"
  name     = "acme-masters"
  location = "EU"
}

run "a_bucket_is_private_and_keeps_deleted_objects" {
  command = plan

  assert {
    condition     = google_storage_bucket.this[0].uniform_bucket_level_access && google_storage_bucket.this[0].public_access_prevention == "enforced" && !google_storage_bucket.this[0].force_destroy
    error_message = "The bucket must be private and protected from deletion."
  }
  assert {
    condition     = one(google_storage_bucket.this[0].soft_delete_policy).retention_duration_seconds == 2592000 && length(google_storage_bucket.this[0].versioning) == 0
    error_message = "Deleted objects must be restorable for 30 days, without versions, which would hide deletions."
  }
  assert {
    condition     = output.url == "gs://acme-masters" && output.location == "eu"
    error_message = "URL and location must be as Segue and Eventarc write them."
  }
}

run "an_existing_bucket_is_not_created" {
  command = plan
  variables {
    create = false
    prefix = "masters/2026"
  }

  assert {
    condition     = length(google_storage_bucket.this) == 0 && output.bucket == "acme-masters" && output.url == "gs://acme-masters/masters/2026"
    error_message = "An existing bucket must be used, not created."
  }
}

run "a_bucket_with_versions_reports_deletions_as_archived" {
  command = plan
  variables { versioned = true }

  assert {
    condition     = output.deletion_event == "google.cloud.storage.object.v1.archived" && one(google_storage_bucket.this[0].versioning).enabled
    error_message = "With versions, a deletion must be reported as archived."
  }
  assert {
    condition     = [for rule in google_storage_bucket.this[0].lifecycle_rule : one(rule.condition).days_since_noncurrent_time if one(rule.action).type == "Delete"] == [30]
    error_message = "Old versions must be deleted, too."
  }
}

run "a_url_is_refused_as_a_name" {
  command = plan
  variables { name = "gs://acme-masters" }
  expect_failures = [var.name]
}

run "a_prefix_with_a_slash_at_the_end_is_refused" {
  command = plan
  variables { prefix = "masters/" }
  expect_failures = [var.prefix]
}

run "soft_delete_for_a_day_is_refused" {
  command = plan
  variables { soft_delete_days = 1 }
  expect_failures = [var.soft_delete_days]
}
