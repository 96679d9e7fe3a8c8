# The alerts. Conditions select jobs and pipelines by name, so new ones are included automatically.

locals {
  channels = concat(var.channels, [for channel in google_monitoring_notification_channel.email : channel.name])
  workers  = "logging_googleapis_com:user_${local.metrics.workers}"

  alerts = {
    dead_letters = {
      title    = "dead letters"
      severity = "ERROR"
      remedy   = "A message could not be processed, and is kept with the reason. `segue failures` lists failures by kind; once the cause is fixed, `segue retry --dead-letters` sends the messages again. For events of a function (${var.prefix}-function-...-dead), read the function's log, then run `segue reconcile --apply`, and acknowledge them as the runbook says."
      conditions = {
        "a dead-letter subscription is not empty" = {
          filter = "${local.pubsub}/num_undelivered_messages\" ${local.subscriptions.dead}"
          by     = "resource.label.subscription_id", align = "ALIGN_MAX", reduce = "REDUCE_SUM", above = 0, for_s = 0
        }
      }
    }
    oldest_message = {
      title    = "messages wait too long"
      severity = "WARNING"
      remedy   = "A pipeline does not keep up, or does not run. Look at its backlog, its lag and its max_workers; `segue doctor --cloud` compares what is deployed with the graph."
      conditions = {
        "an arrival waits for longer than ${var.thresholds.arrivals_age_s} s" = {
          filter = "${local.pubsub}/oldest_unacked_message_age\" ${local.subscriptions.arrivals}"
          by     = "resource.label.subscription_id", align = "ALIGN_MAX", reduce = "REDUCE_MAX", above = var.thresholds.arrivals_age_s, for_s = 300
        }
        "a request waits for longer than ${var.thresholds.requests_age_s} s" = {
          filter = "${local.pubsub}/oldest_unacked_message_age\" ${local.subscriptions.requests}"
          by     = "resource.label.subscription_id", align = "ALIGN_MAX", reduce = "REDUCE_MAX", above = var.thresholds.requests_age_s, for_s = 300
        }
      }
    }
    stuck_pipeline = {
      title    = "a pipeline is stuck"
      severity = "CRITICAL"
      remedy   = "Look at the pipeline's errors in Dataflow. Nothing is lost: a message is acknowledged only once its result is recorded. Drain it and apply again, or roll back to the previous image."
      conditions = {
        "a pipeline's lag is above ${var.thresholds.system_lag_s} s" = {
          filter = "metric.type=\"${local.lag}/system_lag\" ${local.pipeline}"
          by     = "resource.label.job_name", align = "ALIGN_MAX", reduce = "REDUCE_MAX", above = var.thresholds.system_lag_s, for_s = 600
        }
        "a pipeline's watermark is older than ${var.thresholds.watermark_age_s} s" = {
          filter = "metric.type=\"${local.lag}/data_watermark_age\" ${local.pipeline}"
          by     = "resource.label.job_name", align = "ALIGN_MAX", reduce = "REDUCE_MAX", above = var.thresholds.watermark_age_s, for_s = 600
        }
        "a pipeline has failed" = {
          filter = "metric.type=\"${local.lag}/is_failed\" ${local.pipeline}"
          by     = "resource.label.job_name", align = "ALIGN_MAX", reduce = "REDUCE_MAX", above = 0, for_s = 0
        }
      }
    }
    function_errors = {
      title    = "functions fail"
      severity = "ERROR"
      remedy   = "Events are retried for about 15 hours and then dead-lettered, so there is time. Look at the function's log: usually the ledger or the queue is unavailable, or an identity lost a role."
      conditions = {
        "a function responds with errors" = {
          filter = "metric.type=\"run.googleapis.com/request_count\" ${local.service} metric.label.response_code_class=\"5xx\""
          by     = "resource.label.service_name", align = "ALIGN_DELTA", reduce = "REDUCE_SUM", above = var.thresholds.function_5xx, for_s = 0
        }
      }
    }
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.emails

  project      = var.project
  display_name = "Segue ${var.environment}: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
  user_labels  = var.labels
}

resource "google_monitoring_alert_policy" "threshold" {
  for_each = local.alerts

  project               = var.project
  display_name          = "Segue ${var.environment}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = local.channels
  user_labels           = var.labels

  dynamic "conditions" {
    for_each = each.value.conditions
    content {
      display_name = conditions.key
      condition_threshold {
        filter          = conditions.value.filter
        comparison      = "COMPARISON_GT"
        threshold_value = conditions.value.above
        duration        = "${conditions.value.for_s}s"
        aggregations {
          alignment_period     = "600s"
          per_series_aligner   = conditions.value.align
          cross_series_reducer = conditions.value.reduce
          group_by_fields      = [conditions.value.by]
        }
        trigger {
          count = 1
        }
      }
    }
  }

  documentation {
    subject   = "Segue ${var.environment}: ${each.value.title}"
    content   = each.value.remedy
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "${var.thresholds.auto_close_hours * 3600}s"
  }
}

# In PromQL, because log-based metrics appear only with the first matching line, and Monitoring refuses
# other conditions on a metric that does not exist yet.
resource "google_monitoring_alert_policy" "failure_ratio" {
  project               = var.project
  display_name          = "Segue ${var.environment}: many files fail"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "more than ${var.thresholds.failure_ratio * 100} % of a job's files failed within an hour"
    condition_prometheus_query_language {
      query = join(" ", [
        "sum by (job) (increase({__name__=\"${local.workers}\", action=\"failed\"}[1h]))",
        "/ sum by (job) (increase({__name__=\"${local.workers}\", action=~\"done|failed\"}[1h]))",
        "> ${var.thresholds.failure_ratio}",
        "and sum by (job) (increase({__name__=\"${local.workers}\", action=~\"done|failed\"}[1h]))",
        "> ${var.thresholds.failure_minimum}",
      ])
      duration                  = "0s"
      evaluation_interval       = "300s"
      disable_metric_validation = true
    }
  }

  documentation {
    subject   = "Segue ${var.environment}: many files fail"
    content   = "One bad file is normal; many point to a bad release or a bad delivery of files. `segue failures` shows the kinds; to roll back a new version of a job that fails, apply the previous image."
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "${var.thresholds.auto_close_hours * 3600}s"
  }
}

# A stopped schedule shows only as missing requests.
resource "google_monitoring_alert_policy" "no_sweep" {
  project               = var.project
  display_name          = "Segue ${var.environment}: nobody sweeps"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "the sweep has not succeeded for ${var.thresholds.sweep_silence_s} s"
    condition_absent {
      filter   = "metric.type=\"run.googleapis.com/request_count\" AND resource.type=\"cloud_run_revision\" AND resource.label.service_name=\"${var.prefix}-sweep\" AND metric.label.response_code_class=\"2xx\""
      duration = "${var.thresholds.sweep_silence_s}s"
      aggregations {
        alignment_period     = "600s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = ["resource.label.service_name"]
      }
      trigger {
        count = 1
      }
    }
  }

  documentation {
    subject   = "Segue ${var.environment}: nobody sweeps"
    content   = "Expired leases and lost requests are not found while the sweep does not run. Look at the schedule in Cloud Scheduler, and at the function's log."
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "${var.thresholds.auto_close_hours * 3600}s"
  }
}
