# A network for the workers alone. They have no public address, and there is no NAT: they reach
# Google's services by Private Google Access, and nothing else.

resource "google_compute_network" "this" {
  project                         = var.project
  name                            = var.prefix
  description                     = "Workers of Segue's pipelines"
  auto_create_subnetworks         = false
  delete_default_routes_on_create = false # Private Google Access uses the default route
  routing_mode                    = "REGIONAL"
}

resource "google_compute_subnetwork" "workers" {
  #checkov:skip=CKV_GCP_76:The network has no IPv6.
  project                  = var.project
  region                   = var.region
  name                     = "${var.prefix}-workers"
  network                  = google_compute_network.this.id
  ip_cidr_range            = var.cidr
  private_ip_google_access = true
  stack_type               = "IPV4_ONLY"

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = 0.1
    metadata             = "EXCLUDE_ALL_METADATA"
  }
}

# Workers exchange data with each other when a batch pipeline shuffles; Dataflow tags them dataflow.
resource "google_compute_firewall" "workers" {
  project     = var.project
  name        = "${var.prefix}-workers"
  network     = google_compute_network.this.id
  description = "Dataflow workers can reach each other, and nothing else can reach them"
  direction   = "INGRESS"
  source_tags = ["dataflow"]
  target_tags = ["dataflow"]

  allow {
    protocol = "tcp"
    ports    = ["12345-12346"]
  }
}
