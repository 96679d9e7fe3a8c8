# The settings of an environment, and invalid values.

mock_provider "google" {
  mock_data "google_storage_project_service_account" {
    defaults = { email_address = "service-1@gs-project-accounts.iam.gserviceaccount.com" }
  }
  mock_data "google_project" {
    defaults = { number = "123456789" }
  }
}
mock_provider "google-beta" {
  override_during = plan
  mock_resource "google_project_service_identity" {
    defaults = { member = "serviceAccount:service-1@agent.iam.gserviceaccount.com" }
  }
}

variables {
  project      = "acme-segue-dev"
  region       = "europe-west1"
  environment  = "dev"
  archives_dir = "tests/three"
  graph        = "../infra/tests/three/jobs.yaml" # in the repository, so the image can be built
  base_images = {
    beam     = "apache/beam_python3.11_sdk:2.77.0@sha256:0123456789012345678901234567890123456789012345678901234567890123"
    launcher = "gcr.io/dataflow-templates-base/python311-template-launcher-base@sha256:0123456789012345678901234567890123456789012345678901234567890123"
    python   = "python:3.11-slim-bookworm@sha256:0123456789012345678901234567890123456789012345678901234567890123"
    docker   = "gcr.io/cloud-builders/docker@sha256:0123456789012345678901234567890123456789012345678901234567890123"
  }
}

run "by_default_an_image_is_built_and_only_the_apis_in_use_are_enabled" {
  command = plan

  assert {
    condition     = output.image == "europe-west1-docker.pkg.dev/acme-segue-dev/segue-pipelines/segue:${local.source_hash}"
    error_message = "The image must be tagged with the hash of its sources."
  }
  assert {
    condition     = !contains(keys(google_project_service.this), "billingbudgets.googleapis.com") && !contains(keys(google_project_service.this), "cloudkms.googleapis.com") && alltrue([for service in google_project_service.this : !service.disable_on_destroy])
    error_message = "Only the APIs in use must be enabled, and none disabled that others may need."
  }
}

run "an_existing_catalogue_subnetwork_and_key_are_used_and_operators_launch_backfills" {
  command = plan
  variables {
    catalogue = { bucket = "acme-masters", create = false, location = "EU", prefix = "masters" }
    network   = { subnetwork = "https://www.googleapis.com/compute/v1/projects/host/regions/europe-west1/subnetworks/workers" }
    kms_key   = "projects/acme/locations/europe-west1/keyRings/segue/cryptoKeys/segue"
    operators = ["group:audio@example.com"]
  }

  assert {
    condition     = output.settings.SEGUE_CATALOGUE == "gs://acme-masters/masters" && module.catalogue.triggers.arrival.location == "eu" && module.catalogue.triggers.arrival.bucket == "acme-masters"
    error_message = "An existing catalogue must be used, with its location."
  }
  assert {
    condition     = length(module.network) == 0 && output.backfill.subnetwork == var.network.subnetwork
    error_message = "With an existing subnetwork, none must be created."
  }
  assert {
    condition     = toset(keys(google_kms_crypto_key_iam_member.agent)) == toset(["artifactregistry.googleapis.com", "cloudfunctions.googleapis.com", "compute.googleapis.com", "dataflow.googleapis.com", "eventarc.googleapis.com", "firestore.googleapis.com", "pubsub.googleapis.com", "run.googleapis.com", "storage.googleapis.com"])
    error_message = "Every agent that encrypts must be able to use the key."
  }
  assert {
    condition     = google_service_account_iam_member.operator["group:audio@example.com"].service_account_id == "projects/acme-segue-dev/serviceAccounts/segue-backfill@acme-segue-dev.iam.gserviceaccount.com" && google_project_iam_member.operator["group:audio@example.com"].role == "roles/dataflow.developer"
    error_message = "An operator must be able to act as the backfill's identity and as no other."
  }
}

# Each of these values is refused on its own, so one plan shows them all.
run "invalid_values_are_refused" {
  command = plan
  variables {
    project     = "123456789"                         # a number
    region      = "europe-west1-b"                    # a zone
    environment = "Dev"                               # a capital
    prefix      = "segue-production"                  # too long
    team        = "Audio Platform"                    # a space
    catalogue   = { create = false, location = "eu" } # no name
    on_deletion = "forget"
    requesters  = ["allAuthenticatedUsers"]
    operators   = ["audio@example.com"] # not a member
    kms_key     = "projects/acme/locations/europe-west1/keyRings/segue/cryptoKeys/segue/cryptoKeyVersions/1"
    network     = { subnetwork = "workers" } # a name alone
  }
  expect_failures = [
    var.project,
    var.region,
    var.environment,
    var.prefix,
    var.team,
    var.catalogue,
    var.on_deletion,
    var.requesters,
    var.operators,
    var.kms_key,
    var.network,
  ]
}

run "a_catalogue_without_a_location_is_refused" {
  command = plan
  variables { catalogue = { create = false, bucket = "acme-masters" } }
  expect_failures = [var.catalogue]
}
