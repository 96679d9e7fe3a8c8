mock_provider "google" {}

variables {
  project             = "acme-segue-dev"
  prefix              = "segue"
  persistence_regions = ["europe-west1"]
  topics = {
    source           = {}
    done-downsample  = { labels = { pipeline = "downsample" } }
    inbox-downsample = { labels = { pipeline = "downsample" } }
    inbox-tempo_map  = { labels = { pipeline = "tempo_map" } }
    dead             = {}
  }
  subscriptions = {
    "downsample.source"         = { topic = "source", labels = { pipeline = "downsample" } }
    "downsample.inbox"          = { topic = "inbox-downsample", labels = { pipeline = "downsample" } }
    "tempo_map.done-downsample" = { topic = "done-downsample", labels = { pipeline = "tempo_map" } }
    "tempo_map.inbox"           = { topic = "inbox-tempo_map", labels = { pipeline = "tempo_map" } }
    dead                        = { topic = "dead" }
  }
}

run "topics_and_subscriptions_have_the_names_of_the_graph" {
  command = plan

  assert {
    condition     = output.topics == { for name in keys(var.topics) : name => "segue-${name}" }
    error_message = "A topic must be called PREFIX-TOPIC, as shared/segue/adapters/pubsub.py calls it."
  }
  assert {
    condition     = output.subscriptions == { for name in keys(var.subscriptions) : name => "segue-${name}" }
    error_message = "A subscription must be called PREFIX-SUBSCRIPTION, as shared/segue/adapters/pubsub.py calls it."
  }
  assert {
    condition     = output.url == "pubsub://acme-segue-dev/segue"
    error_message = "The URL must name project and prefix."
  }
  assert {
    condition     = google_pubsub_topic.this["done-downsample"].labels == tomap({ pipeline = "downsample" }) && google_pubsub_subscription.this["tempo_map.done-downsample"].labels == tomap({ pipeline = "tempo_map" })
    error_message = "A topic must have the labels of the pipeline that publishes, a subscription those of the one that reads."
  }
  assert {
    condition     = alltrue([for topic in google_pubsub_topic.this : one(topic.message_storage_policy).allowed_persistence_regions == toset(["europe-west1"])])
    error_message = "Messages must stay in the given region."
  }
}

run "subscriptions_are_as_dataflow_needs_them" {
  command = plan

  assert {
    condition     = alltrue([for subscription in google_pubsub_subscription.this : length(subscription.dead_letter_policy) == 0 && length(subscription.retry_policy) == 0])
    error_message = "Dataflow supports neither dead-letter policies nor retry policies on a subscription that it reads."
  }
  assert {
    condition     = alltrue([for subscription in google_pubsub_subscription.this : !subscription.enable_exactly_once_delivery && subscription.ack_deadline_seconds == 600 && one(subscription.expiration_policy).ttl == ""])
    error_message = "A subscription must have a deadline of ten minutes, deliver at least once, and never expire."
  }
  assert {
    condition     = { for name, subscription in google_pubsub_subscription.this : name => subscription.message_retention_duration } == { for name in keys(var.subscriptions) : name => name == "dead" ? "2678400s" : "604800s" }
    error_message = "Messages must be kept for a week, and dead letters for 31 days."
  }
}

run "a_subscription_to_what_another_namespace_publishes_is_in_this_project" {
  command = plan
  variables {
    subscriptions = {
      "beats.platform.done-downsample" = { topic = "done-downsample", queue = "pubsub://acme-platform/audio" }
      "beats.scores.done-downsample"   = { topic = "done-downsample", queue = "pubsub://acme-scores" }
      "beats.charts.done-rank"         = { topic = "done-rank", queue = "pubsub://acme-charts/" }
    }
  }

  assert {
    condition = { for name, subscription in google_pubsub_subscription.this : "${subscription.project}/${subscription.name}" => subscription.topic } == {
      "acme-segue-dev/segue-beats.platform.done-downsample" = "projects/acme-platform/topics/audio-done-downsample"
      "acme-segue-dev/segue-beats.scores.done-downsample"   = "projects/acme-scores/topics/segue-done-downsample"
      "acme-segue-dev/segue-beats.charts.done-rank"         = "projects/acme-charts/topics/segue-done-rank"
    }
    error_message = "A subscription must be in the project of its reader, and attached to the topic of the namespace that publishes."
  }
}

run "what_is_published_in_a_file_cannot_be_subscribed_to" {
  command = plan
  variables { subscriptions = { "beats.platform.done-downsample" = { topic = "done-downsample", queue = "sqlite:////srv/queue.db" } } }
  expect_failures = [var.subscriptions]
}

run "a_subscription_to_a_missing_topic_is_refused" {
  command = plan
  variables { subscriptions = { "beats.inbox" = { topic = "inbox-beats" } } }
  expect_failures = [var.subscriptions]
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
