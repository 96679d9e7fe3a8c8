# Safe: no data can be deleted by accident, and alerts are sent.

project     = "acme-segue-prod"
region      = "europe-west1"
environment = "prod"

protected = true

ledger = {
  point_in_time_recovery = true
  backup_kept_days       = 28
}

catalogue = {
  soft_delete_days = 90
}

artifacts = {
  soft_delete_days = 14
}

functions = {
  arrival = { min_instances = 1, max_instances = 40 }
}

pipeline_defaults = {
  num_workers = 2
  max_workers = 20
}

sweep_schedule = "*/5 * * * *"

requesters = ["group:audio-curators@example.com"]
operators  = ["group:audio-platform@example.com"]

alerts = {
  emails = ["audio-oncall@example.com"]
  thresholds = {
    arrivals_age_s  = 1800
    failure_ratio   = 0.02
    sweep_silence_s = 1800
  }
}

budget = {
  billing_account = "012345-6789AB-CDEF01"
  amount          = 8000
  shares          = [0.5, 0.8, 1.0]
}
