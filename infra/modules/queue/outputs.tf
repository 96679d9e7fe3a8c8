output "url" {
  description = "Value of SEGUE_QUEUE."
  value       = "pubsub://${var.project}/${var.prefix}"
}

output "topics" {
  description = "Names of the topics in Pub/Sub, by their names in the graph."
  value       = { for key, topic in google_pubsub_topic.this : key => topic.name }
}

output "subscriptions" {
  description = "Names of the subscriptions in Pub/Sub, by their names in the graph."
  value       = { for key, subscription in google_pubsub_subscription.this : key => subscription.name }
}
