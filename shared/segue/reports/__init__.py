"""Reports on the ledger: progress, explanations, failures, lineage, estimates."""
