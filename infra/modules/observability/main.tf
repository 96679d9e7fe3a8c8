# What can be seen of an environment, and when somebody is told: metrics from the log (metrics.tf), a
# dashboard (dashboard.tf), alerts (alerts.tf), a budget (budget.tf).
