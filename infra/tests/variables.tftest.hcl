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
  archives_dir = "tests/archives"
}

run "an_image_is_built_unless_one_is_named" {
  command = plan

  assert {
    condition     = output.image == "europe-west1-docker.pkg.dev/acme-segue-dev/segue-pipelines/segue:${local.source_hash}"
    error_message = "The image must be tagged with the hash of its sources."
  }
}

run "a_catalogue_that_exists_is_read_where_it_is" {
  command = plan
  variables { catalogue = { bucket = "acme-masters", create = false, location = "EU", prefix = "masters" } }

  assert {
    condition     = output.settings.SEGUE_CATALOGUE == "gs://acme-masters/masters" && module.catalogue.location == "eu"
    error_message = "An existing catalogue must be used, with its location."
  }
}

run "a_shared_subnetwork_is_used" {
  command = plan
  variables { network = { subnetwork = "https://www.googleapis.com/compute/v1/projects/host/regions/europe-west1/subnetworks/workers" } }

  assert {
    condition     = length(module.network) == 0 && output.backfill.subnetwork == var.network.subnetwork
    error_message = "With an existing subnetwork, none must be created."
  }
}

run "a_key_is_given_to_every_agent" {
  command = plan
  variables { kms_key = "projects/acme/locations/europe-west1/keyRings/segue/cryptoKeys/segue" }

  assert {
    condition     = toset(keys(google_kms_crypto_key_iam_member.agent)) == toset(["artifactregistry.googleapis.com", "cloudfunctions.googleapis.com", "compute.googleapis.com", "dataflow.googleapis.com", "eventarc.googleapis.com", "firestore.googleapis.com", "pubsub.googleapis.com", "run.googleapis.com", "storage.googleapis.com"])
    error_message = "Every agent that encrypts must be able to use the key."
  }
}

run "operators_launch_backfills_as_that_identity" {
  command = plan
  variables { operators = ["group:audio@example.com"] }

  assert {
    condition     = google_service_account_iam_member.operator["group:audio@example.com"].service_account_id == "projects/acme-segue-dev/serviceAccounts/segue-backfill@acme-segue-dev.iam.gserviceaccount.com" && google_project_iam_member.operator["group:audio@example.com"].role == "roles/dataflow.developer"
    error_message = "An operator must be able to act as the backfill's identity and as no other."
  }
}

run "unused_apis_are_not_enabled" {
  command = plan

  assert {
    condition     = !contains(keys(google_project_service.this), "billingbudgets.googleapis.com") && !contains(keys(google_project_service.this), "cloudkms.googleapis.com") && alltrue([for service in google_project_service.this : !service.disable_on_destroy])
    error_message = "Only the APIs in use must be enabled, and none disabled that others may need."
  }
}

run "a_project_number_is_refused" {
  command = plan
  variables { project = "123456789" }
  expect_failures = [var.project]
}

run "a_zone_is_refused" {
  command = plan
  variables { region = "europe-west1-b" }
  expect_failures = [var.region]
}

run "an_environment_with_capitals_is_refused" {
  command = plan
  variables { environment = "Dev" }
  expect_failures = [var.environment]
}

run "a_long_prefix_is_refused" {
  command = plan
  variables { prefix = "segue-production" }
  expect_failures = [var.prefix]
}

run "a_team_with_a_blank_is_refused" {
  command = plan
  variables { team = "Audio Platform" }
  expect_failures = [var.team]
}

run "missing_archives_are_refused" {
  command = plan
  variables { archives_dir = "tests/graphs" }
  expect_failures = [var.archives_dir]
}

run "a_catalogue_without_a_name_is_refused" {
  command = plan
  variables { catalogue = { create = false, location = "eu" } }
  expect_failures = [var.catalogue]
}

run "a_catalogue_somewhere_is_refused" {
  command = plan
  variables { catalogue = { create = false, bucket = "acme-masters" } }
  expect_failures = [var.catalogue]
}

run "an_unknown_policy_of_deletion_is_refused" {
  command = plan
  variables { on_deletion = "forget" }
  expect_failures = [var.on_deletion]
}

run "public_requesters_are_refused" {
  command = plan
  variables { requesters = ["allAuthenticatedUsers"] }
  expect_failures = [var.requesters]
}

run "an_operator_who_is_not_a_member_is_refused" {
  command = plan
  variables { operators = ["audio@example.com"] }
  expect_failures = [var.operators]
}

run "a_version_of_a_key_is_refused" {
  command = plan
  variables { kms_key = "projects/acme/locations/europe-west1/keyRings/segue/cryptoKeys/segue/cryptoKeyVersions/1" }
  expect_failures = [var.kms_key]
}

run "a_subnetwork_by_its_name_alone_is_refused" {
  command = plan
  variables { network = { subnetwork = "workers" } }
  expect_failures = [var.network]
}
