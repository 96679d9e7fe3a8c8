# Metrics from the log: one line per event, with an action from a closed vocabulary.

locals {
  # As in shared/segue/log.py, except started and stopped, which are about a process, and what jobs say.
  actions = {
    functions = ["arrived", "ignored", "malformed", "deleted", "requested", "swept", "damaged", "unavailable", "misconfigured"]
    workers = [
      "done", "failed", "blocked", "not_applicable", "deferred", "lost", "forwarded", "asked", "waiting",
      "dropped", "pinged", "dead_lettered", "recomputed", "left_out", "damaged", "unavailable", "misconfigured",
    ]
  }

  # Cloud Run parses a line of JSON; Dataflow stores it as text.
  from_functions = join(" AND ", [
    "resource.type=\"cloud_run_revision\"",
    "resource.labels.service_name=~\"^${var.prefix}-(${join("|", [for name in sort(tolist(var.functions)) : trimprefix(name, "${var.prefix}-")])})$\"",
    "jsonPayload.action=~\"^(${join("|", local.actions.functions)})$\"",
  ])
  from_workers = join(" AND ", [
    "resource.type=\"dataflow_step\"",
    "resource.labels.job_name=~\"^${var.prefix}-\"",
    "jsonPayload.message=~\"\\\"action\\\": ?\\\"(${join("|", local.actions.workers)})\\\"\"",
  ])

  # The value of a field in a line of JSON that is stored as text.
  in_text = {
    for field in ["action", "job", "kind"] :
    field => "REGEXP_EXTRACT(jsonPayload.message, \"\\\"${field}\\\": ?\\\"([^\\\"]*)\\\"\")"
  }

  metrics = {
    functions = "${replace(var.prefix, "-", "_")}_function_actions"
    workers   = "${replace(var.prefix, "-", "_")}_worker_actions"
    seconds   = "${replace(var.prefix, "-", "_")}_job_seconds"
  }
}

resource "google_logging_metric" "functions" {
  project     = var.project
  name        = local.metrics.functions
  description = "Actions of Segue's functions"
  filter      = local.from_functions

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "Segue function actions"

    labels {
      key         = "action"
      value_type  = "STRING"
      description = "From the closed vocabulary of shared/segue/log.py"
    }
  }

  label_extractors = {
    action = "EXTRACT(jsonPayload.action)"
  }
}

resource "google_logging_metric" "workers" {
  project     = var.project
  name        = local.metrics.workers
  description = "Actions of Segue's streaming pipelines, by job and kind of failure"
  filter      = local.from_workers

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "Segue worker actions"

    labels {
      key         = "action"
      value_type  = "STRING"
      description = "From the closed vocabulary of shared/segue/log.py"
    }
    labels {
      key         = "job"
      value_type  = "STRING"
      description = "The job of the graph"
    }
    labels {
      key         = "kind"
      value_type  = "STRING"
      description = "The kind of failure, from shared/segue/errors.py"
    }
  }

  label_extractors = local.in_text
}

# How long a job takes for a file. Only results count; failures would distort it.
resource "google_logging_metric" "seconds" {
  project         = var.project
  name            = local.metrics.seconds
  description     = "Seconds per file, by job"
  filter          = "${local.from_workers} AND jsonPayload.message=~\"\\\"action\\\": ?\\\"done\\\"\""
  value_extractor = "REGEXP_EXTRACT(jsonPayload.message, \"\\\"seconds\\\": ?([0-9.]+)\")"

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "DISTRIBUTION"
    unit         = "s"
    display_name = "Segue seconds per file"

    labels {
      key         = "job"
      value_type  = "STRING"
      description = "The job of the graph"
    }
  }

  bucket_options {
    exponential_buckets { # 10 ms to 80 minutes
      num_finite_buckets = 40
      growth_factor      = 1.4
      scale              = 0.01
    }
  }

  label_extractors = {
    job = local.in_text["job"]
  }
}
