mock_provider "google" {
  override_during = plan
  mock_resource "google_eventarc_trigger" {
    defaults = { uid = "1", transport = { pubsub = { subscription = "projects/acme-segue-dev/subscriptions/eventarc-1" } } }
  }
}

variables {
  project         = "acme-segue-dev"
  region          = "europe-west1"
  prefix          = "segue"
  name            = "arrival"
  archive         = "./main.tf" # any file will do
  code_bucket     = "code"
  builder         = "segue-builder@acme-segue-dev.iam.gserviceaccount.com"
  repository      = "projects/acme-segue-dev/locations/europe-west1/repositories/segue-functions"
  environment     = { SEGUE_GRAPH = "jobs.yaml" }
  ledger_database = "segue"
  publishes_to    = { source = "segue-source" }
  trigger = {
    type     = "google.cloud.storage.object.v1.finalized"
    location = "eu"
    bucket   = "masters"
  }
  pubsub_agent_member = "serviceAccount:service-1@gcp-sa-pubsub.iam.gserviceaccount.com"
}

run "an_event_calls_it_as_its_own_identity" {
  command = plan

  assert {
    condition     = google_cloudfunctions2_function.this.name == "segue-arrival" && one(google_cloudfunctions2_function.this.build_config).entry_point == "arrival" && one(google_cloudfunctions2_function.this.build_config).runtime == "python311"
    error_message = "The entry point is the function's own name."
  }
  assert {
    condition     = one(google_cloudfunctions2_function.this.service_config).ingress_settings == "ALLOW_INTERNAL_ONLY"
    error_message = "Ingress must be internal."
  }
  assert {
    condition     = one(google_cloudfunctions2_function.this.service_config).environment_variables == tomap({ SEGUE_GRAPH = "jobs.yaml", THREADS = "1" })
    error_message = "There must be a thread for each concurrent request of an instance."
  }
  assert {
    condition     = google_eventarc_trigger.this[0].location == "eu" && toset([for criterion in google_eventarc_trigger.this[0].matching_criteria : "${criterion.attribute}=${criterion.value}"]) == toset(["type=google.cloud.storage.object.v1.finalized", "bucket=masters"])
    error_message = "The trigger must be in the bucket's location, and for that bucket only."
  }
  assert {
    condition     = length(google_eventarc_trigger.this[0].retry_policy) == 0
    error_message = "There must be no retry policy, so that Eventarc retries."
  }
  assert {
    condition     = google_service_account.this.account_id == "segue-fn-arrival"
    error_message = "The identity must be called PREFIX-fn-NAME."
  }
}

run "its_identity_may_do_what_its_code_does" {
  command = plan

  assert {
    condition     = google_project_iam_member.ledger.role == "roles/datastore.user" && google_project_iam_member.ledger.member == "serviceAccount:segue-fn-arrival@acme-segue-dev.iam.gserviceaccount.com" && one(google_project_iam_member.ledger.condition).expression == "resource.name == \"projects/acme-segue-dev/databases/segue\""
    error_message = "It must be able to use the ledger's database only."
  }
  assert {
    condition     = { for key, member in google_pubsub_topic_iam_member.publisher : key => member.topic } == { source = "segue-source" }
    error_message = "It must be able to publish to the given topics."
  }
  assert {
    condition     = google_project_iam_member.events[0].role == "roles/eventarc.eventReceiver" && google_cloud_run_v2_service_iam_member.trigger[0].role == "roles/run.invoker"
    error_message = "Eventarc delivers as the function's identity, which must be able to call it."
  }
  assert {
    condition     = length(google_cloud_run_v2_service_iam_member.invoker) == 0 && length(google_storage_bucket_iam_member.object) == 0
    error_message = "Nothing else may call it, and it may access no objects."
  }
}

run "a_failed_event_is_dead_lettered" {
  command = plan

  assert {
    condition     = google_pubsub_topic.dead[0].name == "segue-function-arrival-dead" && google_pubsub_subscription.dead[0].name == "segue-function-arrival-dead" && google_pubsub_subscription.dead[0].message_retention_duration == "2678400s" && one(google_pubsub_subscription.dead[0].expiration_policy).ttl == ""
    error_message = "Dead letters must be kept for 31 days, by a subscription that never expires."
  }
  assert {
    condition     = google_pubsub_topic_iam_member.dead[0].role == "roles/pubsub.publisher" && google_pubsub_topic_iam_member.dead[0].member == "serviceAccount:service-1@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "Pub/Sub's agent must be able to publish dead letters."
  }
  assert {
    condition     = google_pubsub_subscription_iam_member.transport[0].role == "roles/pubsub.subscriber" && google_pubsub_subscription_iam_member.transport[0].member == "serviceAccount:service-1@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "Pub/Sub's agent must be able to acknowledge dead-lettered events."
  }
  assert {
    condition     = terraform_data.transport[0].triggers_replace.retries.attempts == 100
    error_message = "The command must run again when the settings change."
  }
}

run "a_schedule_calls_it_through_a_topic" {
  command = plan
  variables {
    name = "sweep"
    trigger = {
      type     = "google.cloud.pubsub.topic.v1.messagePublished"
      location = "europe-west1"
      topic    = "projects/acme-segue-dev/topics/segue-sweep"
    }
  }

  assert {
    condition     = one(one(google_eventarc_trigger.this[0].transport).pubsub).topic == "projects/acme-segue-dev/topics/segue-sweep"
    error_message = "The schedule's topic must carry the event."
  }
  assert {
    condition     = google_pubsub_subscription_iam_member.transport[0].subscription == "projects/acme-segue-dev/subscriptions/eventarc-1" && terraform_data.transport[0].triggers_replace.subscription == "projects/acme-segue-dev/subscriptions/eventarc-1"
    error_message = "The trigger's own subscription must have the dead-letter policy."
  }
  assert {
    condition     = length(google_project_iam_member.events) == 0
    error_message = "An event from a topic needs no eventReceiver."
  }
}

run "a_person_calls_it_over_http" {
  command = plan
  variables {
    name                = "request"
    trigger             = null
    pubsub_agent_member = null
    ingress             = "ALLOW_INTERNAL_AND_GCLB"
    invokers            = ["group:curators@example.com"]
    bucket_roles = {
      write = { bucket = "features", role = "roles/storage.objectCreator", prefix = "_runs/" }
      read  = { bucket = "masters", role = "roles/storage.objectViewer" }
    }
  }

  assert {
    condition     = length(google_eventarc_trigger.this) + length(google_pubsub_topic.dead) + length(google_pubsub_subscription.dead) + length(terraform_data.transport) + length(google_cloud_run_v2_service_iam_member.trigger) == 0
    error_message = "A function without events needs no dead letters."
  }
  assert {
    condition     = google_cloud_run_v2_service_iam_member.invoker["group:curators@example.com"].role == "roles/run.invoker"
    error_message = "The named members must be able to call it."
  }
  assert {
    condition     = one(google_storage_bucket_iam_member.object["write"].condition).expression == "resource.name == \"projects/_/buckets/features\" || resource.name.startsWith(\"projects/_/buckets/features/objects/_runs/\")" && length(google_storage_bucket_iam_member.object["read"].condition) == 0
    error_message = "A prefix must limit a role to the names below it."
  }
}

run "another_archive_is_another_object" {
  command = plan

  assert {
    condition     = google_storage_bucket_object.archive.name == "functions/arrival-${substr(filesha256("./main.tf"), 0, 16)}.zip"
    error_message = "An archive must be named by its content."
  }
}

run "a_long_name_is_refused" {
  command = plan
  variables { name = "reconciliation" }
  expect_failures = [var.name]
}

run "a_missing_archive_is_refused" {
  command = plan
  variables { archive = "./no-such.zip" }
  expect_failures = [var.archive]
}

run "an_unknown_setting_is_refused" {
  command = plan
  variables { environment = { DATABASE_PASSWORD = "x" } }
  expect_failures = [var.environment]
}

run "memory_without_a_unit_is_refused" {
  command = plan
  variables { memory = "512" }
  expect_failures = [var.memory]
}

run "no_concurrency_is_refused" {
  command = plan
  variables { concurrency = 0 }
  expect_failures = [var.concurrency]
}

run "half_an_instance_is_refused" {
  command = plan
  variables { min_instances = 0.5 }
  expect_failures = [var.min_instances]
}

run "fewer_instances_at_most_than_at_least_is_refused" {
  command = plan
  variables {
    min_instances = 3
    max_instances = 2
  }
  expect_failures = [var.max_instances]
}

run "an_hour_is_refused" {
  command = plan
  variables { timeout_s = 3600 }
  expect_failures = [var.timeout_s]
}

run "an_unknown_ingress_is_refused" {
  command = plan
  variables { ingress = "INTERNAL" }
  expect_failures = [var.ingress]
}

run "an_event_from_nowhere_is_refused" {
  command = plan
  variables { trigger = { type = "google.cloud.storage.object.v1.finalized", location = "eu" } }
  expect_failures = [var.trigger]
}

run "an_event_without_an_agent_for_dead_letters_is_refused" {
  command = plan
  variables { pubsub_agent_member = null }
  expect_failures = [var.pubsub_agent_member]
}

run "a_role_over_whole_buckets_is_refused" {
  command = plan
  variables { bucket_roles = { all = { bucket = "masters", role = "roles/storage.admin" } } }
  expect_failures = [var.bucket_roles]
}

run "a_condition_on_a_long_prefix_has_a_short_title" {
  command = plan
  variables { bucket_roles = { read = { bucket = "masters", role = "roles/storage.objectViewer", prefix = "${join("", [for _ in range(20) : "music-2026"])}/" } } }

  assert {
    condition     = length(one(google_storage_bucket_iam_member.object["read"].condition).title) <= 100
    error_message = "IAM refuses a title of more than 100 characters."
  }
}

run "a_prefix_without_a_slash_is_refused" {
  command = plan
  variables { bucket_roles = { read = { bucket = "masters", role = "roles/storage.objectViewer", prefix = "music" } } }
  expect_failures = [var.bucket_roles]
}

run "the_public_is_refused" {
  command = plan
  variables { invokers = ["allUsers"] }
  expect_failures = [var.invokers]
}

run "an_invoker_who_is_not_a_member_is_refused" {
  command = plan
  variables { invokers = ["curators@example.com"] }
  expect_failures = [var.invokers]
}
