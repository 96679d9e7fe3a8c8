"""The only place that imports ``google.cloud`` or ``sqlite3``: one module an adapter of a port."""
