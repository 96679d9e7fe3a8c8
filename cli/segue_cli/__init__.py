"""The ``segue`` command: one module per command."""
