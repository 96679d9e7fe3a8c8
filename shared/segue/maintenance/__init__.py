"""Repair and clean up: reconcile, retry, replay dead letters, collect garbage."""
