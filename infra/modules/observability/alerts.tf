# When somebody is told. Conditions find their jobs by name, so a job that is added is watched by itself.

locals {
  channels = concat(var.channels, [for channel in google_monitoring_notification_channel.email : channel.name])
  workers  = "logging_googleapis_com:user_${local.metrics.workers}"

  alerts = {
    dead_letters = {
      title    = "dead letters"
      severity = "ERROR"
      remedy   = "Something could not be worked on, and was put aside with its reason. `segue failures` lists what failed by kind; once the cause is mended, `segue retry` runs it again. Then acknowledge the letters."
      conditions = {
        "a dead-letter subscription is not empty" = {
          filter = "${local.pubsub}/num_undelivered_messages\" ${local.lane.dead}"
          by     = "resource.label.subscription_id", align = "ALIGN_MAX", reduce = "REDUCE_SUM", above = 0, for_s = 0
        }
      }
    }
    oldest_message = {
      title    = "messages wait too long"
      severity = "WARNING"
      remedy   = "A job does not keep up, or does not run. Look at its backlog, at the lag of its pipeline and at max_workers; `segue doctor --cloud` compares what is deployed with the graph."
      conditions = {
        "an arrival waits for longer than ${var.thresholds.live_age_s} s" = {
          filter = "${local.pubsub}/oldest_unacked_message_age\" ${local.lane.live}"
          by     = "resource.label.subscription_id", align = "ALIGN_MAX", reduce = "REDUCE_MAX", above = var.thresholds.live_age_s, for_s = 300
        }
        "a request waits for longer than ${var.thresholds.requests_age_s} s" = {
          filter = "${local.pubsub}/oldest_unacked_message_age\" ${local.lane.requests}"
          by     = "resource.label.subscription_id", align = "ALIGN_MAX", reduce = "REDUCE_MAX", above = var.thresholds.requests_age_s, for_s = 300
        }
      }
    }
    stuck_pipeline = {
      title    = "a pipeline is stuck"
      severity = "CRITICAL"
      remedy   = "Look at the job's errors in Dataflow. Nothing is lost: what is not recorded is not acknowledged. Drain it and apply again, or roll back to the image before."
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
      remedy   = "Events are tried again for hours and then put aside, so there is time. Look at the function's log: most often the ledger or the queue is away, or an identity lost a role."
      conditions = {
        "a function answers with errors" = {
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

# In PromQL, since the logged metrics appear only with the first line that is logged, and a condition
# on a metric that is not there would be refused.
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
    content   = "One bad file is normal, many are a bad release or a bad delivery. `segue failures` shows the kinds; a new version of a job that fails is rolled back by applying the image before."
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "${var.thresholds.auto_close_hours * 3600}s"
  }
}

# A schedule that stopped is seen only by what is missing.
resource "google_monitoring_alert_policy" "no_sweep" {
  project               = var.project
  display_name          = "Segue ${var.environment}: nobody sweeps"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "the sweep has not answered well for ${var.thresholds.sweep_silence_s} s"
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
    content   = "Leases that expired and requests that were lost are not found again while nobody sweeps. Look at the schedule in Cloud Scheduler, and at the function's log."
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "${var.thresholds.auto_close_hours * 3600}s"
  }
}
