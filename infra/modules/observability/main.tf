# Monitoring of an environment: metrics from the log (metrics.tf), a dashboard (dashboard.tf), alerts
# (alerts.tf), a budget (budget.tf).
