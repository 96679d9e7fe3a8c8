"""What a command works with: the settings, the stack that they choose, and where its results go."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.empty_ledger import ledger_exists, ledger_to_read
from pipelines.graph import load_graph
from shared.adapters.connect import connect_ledger, connect_store
from shared.settings import Settings

if TYPE_CHECKING:
    from pipelines.cli.output import Output
    from shared.graph import Graph
    from shared.ledger import Ledger
    from shared.store import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A graph, with the ledger and the store that keep its results."""

    settings: Settings
    graph: Graph
    ledger: Ledger
    artifacts: ObjectStore


@dataclass(frozen=True, kw_only=True)
class Context:
    """What each command gets in place of the options that all of them share."""

    settings: Settings
    output: Output

    @functools.cached_property
    def graph(self) -> Graph:
        """The graph that the settings mean."""
        return load_graph(self.settings)

    @contextlib.contextmanager
    def open(self, *, create: bool = False) -> Iterator[Stack]:
        """Open the stack; with ``create``, a ledger that does not exist yet is made."""
        if not create and not ledger_exists(self.settings.ledger):
            self.output.note(
                f"There is no ledger {self.settings.ledger} yet; nothing was recorded."
            )
        with open_stack(self.settings, graph=self.graph, create=create) as stack:
            yield stack


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
