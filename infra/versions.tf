terraform {
  required_version = "~> 1.11"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 8.7"
    }
    google-beta = {
      source  = "hashicorp/google-beta"
      version = "~> 8.7"
    }
  }

  # Each environment has its own state: init -backend-config=envs/ENVIRONMENT.gcs.tfbackend
  backend "gcs" {}
}

# Budgets belong to a billing account, so quota for their API is charged to this project, not to the
# account of the user who applies.
provider "google" {
  project               = var.project
  region                = var.region
  billing_project       = var.project
  user_project_override = true
}

provider "google-beta" {
  project               = var.project
  region                = var.region
  billing_project       = var.project
  user_project_override = true
}
