mock_provider "google" {}

variables {
  project             = "acme-segue-dev"
  prefix              = "segue"
  persistence_regions = ["europe-west1"]
  pipelines = {
    downsample = { labels = { pipeline = "downsample" } }
    tempo_map  = {}
  }
}

run "a_pipeline_has_two_lanes_and_a_place_for_its_dead_letters" {
  command = plan

  assert {
    condition     = toset([for topic in google_pubsub_topic.lane : topic.name]) == toset(["segue-downsample-live", "segue-downsample-requests", "segue-tempo_map-live", "segue-tempo_map-requests"])
    error_message = "Topics must be called PREFIX-PIPELINE-LANE, as in shared/segue/model/queue.py."
  }
  assert {
    condition     = alltrue([for key, subscription in google_pubsub_subscription.lane : subscription.name == google_pubsub_topic.lane[key].name])
    error_message = "A subscription must have its topic's name."
  }
  assert {
    condition     = toset([for topic in google_pubsub_topic.dead : topic.name]) == toset(["segue-downsample-dead", "segue-tempo_map-dead"])
    error_message = "Dead-letter topics must be called PREFIX-PIPELINE-dead."
  }
  assert {
    condition     = output.url == "pubsub://acme-segue-dev/segue"
    error_message = "The URL must name project and prefix."
  }
  assert {
    condition     = google_pubsub_topic.lane["downsample-live"].labels == tomap({ pipeline = "downsample", lane = "live" })
    error_message = "A topic must have the labels of its pipeline, and its lane."
  }
  assert {
    condition     = alltrue([for topic in concat(values(google_pubsub_topic.lane), values(google_pubsub_topic.dead)) : one(topic.message_storage_policy).allowed_persistence_regions == toset(["europe-west1"])])
    error_message = "Messages must stay in the given region."
  }
}

run "subscriptions_are_as_dataflow_needs_them" {
  command = plan

  assert {
    condition     = alltrue([for subscription in google_pubsub_subscription.lane : length(subscription.dead_letter_policy) == 0 && length(subscription.retry_policy) == 0])
    error_message = "Dataflow supports neither dead-letter policies nor retry policies on a subscription that it reads."
  }
  assert {
    condition     = alltrue([for subscription in google_pubsub_subscription.lane : !subscription.enable_exactly_once_delivery && subscription.ack_deadline_seconds == 600 && subscription.message_retention_duration == "604800s"])
    error_message = "Messages must be kept for a week, with a deadline of ten minutes and delivery at least once."
  }
  assert {
    condition     = alltrue([for subscription in concat(values(google_pubsub_subscription.lane), values(google_pubsub_subscription.dead)) : one(subscription.expiration_policy).ttl == ""])
    error_message = "A subscription must never expire."
  }
  assert {
    condition     = alltrue([for subscription in google_pubsub_subscription.dead : subscription.message_retention_duration == "2678400s"])
    error_message = "Dead letters must be kept for 31 days."
  }
}

run "messages_are_not_kept_for_longer_than_a_month" {
  command = plan
  variables { retention_days = 32 }
  expect_failures = [var.retention_days]
}

run "dead_letters_are_kept_for_a_day_at_least" {
  command = plan
  variables { dead_retention_days = 0 }
  expect_failures = [var.dead_retention_days]
}
