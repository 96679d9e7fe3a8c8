output "alert_policies" {
  description = "Titles of the alerts."
  value = concat(
    [for policy in google_monitoring_alert_policy.threshold : policy.display_name],
    [google_monitoring_alert_policy.failure_ratio.display_name, google_monitoring_alert_policy.no_sweep.display_name],
  )
}
