output "topic" {
  description = "Id of the topic that the schedule publishes to."
  value       = google_pubsub_topic.this.id
}

output "topic_name" {
  description = "Name of the topic that the schedule publishes to."
  value       = google_pubsub_topic.this.name
}
