"""Drawings of the graph: as a tree for terminals, as Mermaid and as SVG for pages."""
