mock_provider "google" {}

variables {
  project  = "acme-segue-dev"
  name     = "acme-features"
  location = "europe-west1"
}

run "a_bucket_is_private_and_cleans_up" {
  command = plan

  assert {
    condition     = google_storage_bucket.this.uniform_bucket_level_access && google_storage_bucket.this.public_access_prevention == "enforced" && !google_storage_bucket.this.force_destroy && length(google_storage_bucket.this.versioning) == 0
    error_message = "The bucket must be private, protected from deletion, and without versions."
  }
  assert {
    condition = [for rule in google_storage_bucket.this.lifecycle_rule : "${one(rule.action).type} ${one(rule.condition).age} ${join(",", coalesce(one(rule.condition).matches_prefix, []))}"] == [
      "AbortIncompleteMultipartUpload 1 ", "Delete 365 _runs/",
    ]
    error_message = "Only incomplete uploads and old records of runs may be deleted, never a result."
  }
  assert {
    condition     = output.url == "gs://acme-features"
    error_message = "The URL must be as Segue writes it."
  }
}

run "a_url_is_refused_as_a_name" {
  command = plan
  variables { name = "gs://acme-features" }
  expect_failures = [var.name]
}

run "soft_delete_for_a_day_is_refused" {
  command = plan
  variables { soft_delete_days = 1 }
  expect_failures = [var.soft_delete_days]
}

run "records_of_runs_are_kept_for_a_day_at_least" {
  command = plan
  variables { runs_kept_days = 0 }
  expect_failures = [var.runs_kept_days]
}
