mock_provider "google" {}

variables {
  project = "acme-segue-dev"
  region  = "europe-west1"
  prefix  = "segue"
  cron    = "*/5 * * * *"
}

run "the_schedule_publishes_a_message" {
  command = plan

  assert {
    condition     = google_pubsub_topic.this.name == "segue-sweep" && output.topic_name == "segue-sweep"
    error_message = "The topic must be called PREFIX-sweep."
  }
  assert {
    condition     = google_cloud_scheduler_job.this.schedule == "*/5 * * * *" && google_cloud_scheduler_job.this.time_zone == "Etc/UTC" && one(google_cloud_scheduler_job.this.pubsub_target).data == base64encode("{}")
    error_message = "The schedule must be as configured, and its message not empty, which Pub/Sub would refuse."
  }
}

run "a_schedule_of_four_fields_is_refused" {
  command = plan
  variables { cron = "*/5 * * *" }
  expect_failures = [var.cron]
}
