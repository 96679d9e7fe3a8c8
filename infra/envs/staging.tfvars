# As production is built, but small: a release is tried here as it will run there.

project     = "acme-segue-staging"
region      = "europe-west1"
environment = "staging"

protected = false # it is rebuilt from nothing now and then, which tries the runbook, too

pipeline_defaults = {
  max_workers = 3
}

sweep_schedule = "*/15 * * * *"

alerts = {
  emails = ["audio-platform@example.com"]
}
