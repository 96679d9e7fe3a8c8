output "url" {
  description = "Value of SEGUE_LEDGER."
  value       = "firestore://${var.project}/${google_firestore_database.ledger.name}"
}

output "database" {
  description = "Name of the database, for IAM conditions."
  value       = google_firestore_database.ledger.name
}
