# What only a root module has, and the copy that 'segue init' makes for a project leaves out.

terraform {
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
