# Built like production, but small: releases are tested here as they will run there.

project     = "acme-segue-staging"
region      = "europe-west1"
environment = "staging"

protected = false # it is rebuilt from scratch now and then, which also tests the runbook

pipeline_defaults = {
  max_workers = 3
}

sweep_schedule = "*/15 * * * *"

alerts = {
  emails = ["audio-platform@example.com"]
}
