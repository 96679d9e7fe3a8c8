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
    condition     = toset(values(output.queue.topics)) == toset(["segue-downsample-live", "segue-downsample-requests", "segue-beats-live", "segue-beats-requests", "segue-energy-live", "segue-energy-requests"])
    error_message = "There must be two topics per pipeline."
  }
  assert {
    condition     = output.queue.dead_topics == { downsample = "segue-downsample-dead", beats = "segue-beats-dead", energy = "segue-energy-dead" }
    error_message = "There must be a topic for each pipeline's dead letters."
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
    condition     = output.queue.sweep_topic == "segue-sweep"
    error_message = "The sweep must be triggered through PREFIX-sweep."
  }
  assert {
    condition = output.roles["function/arrival"] == tolist([
      "roles/datastore.user on databases/segue",
      "roles/eventarc.eventReceiver on projects/acme-segue-dev",
      "roles/pubsub.publisher on topics/segue-downsample-live",
      "roles/run.invoker on services/segue-arrival",
    ])
    error_message = "An arrival must notify the pipelines that read the source, and no others."
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
      "roles/pubsub.publisher on topics/segue-beats-requests",
      "roles/pubsub.publisher on topics/segue-downsample-requests",
      "roles/pubsub.publisher on topics/segue-energy-requests",
      "roles/storage.objectCreator on buckets/acme-segue-dev-segue-artifacts/_runs/",
      "roles/storage.objectViewer on buckets/acme-segue-dev-segue-artifacts/_runs/",
      "roles/storage.objectViewer on buckets/acme-segue-dev-segue-catalogue/*",
    ])
    error_message = "A request must be able to read the catalogue, write its record and publish."
  }
  assert {
    condition = output.roles["function/sweep"] == tolist([
      "roles/datastore.user on databases/segue",
      "roles/pubsub.publisher on topics/segue-beats-live",
      "roles/pubsub.publisher on topics/segue-beats-requests",
      "roles/pubsub.publisher on topics/segue-downsample-live",
      "roles/pubsub.publisher on topics/segue-downsample-requests",
      "roles/pubsub.publisher on topics/segue-energy-live",
      "roles/pubsub.publisher on topics/segue-energy-requests",
      "roles/run.invoker on services/segue-sweep",
    ])
    error_message = "The sweep must be able to notify any pipeline."
  }
  assert {
    condition = output.roles["pipeline/downsample"] == tolist([
      "roles/artifactregistry.reader on repositories/segue-pipelines",
      "roles/dataflow.viewer on projects/acme-segue-dev",
      "roles/dataflow.worker on projects/acme-segue-dev, without objects",
      "roles/datastore.user on databases/segue",
      "roles/pubsub.publisher on topics/segue-beats-live",
      "roles/pubsub.publisher on topics/segue-beats-requests",
      "roles/pubsub.publisher on topics/segue-downsample-dead",
      "roles/pubsub.publisher on topics/segue-downsample-live",
      "roles/pubsub.publisher on topics/segue-downsample-requests",
      "roles/pubsub.publisher on topics/segue-energy-live",
      "roles/pubsub.publisher on topics/segue-energy-requests",
      "roles/pubsub.subscriber on subscriptions/segue-downsample-live",
      "roles/pubsub.subscriber on subscriptions/segue-downsample-requests",
      "roles/pubsub.viewer on subscriptions/segue-downsample-live",
      "roles/pubsub.viewer on subscriptions/segue-downsample-requests",
      "roles/storage.objectUser on buckets/acme-segue-dev-segue-artifacts/downsample/*",
      "roles/storage.objectUser on buckets/acme-segue-dev-segue-work/staging/segue-job-downsample/*",
      "roles/storage.objectUser on buckets/acme-segue-dev-segue-work/temp/segue-job-downsample/*",
      "roles/storage.objectViewer on buckets/acme-segue-dev-segue-catalogue/*",
    ])
    error_message = "A pipeline must be able to read its own topics, and to notify all pipelines on its lines."
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
