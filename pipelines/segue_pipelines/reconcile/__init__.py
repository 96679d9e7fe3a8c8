"""The catalogue's listing held against the ledger, for events that never came."""
