"""Answer questions: progress, explanations, failures, lineage, estimates."""
