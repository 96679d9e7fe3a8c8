mock_provider "google" {
  mock_data "google_storage_project_service_account" {
    defaults = { email_address = "service-2@gs-project-accounts.iam.gserviceaccount.com" }
  }
}

variables {
  project     = "acme-segue-dev"
  region      = "europe-west1"
  name_prefix = "segue"
  name        = "acme-masters"
  location    = "EU"
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
    condition     = output.url == "gs://acme-masters" && output.triggers.arrival == { type = "google.cloud.storage.object.v1.finalized", location = "eu", bucket = "acme-masters", topic = null }
    error_message = "URL and location must be as Segue and Eventarc write them."
  }
  assert {
    condition     = output.triggers.deletion.type == "google.cloud.storage.object.v1.deleted" && length(google_storage_notification.notification) == 0
    error_message = "A bucket of this project must be watched by Eventarc itself."
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
    condition     = output.triggers.deletion.type == "google.cloud.storage.object.v1.archived" && one(google_storage_bucket.this[0].versioning).enabled
    error_message = "With versions, a deletion must be reported as archived."
  }
  assert {
    condition     = [for rule in google_storage_bucket.this[0].lifecycle_rule : one(rule.condition).days_since_noncurrent_time if one(rule.action).type == "Delete"] == [30]
    error_message = "Old versions must be deleted, too."
  }
}

run "a_bucket_of_another_project_notifies_topics" {
  command = plan
  variables {
    create         = false
    bucket_project = "acme-media"
    prefix         = "masters"
  }

  assert {
    condition     = { for function, topic in google_pubsub_topic.notification : function => "${topic.project}/${topic.name}" } == { arrival = "acme-segue-dev/segue-catalogue-arrival", deletion = "acme-segue-dev/segue-catalogue-deletion" }
    error_message = "Each function must have a topic of its own in Segue's project."
  }
  assert {
    condition     = { for function, notification in google_storage_notification.notification : function => one(notification.event_types) } == { arrival = "OBJECT_FINALIZE", deletion = "OBJECT_DELETE" }
    error_message = "Each topic must get the events of its function only."
  }
  assert {
    condition     = alltrue([for notification in google_storage_notification.notification : notification.bucket == "acme-masters" && notification.payload_format == "JSON_API_V1" && notification.object_name_prefix == "masters/"])
    error_message = "A notification must describe the object, and be sent only for objects below the prefix."
  }
  assert {
    condition     = alltrue([for member in google_pubsub_topic_iam_member.notification : member.role == "roles/pubsub.publisher" && member.member == "serviceAccount:service-2@gs-project-accounts.iam.gserviceaccount.com"])
    error_message = "Cloud Storage's agent of the other project must be able to publish."
  }
  assert {
    condition     = output.triggers.arrival.type == "google.cloud.pubsub.topic.v1.messagePublished" && output.triggers.arrival.location == "europe-west1" && output.triggers.arrival.bucket == null
    error_message = "The trigger must be on the topic, in Segue's region."
  }
}

run "a_bucket_with_versions_of_another_project_reports_what_it_archives" {
  command = plan
  variables {
    create         = false
    bucket_project = "acme-media"
    versioned      = true
  }

  assert {
    condition     = one(google_storage_notification.notification["deletion"].event_types) == "OBJECT_ARCHIVE" && google_storage_notification.notification["deletion"].object_name_prefix == null
    error_message = "With versions, a deletion must be reported as archived."
  }
}

run "a_bucket_is_not_created_in_another_project" {
  command = plan
  variables { bucket_project = "acme-media" }
  expect_failures = [var.bucket_project]
}

run "a_url_is_refused_as_a_name" {
  command = plan
  variables { name = "gs://acme-masters" }
  expect_failures = [var.name]
}

run "a_prefix_that_would_end_the_string_of_a_condition_is_refused" {
  command = plan
  variables { prefix = "music\" || true || \"" }
  expect_failures = [var.prefix]
}

run "a_prefix_with_a_backslash_is_refused" {
  command = plan
  variables { prefix = "music\\2026" }
  expect_failures = [var.prefix]
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
