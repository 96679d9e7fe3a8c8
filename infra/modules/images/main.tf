# The image of the pipelines: where it lies, who builds it, and the template that launches it.

locals {
  host  = "${var.region}-docker.pkg.dev/${var.project}"
  built = "${local.host}/${google_artifact_registry_repository.pipelines.repository_id}/segue:${var.source_hash}"
  image = var.image == null ? local.built : var.image
  # Written out, so that a plan shows who gets what before anybody exists.
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
  #checkov:skip=CKV_GCP_84:A customer's key is optional (kms_key); the image holds code, no data.
  project       = var.project
  location      = var.region
  repository_id = "${var.prefix}-pipelines"
  description   = "Images of Segue's pipelines"
  format        = "DOCKER"
  kms_key_name  = var.kms_key
  labels        = var.labels

  docker_config {
    immutable_tags = true # a tag is a hash of the sources, and stands for one image for good
  }

  cleanup_policies {
    id     = "keep-latest"
    action = "KEEP"
    most_recent_versions {
      keep_count = var.kept_images
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

# Cloud Functions moves a tag of its own with every build, so theirs cannot be immutable.
resource "google_artifact_registry_repository" "functions" {
  #checkov:skip=CKV_GCP_84:A customer's key is optional (kms_key); the images hold code, no data.
  project       = var.project
  location      = var.region
  repository_id = "${var.prefix}-functions"
  description   = "Containers of Segue's functions, made by Cloud Functions"
  format        = "DOCKER"
  kms_key_name  = var.kms_key
  labels        = var.labels

  cleanup_policies {
    id     = "keep-latest"
    action = "KEEP"
    most_recent_versions {
      keep_count = var.kept_images
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

# Layers of the last build; a cache is a tag that moves, so it cannot lie beside the images.
resource "google_artifact_registry_repository" "cache" {
  #checkov:skip=CKV_GCP_84:A customer's key is optional (kms_key); the layers hold code, no data.
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

# Builds run as themselves, not as Compute Engine's default account, which may do far more.
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

# Cloud Functions copies an archive to a bucket of its own before it builds from it.
resource "google_project_iam_member" "builder_sources" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = local.member

  condition {
    title       = "only functions' sources"
    description = "The bucket is made by Cloud Functions, so that its policy is not Terraform's."
    expression  = "resource.name.startsWith(\"projects/_/buckets/gcf-v2-sources-\")"
  }
}

resource "terraform_data" "build" {
  count = var.image == null ? 1 : 0

  triggers_replace = local.built

  # An image that is there is not built again: its tag says what it was built from, and cannot be pushed
  # twice. Tags are listed, as to describe an image asks Container Analysis, too, which may be forbidden.
  provisioner "local-exec" {
    working_dir = var.source_root
    command     = <<-EOT
      gcloud artifacts docker tags list "$IMAGE" --format="value(tag.basename())" --quiet 2>/dev/null | grep -qx "$TAG" ||
        gcloud builds submit . --quiet --project="$PROJECT" --region="$REGION" \
          --config=infra/container/cloudbuild.yaml --ignore-file=infra/container/.gcloudignore \
          --service-account="projects/$PROJECT/serviceAccounts/$BUILDER" \
          --gcs-source-staging-dir="gs://$CODE_BUCKET/builds" \
          --substitutions="_IMAGE=$IMAGE,_TAG=$TAG,_CACHE=$CACHE,_GRAPH=$GRAPH"
    EOT
    environment = {
      PROJECT     = var.project
      REGION      = var.region
      BUILDER     = local.email
      CODE_BUCKET = var.code_bucket
      IMAGE       = "${local.host}/${google_artifact_registry_repository.pipelines.repository_id}/segue"
      TAG         = var.source_hash
      CACHE       = "${local.host}/${google_artifact_registry_repository.cache.repository_id}/segue:cache"
      GRAPH       = var.graph
    }
  }

  depends_on = [
    google_artifact_registry_repository_iam_member.builder,
    google_project_iam_member.builder_logs,
    google_storage_bucket_iam_member.builder_code,
  ]
}

# Named by its content: what a running job was launched from stays what it was.
resource "google_storage_bucket_object" "template" {
  bucket       = var.code_bucket
  name         = "templates/segue-${substr(sha256(local.template), 0, 16)}.json"
  content      = local.template
  content_type = "application/json"

  lifecycle {
    create_before_destroy = true # what is launched is there until it is replaced
  }

  depends_on = [terraform_data.build] # a template whose image is there
}
