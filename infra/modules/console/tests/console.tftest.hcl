mock_provider "google" {}

variables {
  project          = "acme-segue-dev"
  project_number   = "123"
  region           = "europe-west1"
  prefix           = "segue"
  image            = "europe-west1-docker.pkg.dev/acme/segue/segue@sha256:0123"
  environment      = { SEGUE_GRAPH = "jobs.yaml" }
  readers          = ["group:research@example.com"]
  proxy_member     = "serviceAccount:service-123@gcp-sa-iap.iam.gserviceaccount.com"
  ledger_database  = "segue"
  artifacts_bucket = "results"
  catalogue_bucket = "masters"
}

run "only_named_readers_get_through_the_proxy" {
  command = plan

  assert {
    condition     = google_cloud_run_v2_service.this.iap_enabled
    error_message = "Readers must be asked who they are."
  }
  assert {
    condition     = { for member, grant in google_iap_web_cloud_run_service_iam_member.reader : member => grant.role } == { "group:research@example.com" = "roles/iap.httpsResourceAccessor" }
    error_message = "The readers, and nobody else, must be let in."
  }
  assert {
    condition     = google_cloud_run_v2_service_iam_member.proxy.role == "roles/run.invoker" && google_cloud_run_v2_service_iam_member.proxy.member == "serviceAccount:service-123@gcp-sa-iap.iam.gserviceaccount.com"
    error_message = "Only the proxy may call the service."
  }
}

run "its_identity_only_reads" {
  command = plan

  assert {
    condition     = google_project_iam_member.ledger.role == "roles/datastore.viewer" && one(google_project_iam_member.ledger.condition).expression == "resource.name == \"projects/acme-segue-dev/databases/segue\""
    error_message = "It must be able to read the ledger's database only."
  }
  assert {
    condition     = google_storage_bucket_iam_member.artifacts.role == "roles/storage.objectViewer" && google_storage_bucket_iam_member.catalogue.role == "roles/storage.objectViewer" && length(google_storage_bucket_iam_member.catalogue.condition) == 0
    error_message = "It must be able to read results and media."
  }
  assert {
    condition     = output.roles == tolist(["roles/datastore.viewer on databases/segue", "roles/storage.objectViewer on buckets/masters/*", "roles/storage.objectViewer on buckets/results/*"])
    error_message = "The output must list the roles."
  }
}

run "of_a_folder_in_a_bucket_it_reads_nothing_else" {
  command = plan
  variables {
    catalogue_prefix = "music"
  }

  assert {
    condition     = strcontains(one(google_storage_bucket_iam_member.catalogue.condition).expression, "objects/music/")
    error_message = "The grant must be limited to the folder."
  }
}

run "it_is_told_what_the_proxy_signs_for" {
  command = plan

  assert {
    condition     = { for env in google_cloud_run_v2_service.this.template[0].containers[0].env : env.name => env.value } == { SEGUE_GRAPH = "jobs.yaml", SEGUE_CONSOLE_AUDIENCE = "/projects/123/locations/europe-west1/services/segue-console" }
    error_message = "The service must check signatures for itself."
  }
  assert {
    condition     = google_cloud_run_v2_service.this.template[0].scaling[0].max_instance_count == 1 && google_cloud_run_v2_service.this.template[0].scaling[0].min_instance_count == 0
    error_message = "One instance must serve all, and none if nobody looks."
  }
}

run "readers_must_be_named" {
  command = plan
  variables {
    readers = ["allUsers"]
  }
  expect_failures = [var.readers]
}

run "there_must_be_readers" {
  command = plan
  variables {
    readers = []
  }
  expect_failures = [var.readers]
}

run "ingress_is_one_of_three" {
  command = plan
  variables {
    ingress = "ALLOW_ALL"
  }
  expect_failures = [var.ingress]
}

run "memory_has_a_unit" {
  command = plan
  variables {
    memory = "2"
  }
  expect_failures = [var.memory]
}

run "it_runs_once_or_not_at_all" {
  command = plan
  variables {
    min_instances = 2
  }
  expect_failures = [var.min_instances]
}

run "secrets_are_no_settings" {
  command = plan
  variables {
    environment = { TOKEN = "secret" }
  }
  expect_failures = [var.environment]
}
