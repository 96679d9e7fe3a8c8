# One dashboard. Every chart has one line per job or pipeline, selected by name: a new one appears automatically.

locals {
  lag    = "dataflow.googleapis.com/job"
  logged = "logging.googleapis.com/user"
  pubsub = "metric.type=\"pubsub.googleapis.com/subscription"

  subscriptions = {
    for kind, names in {
      arrivals = "[a-z0-9_]+[.]([a-z0-9-]+[.])?(source|done-[a-z0-9_]+)"
      requests = "[a-z0-9_]+[.]inbox"
      dead     = "(dead|function-[a-z0-9]+-dead)" # of the pipelines, and of each function
    } :
    kind => "resource.type=\"pubsub_subscription\" resource.label.subscription_id=monitoring.regex.full_match(\"${var.prefix}-${names}\")"
  }
  pipeline = "resource.type=\"dataflow_job\" resource.label.job_name=monitoring.regex.full_match(\"${var.prefix}-.*\")"
  service  = "resource.type=\"cloud_run_revision\" resource.label.service_name=monitoring.regex.full_match(\"${var.prefix}-(${join("|", [for name in sort(tolist(var.functions)) : trimprefix(name, "${var.prefix}-")])})\")"

  charts = [
    { title = "Backlog of arrivals (messages)", filter = "${local.pubsub}/num_undelivered_messages\" ${local.subscriptions.arrivals}", by = "resource.label.subscription_id", align = "ALIGN_MEAN", reduce = "REDUCE_SUM" },
    { title = "Backlog of requests (messages)", filter = "${local.pubsub}/num_undelivered_messages\" ${local.subscriptions.requests}", by = "resource.label.subscription_id", align = "ALIGN_MEAN", reduce = "REDUCE_SUM" },
    { title = "Oldest unacknowledged arrival (s)", filter = "${local.pubsub}/oldest_unacked_message_age\" ${local.subscriptions.arrivals}", by = "resource.label.subscription_id", align = "ALIGN_MAX", reduce = "REDUCE_MAX" },
    { title = "Oldest unacknowledged request (s)", filter = "${local.pubsub}/oldest_unacked_message_age\" ${local.subscriptions.requests}", by = "resource.label.subscription_id", align = "ALIGN_MAX", reduce = "REDUCE_MAX" },
    { title = "Results (files per second)", filter = "metric.type=\"${local.logged}/${local.metrics.workers}\" metric.label.action=\"done\"", by = "metric.label.job", align = "ALIGN_RATE", reduce = "REDUCE_SUM" },
    { title = "Failures (files per second)", filter = "metric.type=\"${local.logged}/${local.metrics.workers}\" metric.label.action=\"failed\"", by = "metric.label.job", align = "ALIGN_RATE", reduce = "REDUCE_SUM" },
    { title = "Failures by kind (files per second)", filter = "metric.type=\"${local.logged}/${local.metrics.workers}\" metric.label.action=\"failed\"", by = "metric.label.kind", align = "ALIGN_RATE", reduce = "REDUCE_SUM" },
    { title = "Dead letters (messages)", filter = "${local.pubsub}/num_undelivered_messages\" ${local.subscriptions.dead}", by = "resource.label.subscription_id", align = "ALIGN_MAX", reduce = "REDUCE_SUM" },
    { title = "Time per file, 95th percentile (s)", filter = "metric.type=\"${local.logged}/${local.metrics.seconds}\"", by = "metric.label.job", align = "ALIGN_DELTA", reduce = "REDUCE_PERCENTILE_95" },
    { title = "System lag of a pipeline (s)", filter = "metric.type=\"${local.lag}/system_lag\" ${local.pipeline}", by = "resource.label.job_name", align = "ALIGN_MAX", reduce = "REDUCE_MAX" },
    { title = "Age of a pipeline's watermark (s)", filter = "metric.type=\"${local.lag}/data_watermark_age\" ${local.pipeline}", by = "resource.label.job_name", align = "ALIGN_MAX", reduce = "REDUCE_MAX" },
    { title = "vCPUs of a pipeline, most of its cost", filter = "metric.type=\"${local.lag}/current_num_vcpus\" ${local.pipeline}", by = "resource.label.job_name", align = "ALIGN_MEAN", reduce = "REDUCE_SUM" },
    { title = "Actions of functions (per second)", filter = "metric.type=\"${local.logged}/${local.metrics.functions}\"", by = "metric.label.action", align = "ALIGN_RATE", reduce = "REDUCE_SUM" },
    { title = "Functions' responses by class (per second)", filter = "metric.type=\"run.googleapis.com/request_count\" ${local.service}", by = "metric.label.response_code_class", align = "ALIGN_RATE", reduce = "REDUCE_SUM" },
    { title = "Functions' latency, 95th percentile (ms)", filter = "metric.type=\"run.googleapis.com/request_latencies\" ${local.service}", by = "resource.label.service_name", align = "ALIGN_DELTA", reduce = "REDUCE_PERCENTILE_95" },
  ]

  # Two per row. Zeros are left out, because Monitoring does not return them, and every plan would find
  # a change.
  places = [
    for index in range(length(local.charts) + 1) :
    { for axis, at in { xPos = (index % 2) * 6, yPos = floor(index / 2) * 4 } : axis => at if at > 0 }
  ]

  cost = <<-EOT
    **Cost**: every resource has the labels `environment` and `team`, and those of a pipeline the label `pipeline`. In *Billing
    → Reports*, group by label `pipeline` or `team`; in the billing export, `labels.key = 'pipeline'`.
  EOT
}

resource "google_monitoring_dashboard" "this" {
  project = var.project

  dashboard_json = jsonencode({
    displayName = "Segue ${var.environment}"
    mosaicLayout = {
      columns = 12
      tiles = concat(
        [for index, chart in local.charts : merge(local.places[index], {
          width  = 6
          height = 4
          widget = {
            title = chart.title
            xyChart = {
              dataSets = [{
                plotType       = "LINE"
                targetAxis     = "Y1"
                legendTemplate = "$${${replace(chart.by, ".label.", ".labels.")}}"
                timeSeriesQuery = {
                  timeSeriesFilter = {
                    filter = chart.filter
                    aggregation = {
                      alignmentPeriod    = "300s"
                      perSeriesAligner   = chart.align
                      crossSeriesReducer = chart.reduce
                      groupByFields      = [chart.by]
                    }
                  }
                }
              }]
              yAxis = { scale = "LINEAR" }
            }
          }
        })],
        [merge(local.places[length(local.charts)], {
          width  = 6
          height = 4
          widget = {
            title = "Cost"
            text  = { content = local.cost, format = "MARKDOWN" }
          }
        })],
      )
    }
  })
}
