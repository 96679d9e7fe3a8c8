output "dashboard" {
  description = "Id of the dashboard."
  value       = google_monitoring_dashboard.this.id
}

output "metrics" {
  description = "Names of the log-based metrics."
  value       = local.metrics
}

output "actions" {
  description = "The actions that are counted, with the names of shared/segue/log.py."
  value       = local.actions
}

output "alert_policies" {
  description = "Titles of the alerts."
  value = concat(
    [for policy in google_monitoring_alert_policy.threshold : policy.display_name],
    [google_monitoring_alert_policy.failure_ratio.display_name, google_monitoring_alert_policy.no_sweep.display_name],
  )
}
