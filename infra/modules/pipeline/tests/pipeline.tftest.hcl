mock_provider "google" {}
mock_provider "google-beta" {}

variables {
  project          = "acme-segue-dev"
  region           = "europe-west1"
  name             = "segue-job-beats"
  labels           = { job = "beats", team = "rhythm" }
  jobs             = ["beats"]
  reads_from       = { "beats.inbox" = "segue-beats.inbox" }
  publishes_to     = { done-beats = "segue-done-beats", dead = "segue-dead" }
  ledger_database  = "segue"
  catalogue_bucket = "masters"
  artifacts_bucket = "features"
  work_bucket      = "work"
  repository       = { location = "europe-west1", name = "segue-pipelines" }
  parents          = ["downsample"]
  catalogue_prefix = "music"
  streaming = {
    template     = "gs://code/templates/segue-1.json"
    image        = "europe-west1-docker.pkg.dev/acme-segue-dev/segue-pipelines/segue:1"
    parameters   = { jobs = "beats" }
    subnetwork   = "regions/europe-west1/subnetworks/segue-workers"
    machine_type = "n2-standard-2"
  }
}

run "it_streams_in_private_and_drains" {
  command = plan

  assert {
    condition     = google_dataflow_flex_template_job.this["streaming"].name == "segue-job-beats" && google_dataflow_flex_template_job.this["streaming"].on_delete == "drain" && !google_dataflow_flex_template_job.this["streaming"].skip_wait_on_job_termination
    error_message = "A replacement must wait until the old job is drained."
  }
  assert {
    condition     = google_dataflow_flex_template_job.this["streaming"].ip_configuration == "WORKER_IP_PRIVATE" && google_dataflow_flex_template_job.this["streaming"].enable_streaming_engine && google_dataflow_flex_template_job.this["streaming"].autoscaling_algorithm == "THROUGHPUT_BASED"
    error_message = "Workers must have no public address, keep no state, and scale with throughput."
  }
  assert {
    condition     = google_dataflow_flex_template_job.this["streaming"].num_workers == 1 && google_dataflow_flex_template_job.this["streaming"].max_workers == 5
    error_message = "The number of workers must be limited."
  }
  assert {
    condition     = google_dataflow_flex_template_job.this["streaming"].service_account_email == "segue-job-beats@acme-segue-dev.iam.gserviceaccount.com" && google_dataflow_flex_template_job.this["streaming"].labels == tomap({ job = "beats", team = "rhythm" })
    error_message = "It must run as its own identity, and be labelled."
  }
}

run "its_identity_may_do_what_its_code_does" {
  command = plan

  assert {
    condition     = { for key, member in google_pubsub_topic_iam_member.publisher : member.topic => member.role } == { segue-done-beats = "roles/pubsub.publisher", segue-dead = "roles/pubsub.publisher" }
    error_message = "It must be able to publish to the given topics."
  }
  assert {
    condition     = google_pubsub_subscription_iam_member.subscriber["beats.inbox"].subscription == "segue-beats.inbox" && google_pubsub_subscription_iam_member.viewer["beats.inbox"].subscription == "segue-beats.inbox"
    error_message = "It must be able to read its own subscription, and get its settings."
  }
  assert {
    condition     = google_storage_bucket_iam_member.catalogue.role == "roles/storage.objectViewer" && one(google_storage_bucket_iam_member.catalogue.condition).expression == "resource.name == \"projects/_/buckets/masters\" || resource.name.startsWith(\"projects/_/buckets/masters/objects/music/\")"
    error_message = "It must be able to read the media below the catalogue's prefix, and to list the bucket."
  }
  assert {
    condition     = one(values(google_storage_bucket_iam_member.artifacts)).role == "roles/storage.objectUser" && one(one(values(google_storage_bucket_iam_member.artifacts)).condition).expression == "resource.name.startsWith(\"projects/_/buckets/features/objects/beats/\")"
    error_message = "It must be able to create and replace results of its own jobs."
  }
  assert {
    condition     = one(one(values(google_storage_bucket_iam_member.parents)).condition).expression == "resource.name == \"projects/_/buckets/features\" || resource.name.startsWith(\"projects/_/buckets/features/objects/downsample/\")"
    error_message = "It must be able to read results of its jobs' parents."
  }
  assert {
    condition     = one(google_storage_bucket_iam_member.work.condition).expression == "resource.name == \"projects/_/buckets/work\" || resource.name.startsWith(\"projects/_/buckets/work/objects/staging/segue-job-beats/\") || resource.name.startsWith(\"projects/_/buckets/work/objects/temp/segue-job-beats/\")" && google_dataflow_flex_template_job.this["streaming"].staging_location == "gs://work/staging/segue-job-beats"
    error_message = "It must stage its files below its own name, and only there."
  }
  assert {
    condition     = google_project_iam_member.worker.role == "roles/dataflow.worker" && one(google_project_iam_member.worker.condition).expression == "resource.type != \"storage.googleapis.com/Object\"" && one(google_project_iam_member.ledger.condition).expression == "resource.name == \"projects/acme-segue-dev/databases/segue\""
    error_message = "On the project, it must have only the worker's role and the one for its database."
  }
  assert {
    condition     = one(google_project_iam_member.launcher).role == "roles/dataflow.viewer"
    error_message = "Its launcher must be able to find the job that it updates."
  }
}

run "an_accelerator_is_requested" {
  command = plan
  variables {
    streaming = {
      template     = "gs://code/templates/segue-1.json"
      image        = "europe-west1-docker.pkg.dev/acme-segue-dev/segue-pipelines/segue:1"
      parameters   = {}
      subnetwork   = "regions/europe-west1/subnetworks/segue-workers"
      machine_type = "g2-standard-4"
      gpu          = "nvidia-l4"
    }
  }

  assert {
    condition     = google_dataflow_flex_template_job.this["streaming"].additional_experiments == toset(["worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"])
    error_message = "The accelerator, with its driver, must be passed to Dataflow."
  }
}

run "without_streaming_there_is_only_an_identity" {
  command = plan
  variables {
    name         = "segue-backfill"
    jobs         = []
    reads_from   = {}
    publishes_to = {}
    streaming    = null
  }

  assert {
    condition     = length(google_dataflow_flex_template_job.this) == 0 && google_service_account.this.account_id == "segue-backfill"
    error_message = "Without a streaming job, there must still be an identity."
  }
  assert {
    condition     = length(google_pubsub_topic_iam_member.publisher) + length(google_pubsub_subscription_iam_member.subscriber) + length(google_project_iam_member.launcher) == 0
    error_message = "A backfill must not be able to publish, or to update jobs."
  }
  assert {
    condition     = one(one(values(google_storage_bucket_iam_member.artifacts)).condition).expression == "resource.name.startsWith(\"projects/_/buckets/features/objects/\") && !resource.name.startsWith(\"projects/_/buckets/features/objects/_runs/\")"
    error_message = "A backfill must be able to create and replace results of all jobs, but no record of a run."
  }
  assert {
    condition     = "${one(google_storage_bucket_iam_member.runs).role} ${one(one(google_storage_bucket_iam_member.runs).condition).expression}" == "roles/storage.objectCreator resource.name.startsWith(\"projects/_/buckets/features/objects/_runs/\")"
    error_message = "The launcher of a backfill must be able to write the record of its run, and no job to change one."
  }
}

run "a_long_name_is_cut_and_stays_unlike_others" {
  command = plan
  variables { name = "segue-job-a_rather_long_name_of_a_job" }

  assert {
    condition     = output.account_id == "segue-job-a-rather-long-${substr(sha256("segue-job-a_rather_long_name_of_a_job"), 0, 6)}" && length(output.account_id) <= 30
    error_message = "An identity's name must have at most 30 characters."
  }
}

run "a_name_may_not_end_with_a_hyphen" {
  command = plan
  variables { name = "segue-job-last_" }

  assert {
    condition     = output.account_id == "segue-job-last-${substr(sha256("segue-job-last_"), 0, 6)}"
    error_message = "An underscore at the end must not become a hyphen at the end."
  }
}

run "it_reads_the_named_secrets_and_no_others" {
  command = plan
  variables { secrets = ["projects/acme-keys/secrets/speech", "projects/acme-segue-dev/secrets/maps"] }

  assert {
    condition = { for grant in google_secret_manager_secret_iam_member.accessor : "${grant.project}/${grant.secret_id}" => grant.role } == {
      "acme-keys/speech"    = "roles/secretmanager.secretAccessor"
      "acme-segue-dev/maps" = "roles/secretmanager.secretAccessor"
    }
    error_message = "Each grant must be on one secret, in its own project."
  }
}

run "a_secret_with_its_version_is_refused" {
  command = plan
  variables { secrets = ["projects/acme-keys/secrets/speech/versions/1"] }
  expect_failures = [var.secrets]
}

run "a_name_with_capitals_is_refused" {
  command = plan
  variables { name = "Segue-job-beats" }
  expect_failures = [var.name]
}

run "fewer_workers_at_most_than_at_least_is_refused" {
  command = plan
  variables {
    streaming = {
      template     = "gs://code/t.json"
      image        = "i"
      parameters   = {}
      subnetwork   = "regions/r/subnetworks/s"
      machine_type = "n2-standard-2"
      num_workers  = 3
      max_workers  = 2
    }
  }
  expect_failures = [var.streaming]
}

run "a_location_outside_cloud_storage_is_refused" {
  command = plan
  variables {
    streaming = {
      template     = "code/t.json"
      image        = "i"
      parameters   = {}
      subnetwork   = "regions/r/subnetworks/s"
      machine_type = "n2-standard-2"
    }
  }
  expect_failures = [var.streaming]
}

run "a_large_group_gets_several_conditions" {
  command = plan
  variables { jobs = [for number in range(25) : "job${number}"] }

  assert {
    condition     = [for number, member in google_storage_bucket_iam_member.artifacts : length(split("||", one(member.condition).expression))] == [10, 10, 5]
    error_message = "A condition may have at most 12 logical operators."
  }
}

run "a_group_of_more_jobs_than_a_policy_holds_is_refused" {
  command = plan
  variables { jobs = [for number in range(191) : "job${number}"] }
  expect_failures = [var.jobs]
}

run "a_whole_bucket_of_media_needs_no_condition" {
  command = plan
  variables { catalogue_prefix = "" }

  assert {
    condition     = length(google_storage_bucket_iam_member.catalogue.condition) == 0
    error_message = "A bucket without uniform access allows no conditions."
  }
}

run "a_stream_for_no_job_is_refused" {
  command = plan
  variables { jobs = [] }
  expect_failures = [var.streaming]
}
