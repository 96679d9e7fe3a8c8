"""Renders results as text, tables and JSON."""
