mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789" }
  }
}

variables {
  project     = "acme-segue-dev"
  environment = "dev"
  prefix      = "segue"
  functions   = ["segue-arrival", "segue-sweep"]
}

run "metrics_are_made_from_the_closed_vocabulary" {
  command = plan

  assert {
    condition     = google_logging_metric.workers.name == "segue_worker_actions" && toset(keys(google_logging_metric.workers.label_extractors)) == toset(["action", "job", "kind"])
    error_message = "Workers' actions must be counted by job and kind."
  }
  assert {
    condition     = google_logging_metric.workers.label_extractors["kind"] == "REGEXP_EXTRACT(jsonPayload.message, \"\\\"kind\\\": ?\\\"([^\\\"]*)\\\"\")"
    error_message = "On Dataflow a line is text, so fields must be extracted from it."
  }
  assert {
    condition     = strcontains(google_logging_metric.functions.filter, "jsonPayload.action=~\"^(arrived|ignored|malformed|deleted|requested|swept|damaged|unavailable|misconfigured)$\"")
    error_message = "On Cloud Run a line is an object, so its fields must be compared."
  }
  assert {
    condition     = alltrue([for metric in [google_logging_metric.workers, google_logging_metric.functions] : one(metric.metric_descriptor).metric_kind == "DELTA" && one(metric.metric_descriptor).value_type == "INT64"])
    error_message = "A counter must be DELTA and INT64."
  }
  assert {
    condition     = alltrue([for metric in [google_logging_metric.workers, google_logging_metric.functions, google_logging_metric.seconds] : toset([for label in one(metric.metric_descriptor).labels : label.key]) == toset(keys(metric.label_extractors))])
    error_message = "Every label needs an extractor, and every extractor a label."
  }
}

run "every_fault_has_an_alert" {
  command = plan

  assert {
    condition = toset(output.alert_policies) == toset([
      "Segue dev: dead letters", "Segue dev: functions fail", "Segue dev: messages wait too long",
      "Segue dev: a pipeline is stuck", "Segue dev: many files fail", "Segue dev: nobody sweeps",
    ])
    error_message = "There must be an alert for each kind of fault."
  }
  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.threshold : alltrue([for condition in policy.conditions : can(regex("resource.type=\"", one(condition.condition_threshold).filter))])])
    error_message = "Monitoring accepts no condition without a resource type."
  }
  assert {
    condition     = min(var.thresholds.system_lag_s, var.thresholds.watermark_age_s) > var.thresholds.requests_age_s
    error_message = "Lag and watermark cover arrivals and requests: a large request may wait, and must not be mistaken for a stuck pipeline."
  }
  assert {
    condition     = alltrue([for policy in google_monitoring_alert_policy.threshold : length(one(policy.documentation).content) > 80])
    error_message = "An alert must say what to do."
  }
}

run "the_dashboard_has_no_hole_and_no_overlap" {
  command = plan

  assert {
    condition     = length(distinct([for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : "${try(tile.xPos, 0)} ${try(tile.yPos, 0)}"])) == 16
    error_message = "Every tile must have its own place."
  }
  assert {
    condition     = alltrue([for tile in jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles : can(tile.widget.text) || startswith(try(tile.widget.xyChart.dataSets[0].legendTemplate, ""), "$")])
    error_message = "A line's legend must be its job, function or pipeline."
  }
}

run "addresses_become_channels_and_there_is_a_budget" {
  command = plan
  variables {
    emails   = ["oncall@example.com"]
    channels = ["projects/acme/notificationChannels/1"]
    budget   = { billing_account = "012345-6789AB-CDEF01", amount = 500, currency = "EUR" }
  }

  assert {
    condition     = google_monitoring_notification_channel.email["oncall@example.com"].labels == tomap({ email_address = "oncall@example.com" })
    error_message = "Each address must become a channel."
  }
  assert {
    condition     = one(google_billing_budget.this[0].budget_filter).projects == toset(["projects/123456789"]) && one(one(google_billing_budget.this[0].amount).specified_amount).units == "500"
    error_message = "The budget must be for this project."
  }
  assert {
    condition     = [for rule in google_billing_budget.this[0].threshold_rules : "${rule.threshold_percent} ${rule.spend_basis}"] == ["0.5 CURRENT_SPEND", "0.9 CURRENT_SPEND", "1 CURRENT_SPEND", "1 FORECASTED_SPEND"]
    error_message = "The budget must notify at half, most and all of it, and of a forecast above it."
  }
}

run "without_an_account_there_is_no_budget" {
  command = plan

  assert {
    condition     = length(google_billing_budget.this) == 0 && length(data.google_project.this) == 0
    error_message = "Without a billing account, there must be no budget."
  }
}

run "an_address_without_a_domain_is_refused" {
  command = plan
  variables { emails = ["oncall"] }
  expect_failures = [var.emails]
}

run "an_invalid_channel_is_refused" {
  command = plan
  variables { channels = ["pager"] }
  expect_failures = [var.channels]
}

run "a_percentage_is_no_ratio" {
  command = plan
  variables { thresholds = { failure_ratio = 5 } }
  expect_failures = [var.thresholds]
}

run "a_silence_of_two_days_is_refused" {
  command = plan
  variables { thresholds = { sweep_silence_s = 172800 } }
  expect_failures = [var.thresholds]
}

run "an_age_of_seconds_is_refused" {
  command = plan
  variables { thresholds = { arrivals_age_s = 10 } }
  expect_failures = [var.thresholds]
}

run "an_invalid_billing_account_is_refused" {
  command = plan
  variables { budget = { billing_account = "acme", amount = 500 } }
  expect_failures = [var.budget]
}

run "half_a_unit_is_no_budget" {
  command = plan
  variables { budget = { billing_account = "012345-6789AB-CDEF01", amount = 0.5 } }
  expect_failures = [var.budget]
}

run "a_currency_in_words_is_refused" {
  command = plan
  variables { budget = { billing_account = "012345-6789AB-CDEF01", amount = 500, currency = "euro" } }
  expect_failures = [var.budget]
}
