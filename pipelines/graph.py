"""The graph that ships with Segue."""

from __future__ import annotations

import os

from shared.graph import Graph
from shared.settings import Settings

SHIPPED = os.path.join(os.path.dirname(__file__), "jobs", "jobs.yaml")


def load_graph(settings: Settings) -> Graph:
    """Load the graph that the settings mean, or the one that ships with Segue."""
    return settings.load_graph(SHIPPED)
