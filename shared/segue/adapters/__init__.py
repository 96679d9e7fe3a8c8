"""The only place that imports ``google.cloud`` or ``sqlite3``: one module per adapter of a port."""
