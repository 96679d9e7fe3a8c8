"""Opens the graph, the ledger and the artifact store of the settings together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.adapters.connect import connect_ledger, connect_store, open_ledger_to_read
from segue.model.settings import Settings
from segue.model.shipped_graphs import DEFAULT_PATH

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.model.ledger import Ledger
    from segue.model.object_store import ObjectStore


def load_graph(settings: Settings) -> Graph:
    """Load the graph that the settings name, or the one that ships with Segue."""
    return settings.load_graph(DEFAULT_PATH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A graph, with the ledger and the artifact store that hold its results."""

    settings: Settings
    graph: Graph
    ledger: Ledger
    artifacts: ObjectStore


@contextlib.contextmanager
def open_stack(
    settings: Settings, *, graph: Graph | None = None, create: bool = True
) -> Iterator[Stack]:
    """Open the graph, the ledger and the artifact store of the settings, and close them at the end.

    Without ``create``, a ledger that does not exist yet is empty, and is not created.
    """
    graph = load_graph(settings) if graph is None else graph
    with contextlib.ExitStack() as opened:
        connect = connect_ledger if create else open_ledger_to_read
        ledger = connect(settings.ledger, graph.namespace)
        opened.callback(ledger.close)
        artifacts = connect_store(graph.artifacts)
        opened.callback(artifacts.close)
        yield Stack(settings=settings, graph=graph, ledger=ledger, artifacts=artifacts)
