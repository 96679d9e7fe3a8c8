mock_provider "google" {}

variables {
  project = "acme-segue-dev"
  region  = "europe-west1"
  prefix  = "segue"
}

run "workers_reach_google_and_each_other_and_nothing_else" {
  command = plan

  assert {
    condition     = !google_compute_network.this.auto_create_subnetworks && google_compute_subnetwork.workers.private_ip_google_access
    error_message = "There must be one subnetwork, with Private Google Access."
  }
  assert {
    condition     = google_compute_firewall.workers.source_tags == toset(["dataflow"]) && google_compute_firewall.workers.target_tags == toset(["dataflow"]) && one(google_compute_firewall.workers.allow).ports == tolist(["12345-12346"])
    error_message = "Only workers may reach workers, on Dataflow's two ports."
  }
  assert {
    condition     = output.subnetwork == "regions/europe-west1/subnetworks/segue-workers"
    error_message = "The subnetwork must be in the form that Dataflow accepts."
  }
}

run "public_addresses_are_refused" {
  command = plan
  variables { cidr = "8.8.8.0/24" }
  expect_failures = [var.cidr]
}

run "a_handful_of_addresses_is_refused" {
  command = plan
  variables { cidr = "10.0.0.0/29" }
  expect_failures = [var.cidr]
}
