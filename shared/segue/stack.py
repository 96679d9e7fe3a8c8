"""The stack that the settings name: the graph, the ledger and the artifacts, opened together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.adapters.connect import connect_ledger, connect_store
from segue.adapters.empty_ledger import ledger_to_read
from segue.model.settings import Settings

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.model.ledger import Ledger
    from segue.model.object_store import ObjectStore

SHIPPED = os.path.join(os.path.dirname(__file__), "features", "jobs.yaml")


def load_graph(settings: Settings) -> Graph:
    """Load the graph that the settings mean, or the one that ships with Segue."""
    return settings.load_graph(SHIPPED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A graph, with the ledger and the store that keep its results."""

    settings: Settings
    graph: Graph
    ledger: Ledger
    artifacts: ObjectStore


@contextlib.contextmanager
def open_stack(
    settings: Settings, *, graph: Graph | None = None, create: bool = True
) -> Iterator[Stack]:
    """Open the graph, the ledger and the artifacts that settings mean, and close them again.

    Without ``create``, a ledger that does not exist yet is empty, and stays unmade.
    """
    graph = load_graph(settings) if graph is None else graph
    with contextlib.ExitStack() as opened:
        ledger = connect_ledger(settings.ledger) if create else ledger_to_read(settings.ledger)
        opened.callback(ledger.close)
        artifacts = connect_store(graph.artifacts)
        opened.callback(artifacts.close)
        yield Stack(settings=settings, graph=graph, ledger=ledger, artifacts=artifacts)
