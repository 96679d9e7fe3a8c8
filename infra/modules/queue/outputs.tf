output "url" {
  description = "Value of SEGUE_QUEUE."
  value       = "pubsub://${var.project}/${var.prefix}"
}

output "topics" {
  description = "Names of the topics by PIPELINE-LANE."
  value       = { for key, topic in google_pubsub_topic.lane : key => topic.name }
}

output "subscriptions" {
  description = "Names of the subscriptions by PIPELINE-LANE."
  value       = { for key, subscription in google_pubsub_subscription.lane : key => subscription.name }
}

output "dead_topics" {
  description = "Names of the dead-letter topics by pipeline."
  value       = { for name, topic in google_pubsub_topic.dead : name => topic.name }
}

output "dead_subscriptions" {
  description = "Names of the dead-letter subscriptions by pipeline."
  value       = { for name, subscription in google_pubsub_subscription.dead : name => subscription.name }
}
