# How jobs are grouped in pipelines.

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

run "one_pipeline_takes_all" {
  command = plan
  variables { pipelines = { all = { jobs = ["*"] } } }

  assert {
    condition     = output.pipelines == { all = { jobs = tolist(["beats", "downsample", "energy"]), dataflow_job = "segue-job-all" } }
    error_message = "A star must stand for every job."
  }
  assert {
    condition     = local.pipeline_machine["all"] == "n2-highmem-2"
    error_message = "A group must have the memory of its largest job."
  }
}

run "one_pipeline_takes_the_remaining_jobs" {
  command = plan
  variables {
    pipelines = {
      rest   = { jobs = ["*"] }
      energy = { max_workers = 9 }
    }
  }

  assert {
    condition     = local.pipelines == { rest = tolist(["beats", "downsample"]), energy = tolist(["energy"]) }
    error_message = "An entry without jobs must be its namesake's pipeline, and the star must take the remaining jobs."
  }
}

run "a_star_without_remaining_jobs_is_no_pipeline" {
  command = plan
  variables {
    pipelines = {
      rest  = { jobs = ["*"] }
      heavy = { jobs = ["energy", "beats", "downsample"] }
    }
  }

  assert {
    condition     = keys(output.pipelines) == ["heavy"]
    error_message = "A pipeline without jobs must not be created."
  }
}

run "a_group_beside_single_jobs" {
  command = plan
  variables { pipelines = { rhythm = { jobs = ["beats", "energy"] } } }

  assert {
    condition     = toset(keys(output.pipelines)) == toset(["rhythm", "downsample"])
    error_message = "A job that no entry names must have its own pipeline."
  }
}

run "a_job_that_is_not_in_the_graph_is_refused" {
  command = plan
  variables { pipelines = { rhythm = { jobs = ["beats", "melody"] } } }
  expect_failures = [var.pipelines]
}

run "an_entry_for_no_job_is_refused" {
  command = plan
  variables { pipelines = { melody = { max_workers = 3 } } }
  expect_failures = [var.pipelines]
}

run "an_empty_group_is_refused" {
  command = plan
  variables { pipelines = { rhythm = { jobs = [] } } }
  expect_failures = [var.pipelines]
}

run "a_job_in_two_pipelines_is_refused" {
  command = plan
  variables { pipelines = { one = { jobs = ["beats"] }, two = { jobs = ["beats", "energy"] } } }
  expect_failures = [var.pipelines]
}

run "two_stars_are_refused" {
  command = plan
  variables { pipelines = { one = { jobs = ["*"] }, two = { jobs = ["*"] } } }
  expect_failures = [var.pipelines]
}

run "a_star_among_jobs_is_refused" {
  command = plan
  variables { pipelines = { one = { jobs = ["*", "beats"] } } }
  expect_failures = [var.pipelines]
}

run "a_group_called_like_a_job_outside_of_it_is_refused" {
  command = plan
  variables { pipelines = { beats = { jobs = ["energy"] } } }
  expect_failures = [output.pipelines]
}

run "a_group_with_a_hyphen_is_refused" {
  command = plan
  variables { pipelines = { "my-group" = { jobs = ["energy"] } } }
  expect_failures = [var.pipelines]
}

run "two_accelerators_in_one_worker_are_refused" {
  command = plan
  variables {
    archives_dir = "tests/machines"
    graph        = "tests/machines/jobs.yaml"
    pipelines    = { all = { jobs = ["*"] } }
  }
  expect_failures = [output.pipelines]
}

run "fewer_workers_at_most_than_at_least_is_refused" {
  command = plan
  variables { pipelines = { beats = { num_workers = 5, max_workers = 2 } } }
  expect_failures = [var.pipelines]
}
