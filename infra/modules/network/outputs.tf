output "subnetwork" {
  description = "The workers' subnetwork, in the form that Dataflow takes."
  value       = "regions/${var.region}/subnetworks/${google_compute_subnetwork.workers.name}"
}
