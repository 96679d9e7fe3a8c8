output "dashboard" {
  description = "Id of the dashboard."
  value       = google_monitoring_dashboard.this.id
}

output "metrics" {
  description = "Names of the metrics that are made from the log."
  value       = local.metrics
}

output "actions" {
  description = "The actions that are counted, as shared/segue/log.py names them."
  value       = local.actions
}

output "alert_policies" {
  description = "Titles of the alerts."
  value = concat(
    [for policy in google_monitoring_alert_policy.threshold : policy.display_name],
    [google_monitoring_alert_policy.failure_ratio.display_name, google_monitoring_alert_policy.no_sweep.display_name],
  )
}
