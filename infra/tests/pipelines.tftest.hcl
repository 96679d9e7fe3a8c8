# Jobs that are grouped in pipelines, and the pipelines' workers.

mock_provider "google" {
  mock_data "google_storage_project_service_account" {
    defaults = { email_address = "service-1@gs-project-accounts.iam.gserviceaccount.com" }
  }
}
mock_provider "google-beta" {}

variables {
  project      = "acme-segue-dev"
  region       = "europe-west1"
  environment  = "dev"
  archives_dir = "tests/grouped"
  graph        = "tests/grouped/jobs.yaml"
  image        = "europe-west1-docker.pkg.dev/acme/segue/segue@sha256:0123456789012345678901234567890123456789012345678901234567890123"
}

run "jobs_of_a_group_share_a_pipeline_with_its_topics_and_identity" {
  command = plan

  assert {
    condition = output.pipelines == {
      media    = { jobs = tolist(["downsample", "loudness"]), dataflow_job = "segue-job-media" }
      rhythm   = { jobs = tolist(["beats", "tempo"]), dataflow_job = "segue-job-rhythm" }
      models   = { jobs = tolist(["energy", "speech"]), dataflow_job = "segue-job-models" }
      spectrum = { jobs = tolist(["spectrum"]), dataflow_job = "segue-job-spectrum" }
    }
    error_message = "There must be one pipeline per group, and one for each other job."
  }
  assert {
    condition     = keys(output.queue.topics) == ["dead", "done-beats", "done-downsample", "inbox-media", "inbox-models", "inbox-rhythm", "inbox-spectrum", "source"]
    error_message = "There must be a topic per pipeline, and one per job that starts jobs of other pipelines."
  }
  assert {
    condition = { for name, roles in output.roles : name => [for role in roles : role if strcontains(role, "secret")] if length([for role in roles : role if strcontains(role, "secret")]) > 0 } == {
      "backfill"        = ["roles/secretmanager.secretAccessor on secrets/acme-keys/speech"]
      "pipeline/models" = ["roles/secretmanager.secretAccessor on secrets/acme-keys/speech"]
    }
    error_message = "A pipeline must read the secrets that its jobs name in Secret Manager, and no others."
  }
  assert {
    condition     = contains(local.services, "secretmanager.googleapis.com")
    error_message = "A graph with secrets needs Secret Manager's API."
  }
  assert {
    condition     = local.topic_labels["done-beats"] == local.pipeline_labels["rhythm"]
    error_message = "A topic of what a job has finished must be labelled with the job's pipeline."
  }
  assert {
    condition     = [for role in output.roles["function/arrival"] : role if strcontains(role, "pubsub")] == ["roles/pubsub.publisher on topics/segue-source"]
    error_message = "An arrival must be published once, whatever reads it."
  }
  assert {
    condition = toset([for role in output.roles["pipeline/rhythm"] : role if can(regex("pubsub|artifacts/", role))]) == toset([
      "roles/pubsub.publisher on topics/segue-dead",
      "roles/pubsub.publisher on topics/segue-done-beats",
      "roles/pubsub.publisher on topics/segue-inbox-media",
      "roles/pubsub.publisher on topics/segue-inbox-models",
      "roles/pubsub.publisher on topics/segue-inbox-rhythm",
      "roles/pubsub.subscriber on subscriptions/segue-rhythm.done-downsample",
      "roles/pubsub.subscriber on subscriptions/segue-rhythm.inbox",
      "roles/pubsub.viewer on subscriptions/segue-rhythm.done-downsample",
      "roles/pubsub.viewer on subscriptions/segue-rhythm.inbox",
      "roles/storage.objectUser on buckets/acme-segue-dev-segue-artifacts/beats/*",
      "roles/storage.objectUser on buckets/acme-segue-dev-segue-artifacts/tempo/*",
      "roles/storage.objectViewer on buckets/acme-segue-dev-segue-artifacts/downsample/*",
    ])
    error_message = "A pipeline must publish what its jobs finish, send requests to those that share a line with it, write results of its own jobs, and read those of other pipelines that its jobs need."
  }
}

run "a_group_has_the_workers_that_its_largest_job_needs" {
  command = plan

  assert {
    condition     = local.pipeline_machine == { media = "n2-standard-2", rhythm = "n2-highmem-2", models = "g2-standard-4", spectrum = "n2-standard-2" }
    error_message = "A group must have the memory and the GPU of its largest job."
  }
}

run "a_group_is_labelled_with_the_owner_that_its_jobs_have_in_common" {
  command = plan

  assert {
    condition     = { for name, labels in local.pipeline_labels : name => labels.team } == { media = "platform", rhythm = "rhythm", models = "platform", spectrum = "platform" }
    error_message = "Without a common owner, a pipeline must have the environment's team."
  }
  assert {
    condition     = local.pipeline_labels["rhythm"] == { app = "segue", environment = "dev", team = "rhythm", pipeline = "rhythm" }
    error_message = "A pipeline's resources must be labelled with its name."
  }
}

run "each_pipeline_can_have_other_workers" {
  command = plan
  variables {
    pipelines         = { rhythm = { max_workers = 9 }, spectrum = { machine_type = "n2-standard-8" } }
    pipeline_defaults = { max_workers = 3 }
  }

  assert {
    condition     = keys(output.pipelines) == ["media", "models", "rhythm", "spectrum"]
    error_message = "Other workers must not change what runs where."
  }
}

run "a_pipeline_that_is_not_in_the_graph_is_refused" {
  command = plan
  variables { pipelines = { beats = { max_workers = 3 } } }
  expect_failures = [var.pipelines]
}

run "fewer_workers_at_most_than_at_least_is_refused" {
  command = plan
  variables { pipelines = { rhythm = { num_workers = 5, max_workers = 2 } } }
  expect_failures = [var.pipelines]
}
