# Cheap: everything scales to zero except one small worker per pipeline, and all of it may be deleted.

project     = "acme-segue-dev"
region      = "europe-west1"
environment = "dev"

protected = false

ledger = {
  point_in_time_recovery = false
}

catalogue = {
  soft_delete_days = 7
}

artifacts = {
  soft_delete_days = 0
}

pipeline_defaults = {
  max_workers = 2
}

sweep_schedule = "0 * * * *" # hourly

alerts = {
  thresholds = {
    arrivals_age_s  = 21600
    sweep_silence_s = 14400
  }
}
