mock_provider "google" {}

variables {
  project     = "acme-segue-dev"
  region      = "europe-west1"
  prefix      = "segue"
  config      = "cloudbuild.yaml"
  source_root = "."
  source_hash = "0123456789abcdef"
  graph       = "shared/segue/features/jobs.yaml"
  metadata    = "{\"name\": \"Segue\", \"parameters\": [{\"name\": \"jobs\"}]}"
  code_bucket = "code"
  base_images = {
    beam     = "apache/beam_python3.11_sdk:2.77.0@sha256:0123456789012345678901234567890123456789012345678901234567890123"
    launcher = "gcr.io/dataflow-templates-base/python311-template-launcher-base@sha256:0123456789012345678901234567890123456789012345678901234567890123"
    python   = "python:3.11-slim-bookworm@sha256:0123456789012345678901234567890123456789012345678901234567890123"
    docker   = "gcr.io/cloud-builders/docker@sha256:0123456789012345678901234567890123456789012345678901234567890123"
  }
}

run "an_image_is_named_by_what_it_is_built_from" {
  command = plan

  assert {
    condition     = output.image == "europe-west1-docker.pkg.dev/acme-segue-dev/segue-pipelines/segue:0123456789abcdef" && length(terraform_data.build) == 1
    error_message = "Without an image, one must be built, with the hash of its sources as its tag."
  }
  assert {
    condition     = one(google_artifact_registry_repository.pipelines.docker_config).immutable_tags
    error_message = "Tags must be immutable."
  }
  assert {
    condition     = jsondecode(google_storage_bucket_object.template.content) == { image = output.image, sdkInfo = { language = "PYTHON" }, metadata = jsondecode(var.metadata) }
    error_message = "The template must name the image and its parameters."
  }
  assert {
    condition     = output.template == "gs://code/templates/segue-${substr(sha256(google_storage_bucket_object.template.content), 0, 16)}.json"
    error_message = "The template must be named by its content."
  }
  assert {
    condition     = output.parameters == ["jobs"]
    error_message = "The output must list the parameters' names."
  }
}

run "an_existing_image_is_not_built" {
  command = plan
  variables { image = "europe-west1-docker.pkg.dev/other/segue-pipelines/segue@sha256:0123456789012345678901234567890123456789012345678901234567890123" }

  assert {
    condition     = output.image == var.image && length(terraform_data.build) == 0
    error_message = "The given image must be used."
  }
}

run "builds_run_as_their_own_identity" {
  command = plan

  assert {
    condition     = output.builder == "segue-builder@acme-segue-dev.iam.gserviceaccount.com"
    error_message = "The builder must have its own identity."
  }
  assert {
    condition     = { for key, member in google_artifact_registry_repository_iam_member.builder : key => member.role } == { pipelines = "roles/artifactregistry.writer", cache = "roles/artifactregistry.writer", functions = "roles/artifactregistry.writer" }
    error_message = "The builder must be able to write to the registries."
  }
  assert {
    condition     = one(google_project_iam_member.builder_sources.condition).expression == "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-\")"
    error_message = "Of the project's buckets, the builder may only read the sources of functions."
  }
}

run "the_latest_image_is_refused" {
  command = plan
  variables { image = "europe-west1-docker.pkg.dev/acme/segue/segue:latest" }
  expect_failures = [var.image]
}

run "an_image_without_a_tag_is_refused" {
  command = plan
  variables { image = "europe-west1-docker.pkg.dev/acme/segue/segue" }
  expect_failures = [var.image]
}

run "a_whole_hash_is_refused" {
  command = plan
  variables { source_hash = "0123456789abcdef0123456789abcdef" }
  expect_failures = [var.source_hash]
}

run "metadata_without_parameters_is_refused" {
  command = plan
  variables { metadata = "{\"name\": \"Segue\"}" }
  expect_failures = [var.metadata]
}

run "a_base_image_without_a_digest_is_refused" {
  command = plan
  variables {
    base_images = {
      beam     = "apache/beam_python3.11_sdk:2.77.0@sha256:0123456789012345678901234567890123456789012345678901234567890123"
      launcher = "gcr.io/dataflow-templates-base/python311-template-launcher-base@sha256:0123456789012345678901234567890123456789012345678901234567890123"
      python   = "python:3.11-slim-bookworm"
      docker   = "gcr.io/cloud-builders/docker@sha256:0123456789012345678901234567890123456789012345678901234567890123"
    }
  }
  expect_failures = [var.base_images]
}

run "a_base_image_with_half_a_digest_is_refused" {
  command = plan
  variables {
    base_images = {
      beam     = "apache/beam_python3.11_sdk:2.77.0@sha256:0123456789012345678901234567890123456789012345678901234567890123"
      launcher = "gcr.io/dataflow-templates-base/python311-template-launcher-base@sha256:0123456789012345678901234567890123456789012345678901234567890123"
      python   = "python:3.11-slim-bookworm@sha256:01234567890123456789012345678901"
      docker   = "gcr.io/cloud-builders/docker@sha256:0123456789012345678901234567890123456789012345678901234567890123"
    }
  }
  expect_failures = [var.base_images]
}

run "no_image_is_built_without_base_images" {
  command = plan
  variables { base_images = null }
  expect_failures = [var.base_images]
}

run "an_existing_image_needs_no_base_images" {
  command = plan
  variables {
    base_images = null
    image       = "europe-west1-docker.pkg.dev/other/segue-pipelines/segue@sha256:0123456789012345678901234567890123456789012345678901234567890123"
  }

  assert {
    condition     = output.image == var.image
    error_message = "The given image must be used."
  }
}
