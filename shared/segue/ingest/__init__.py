"""Ingest: record arrivals and deletions, accept requests, and sweep up unfinished work."""
