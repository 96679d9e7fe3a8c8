# The resources of a graph, and graphs that do not match the archives.

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
  archives_dir = "tests/three"
  graph        = "tests/three/jobs.yaml"
  image        = "europe-west1-docker.pkg.dev/acme/segue/segue@sha256:0123456789012345678901234567890123456789012345678901234567890123"
}

run "every_job_has_its_resources_and_each_identity_the_roles_of_its_code" {
  command = plan

  assert {
    condition     = output.queue.topics == { for name in ["source", "done-downsample", "done-beats", "inbox-downsample", "inbox-beats", "inbox-energy", "dead"] : name => "segue-${name}" }
    error_message = "There must be a topic for arrivals, one per job that starts others, one per pipeline, and one for dead letters."
  }
  assert {
    condition = output.queue.subscriptions == {
      for name in ["downsample.source", "downsample.inbox", "beats.done-downsample", "beats.inbox", "energy.done-downsample", "energy.done-beats", "energy.inbox", "dead"] : name => "segue-${name}"
    }
    error_message = "Each pipeline must have a subscription to what starts its jobs, and to its inbox."
  }
  assert {
    condition     = { for name, pipeline in output.pipelines : name => pipeline.dataflow_job } == { downsample = "segue-job-downsample", beats = "segue-job-beats", energy = "segue-job-energy" }
    error_message = "Each job must have a pipeline of its own."
  }
  assert {
    condition = output.settings == {
      SEGUE_CATALOGUE = "gs://acme-segue-dev-segue-catalogue"
      SEGUE_ARTIFACTS = "gs://acme-segue-dev-segue-artifacts"
      SEGUE_LEDGER    = "firestore://acme-segue-dev/segue"
      SEGUE_QUEUE     = "pubsub://acme-segue-dev/segue"
    }
    error_message = "The settings must name the created resources."
  }
  assert {
    condition     = local.pipeline_labels["downsample"] == { app = "segue", environment = "dev", team = "platform---tools", pipeline = "downsample" }
    error_message = "An owner must become a label."
  }
  assert {
    condition = local.topic_labels == {
      source           = local.labels
      done-downsample  = local.pipeline_labels["downsample"]
      done-beats       = local.pipeline_labels["beats"]
      inbox-downsample = local.pipeline_labels["downsample"]
      inbox-beats      = local.pipeline_labels["beats"]
      inbox-energy     = local.pipeline_labels["energy"]
      dead             = local.labels
    }
    error_message = "What a pipeline publishes and its inbox must be labelled with it."
  }
  assert {
    condition     = output.queue.sweep_topic == "segue-sweep"
    error_message = "The sweep must be triggered through PREFIX-sweep."
  }
  assert {
    condition = output.roles["function/arrival"] == tolist([
      "roles/datastore.user on databases/segue",
      "roles/eventarc.eventReceiver on projects/acme-segue-dev",
      "roles/pubsub.publisher on topics/segue-source",
      "roles/run.invoker on services/segue-arrival",
    ])
    error_message = "An arrival must be published once, and nothing else."
  }
  assert {
    condition = output.roles["function/deletion"] == tolist([
      "roles/datastore.user on databases/segue",
      "roles/eventarc.eventReceiver on projects/acme-segue-dev",
      "roles/run.invoker on services/segue-deletion",
    ])
    error_message = "A deletion must only be able to write a tombstone."
  }
  assert {
    condition = output.roles["function/request"] == tolist([
      "roles/datastore.user on databases/segue",
      "roles/pubsub.publisher on topics/segue-inbox-beats",
      "roles/pubsub.publisher on topics/segue-inbox-downsample",
      "roles/pubsub.publisher on topics/segue-inbox-energy",
      "roles/storage.objectCreator on buckets/acme-segue-dev-segue-artifacts/_runs/",
      "roles/storage.objectViewer on buckets/acme-segue-dev-segue-artifacts/_runs/",
      "roles/storage.objectViewer on buckets/acme-segue-dev-segue-catalogue/*",
    ])
    error_message = "A request must be able to read the catalogue, write its record and publish."
  }
  assert {
    condition = output.roles["function/sweep"] == tolist([
      "roles/datastore.user on databases/segue",
      "roles/pubsub.publisher on topics/segue-inbox-beats",
      "roles/pubsub.publisher on topics/segue-inbox-downsample",
      "roles/pubsub.publisher on topics/segue-inbox-energy",
      "roles/run.invoker on services/segue-sweep",
    ])
    error_message = "The sweep must be able to send requests to any pipeline."
  }
  assert {
    condition = output.roles["pipeline/downsample"] == tolist([
      "roles/artifactregistry.reader on repositories/segue-pipelines",
      "roles/dataflow.viewer on projects/acme-segue-dev",
      "roles/dataflow.worker on projects/acme-segue-dev, without objects",
      "roles/datastore.user on databases/segue",
      "roles/pubsub.publisher on topics/segue-dead",
      "roles/pubsub.publisher on topics/segue-done-beats",
      "roles/pubsub.publisher on topics/segue-done-downsample",
      "roles/pubsub.publisher on topics/segue-inbox-beats",
      "roles/pubsub.publisher on topics/segue-inbox-downsample",
      "roles/pubsub.publisher on topics/segue-inbox-energy",
      "roles/pubsub.subscriber on subscriptions/segue-downsample.inbox",
      "roles/pubsub.subscriber on subscriptions/segue-downsample.source",
      "roles/pubsub.viewer on subscriptions/segue-downsample.inbox",
      "roles/pubsub.viewer on subscriptions/segue-downsample.source",
      "roles/storage.objectUser on buckets/acme-segue-dev-segue-artifacts/downsample/*",
      "roles/storage.objectUser on buckets/acme-segue-dev-segue-work/staging/segue-job-downsample/*",
      "roles/storage.objectUser on buckets/acme-segue-dev-segue-work/temp/segue-job-downsample/*",
      "roles/storage.objectViewer on buckets/acme-segue-dev-segue-catalogue/*",
    ])
    error_message = "A pipeline must be able to read its own subscriptions, to publish what is finished on its lines, and to send requests along them."
  }
  assert {
    condition = toset([for role in output.roles["pipeline/energy"] : role if strcontains(role, "artifacts/")]) == toset([
      "roles/storage.objectUser on buckets/acme-segue-dev-segue-artifacts/energy/*",
      "roles/storage.objectViewer on buckets/acme-segue-dev-segue-artifacts/beats/*",
      "roles/storage.objectViewer on buckets/acme-segue-dev-segue-artifacts/downsample/*",
    ])
    error_message = "A pipeline must be able to read its parents' results, and to create its own only."
  }
  assert {
    condition     = length([for role in output.roles["backfill"] : role if strcontains(role, "pubsub")]) == 0
    error_message = "A backfill must not be able to publish."
  }
  assert {
    condition     = alltrue(flatten([for roles in values(output.roles) : [for role in roles : !can(regex("^roles/(owner|editor|viewer) ", role))]]))
    error_message = "No identity may have a basic role."
  }
}

run "what_a_deletion_removes_needs_a_role" {
  command = plan
  variables { on_deletion = "remove" }

  assert {
    condition     = google_project_iam_custom_role.remover[0].permissions == toset(["storage.objects.delete", "storage.objects.get", "storage.objects.list"])
    error_message = "The role must be able to find and delete, and not to write."
  }
  assert {
    condition     = length(output.roles["function/deletion"]) == 4
    error_message = "The deletion function must get the role."
  }
}

run "workers_are_as_large_as_their_jobs_need" {
  command = plan
  variables {
    archives_dir = "tests/machines"
    graph        = "tests/machines/jobs.yaml"
  }

  assert {
    condition = local.pipeline_machine == {
      small = "n2-standard-2"
      large = "n2-highmem-2"
      huge  = "n2-custom-2-65536-ext"
      l4    = "g2-standard-4"
      t4    = "n1-highmem-4"
      a100  = "a2-highgpu-1g"
    }
    error_message = "The machine must have memory for one job per processor."
  }
  assert {
    condition     = local.packages == "locks/pipelines-gpu.txt"
    error_message = "The image of a graph with GPUs must have the packages for them."
  }
}

run "a_graph_without_gpus_gets_an_image_without_their_packages" {
  command = plan

  assert {
    condition     = local.packages == "locks/pipelines.txt"
    error_message = "CUDA must not be in an image that runs on processors."
  }
}

run "a_missing_graph_is_refused" {
  command = plan
  variables { graph = "tests/none.yaml" }
  expect_failures = [var.graph]
}

run "archives_of_another_graph_are_refused" {
  command = plan
  variables { graph = "tests/machines/jobs.yaml" }
  expect_failures = [var.archives_dir]
}

run "missing_archives_are_refused" {
  command = plan
  variables { archives_dir = "tests" }
  expect_failures = [var.archives_dir]
}

run "a_graph_outside_the_repository_is_refused" {
  command = plan
  variables { image = null }
  expect_failures = [var.image]
}
