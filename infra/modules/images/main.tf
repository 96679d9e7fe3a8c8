# The image of the pipelines: its registry, the identity that builds it, and the template that launches it.

locals {
  host  = "${var.region}-docker.pkg.dev/${var.project}"
  built = "${local.host}/${google_artifact_registry_repository.pipelines.repository_id}/segue:${var.source_hash}"
  image = var.image == null ? local.built : var.image
  # Built here, so that a plan shows who gets which role before the identity exists.
  email  = "${google_service_account.builder.account_id}@${var.project}.iam.gserviceaccount.com"
  member = "serviceAccount:${local.email}"

  # What gcloud dataflow flex-template build would write.
  template = jsonencode({
    image    = local.image
    sdkInfo  = { language = "PYTHON" }
    metadata = jsondecode(var.metadata)
  })
}

resource "google_artifact_registry_repository" "pipelines" {
  #checkov:skip=CKV_GCP_84:A customer's key is optional (kms_key); the image contains code, but no data.
  project       = var.project
  location      = var.region
  repository_id = "${var.prefix}-pipelines"
  description   = "Images of Segue's pipelines"
  format        = "DOCKER"
  kms_key_name  = var.kms_key
  labels        = var.labels

  docker_config {
    immutable_tags = true # a tag is a hash of the sources, and always means the same image
  }

  cleanup_policies {
    id     = "keep-latest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "2592000s"
    }
  }
}

# Cloud Functions moves its own tag with every build, so the tags cannot be immutable.
resource "google_artifact_registry_repository" "functions" {
  #checkov:skip=CKV_GCP_84:A customer's key is optional (kms_key); the images contain code, but no data.
  project       = var.project
  location      = var.region
  repository_id = "${var.prefix}-functions"
  description   = "Containers of Segue's functions, built by Cloud Functions"
  format        = "DOCKER"
  kms_key_name  = var.kms_key
  labels        = var.labels

  cleanup_policies {
    id     = "keep-latest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 10
    }
  }

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "2592000s"
    }
  }
}

# Layers of the last build; the cache's tag moves, so it cannot be in the images' registry.
resource "google_artifact_registry_repository" "cache" {
  #checkov:skip=CKV_GCP_84:A customer's key is optional (kms_key); the layers contain code, but no data.
  project       = var.project
  location      = var.region
  repository_id = "${var.prefix}-cache"
  description   = "Layers of the last build of Segue's image"
  format        = "DOCKER"
  kms_key_name  = var.kms_key
  labels        = var.labels

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "2592000s"
    }
  }
}

# Builds run as their own identity, not as Compute Engine's default account, which has far more permissions.
resource "google_service_account" "builder" {
  project      = var.project
  account_id   = "${var.prefix}-builder"
  display_name = "Segue builder"
  description  = "Builds the functions' containers and the pipelines' image"
}

resource "google_project_iam_member" "builder_logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = local.member
}

resource "google_artifact_registry_repository_iam_member" "builder" {
  for_each = {
    pipelines = google_artifact_registry_repository.pipelines.repository_id
    cache     = google_artifact_registry_repository.cache.repository_id
    functions = google_artifact_registry_repository.functions.repository_id
  }

  project    = var.project
  location   = var.region
  repository = each.value
  role       = "roles/artifactregistry.writer"
  member     = local.member
}

resource "google_storage_bucket_iam_member" "builder_code" {
  bucket = var.code_bucket
  role   = "roles/storage.objectViewer"
  member = local.member
}

# Cloud Functions copies an archive to its own bucket before it builds from it.
resource "google_project_iam_member" "builder_sources" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = local.member

  condition {
    title       = "only functions' sources"
    description = "Cloud Functions creates the bucket, so Terraform does not manage its policy."
    expression  = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-\")"
  }
}

resource "terraform_data" "build" {
  count = var.image == null ? 1 : 0

  triggers_replace = local.built

  # An existing image is not built again: its tag says what it was built from, and cannot be pushed twice.
  # The tags are listed because describing an image also calls Container Analysis, which may be forbidden.
  provisioner "local-exec" {
    working_dir = var.source_root
    command     = <<-EOT
      gcloud artifacts docker tags list "$IMAGE" --format="value(tag.basename())" --quiet 2>/dev/null | grep -qx "$TAG" ||
        gcloud builds submit . --quiet --project="$PROJECT" --region="$REGION" \
          --config="$CONFIG" --ignore-file=infra/container/.gcloudignore \
          --service-account="projects/$PROJECT/serviceAccounts/$BUILDER" \
          --gcs-source-staging-dir="gs://$CODE_BUCKET/builds" \
          --substitutions="_IMAGE=$IMAGE,_TAG=$TAG,_CACHE=$CACHE,_GRAPH=$GRAPH,_LOCK=$LOCK,_PACKAGES=$PACKAGES,_BEAM=$BEAM,_LAUNCHER=$LAUNCHER,_PYTHON=$PYTHON,_DOCKER=$DOCKER"
    EOT
    environment = {
      PROJECT     = var.project
      REGION      = var.region
      BUILDER     = local.email
      CONFIG      = var.config
      CODE_BUCKET = var.code_bucket
      IMAGE       = "${local.host}/${google_artifact_registry_repository.pipelines.repository_id}/segue"
      TAG         = var.source_hash
      CACHE       = "${local.host}/${google_artifact_registry_repository.cache.repository_id}/segue:cache"
      GRAPH       = var.graph
      LOCK        = trimprefix("${dirname(var.graph)}/segue.lock", "./")
      PACKAGES    = var.packages
      BEAM        = var.base_images.beam
      LAUNCHER    = var.base_images.launcher
      PYTHON      = var.base_images.python
      DOCKER      = var.base_images.docker
    }
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.builder,
    google_project_iam_member.builder_logs,
    google_storage_bucket_iam_member.builder_code,
  ]
}

# Named by its content: the template of a running job does not change.
resource "google_storage_bucket_object" "template" {
  bucket       = var.code_bucket
  name         = "templates/segue-${substr(sha256(local.template), 0, 16)}.json"
  content      = local.template
  content_type = "application/json"

  lifecycle {
    create_before_destroy = true # the template in use must exist until it is replaced
  }

  depends_on = [terraform_data.build] # the template's image must exist
}
