"""Compares the catalogue with the ledger, and repairs the effect of lost events."""
