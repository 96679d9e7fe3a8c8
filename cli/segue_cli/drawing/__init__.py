"""Draws the graph: as a tree for terminals, and as Mermaid or SVG for pages."""
