mock_provider "google" {}

variables {
  project  = "acme-segue-dev"
  name     = "acme-segue-dev-segue"
  location = "europe-west1"
}

run "code_and_work_are_separate" {
  command = plan

  assert {
    condition     = output.code_bucket == "acme-segue-dev-segue-code" && output.work_bucket == "acme-segue-dev-segue-work"
    error_message = "Code and temporary files must be in different buckets."
  }
  assert {
    condition     = alltrue([for bucket in [google_storage_bucket.code, google_storage_bucket.work] : bucket.uniform_bucket_level_access && bucket.public_access_prevention == "enforced"])
    error_message = "The buckets must be private."
  }
  assert {
    condition     = alltrue([for rule in google_storage_bucket.work.lifecycle_rule : one(rule.condition).matches_prefix == tolist(["temp/"]) if one(rule.action).type == "Delete"])
    error_message = "The staging files of a running job must be kept."
  }
  assert {
    condition     = one(google_storage_bucket.work.soft_delete_policy).retention_duration_seconds == 0
    error_message = "Temporary files must not cost money after their deletion."
  }
}

run "a_url_is_refused_as_a_name" {
  command = plan
  variables { name = "gs://acme" }
  expect_failures = [var.name]
}
