"""Puts a function together: settings, graph, ledger, queue and stores, once a process.

The parts connect when they are first used. That must be in the process that serves: the framework
imports a function, and forks then.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.errors import SegueError
from segue.ingest.arrivals import Arrivals, Intake
from segue.ingest.deletions import Deletions
from segue.ingest.requests import Requests
from segue.ingest.sweep import Sweeper
from segue.log import LOGGER, Action, configure, say
from segue.model.graph import Graph
from segue.model.ledger import Ledger
from segue.model.location import location_of
from segue.model.object_store import ObjectStore
from segue.model.queue import Queue
from segue.model.settings import Settings

Part = Literal["ledger", "queue", "artifacts"]
# In an archive the graph lies beside main.py, whatever folder the function is started in.
PACKAGED_GRAPH = os.path.join(os.path.dirname(os.path.dirname(__file__)), "jobs.yaml")
SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What the functions work with."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    artifacts: ObjectStore
    intake: Intake
    arrivals: Arrivals
    deletions: Deletions
    requests: Requests
    sweeper: Sweeper

    def close(self) -> None:
        """Let go of connections and files."""
        self.queue.close()
        self.ledger.close()
        self.artifacts.close()


def build(settings: Settings) -> Stack:
    """Put a stack together; its logs go to standard output, unless somebody has said otherwise."""
    if not LOGGER.handlers:
        configure()
    graph = settings.load_graph(_packaged_graph())
    intake = intake_of(graph, settings)
    artifacts = connect_store(location_of(graph.artifacts))
    ledger = connect_ledger(settings.ledger)
    try:
        queue = connect_queue(settings.queue)
    except BaseException:
        ledger.close()
        raise
    removes = settings.on_deletion == "remove"
    return Stack(
        graph=graph,
        ledger=ledger,
        queue=queue,
        artifacts=artifacts,
        intake=intake,
        arrivals=Arrivals(graph=graph, ledger=ledger, queue=queue),
        deletions=Deletions(ledger=ledger, artifacts=artifacts if removes else None),
        requests=Requests(
            graph=graph,
            ledger=ledger,
            queue=queue,
            intake=intake,
            open_store=connect_store,
            artifacts=artifacts,
        ),
        sweeper=Sweeper(graph=graph, ledger=ledger, queue=queue),
    )


def intake_of(graph: Graph, settings: Settings) -> Intake:
    """Which objects are media of a graph's catalogue; nothing that Segue itself writes is."""
    intake = Intake.of(
        graph,
        catalogue=location_of(graph.catalogue) if graph.catalogue else None,
        ours=(location_of(graph.artifacts), location_of(".segue")),
    )
    # A database in a catalogue without suffixes would call for itself with each of its writes; its
    # log lies beside it, under a longer name.
    files = tuple(
        location_of(url.removeprefix(SQLITE))
        for url in (settings.ledger, settings.queue)
        if url.startswith(SQLITE)
    )
    return dataclasses.replace(intake, not_below=(*intake.not_below, *files))


def _packaged_graph() -> str | None:
    return PACKAGED_GRAPH if os.path.exists(PACKAGED_GRAPH) else None


class _Once:
    """A stack that is built at its first use, by one of the threads that want it."""

    def __init__(self, build: Callable[[], Stack]) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._stack: Stack | None = None

    def get(self) -> Stack:
        with self._lock:  # what could not be built is tried again by the next event
            if self._stack is None:
                self._stack = self._build()
            return self._stack

    def close(self) -> None:
        with self._lock:
            if self._stack is not None:
                self._stack.close()
            self._stack = None


_once = _Once(lambda: build(Settings.of()))


def current() -> Stack:
    """Return the stack of this process."""
    return _once.get()


def close() -> None:
    """Close the stack of this process; a later event builds another."""
    _once.close()


def warm(*parts: Part) -> None:
    """Import, on Cloud Functions, what the first event would: starting up has more CPU than events.

    What is wrong with the set-up is told, and told again by each event until it is repaired.
    """
    if not os.environ.get("K_SERVICE"):
        return
    from segue.adapters.client_imports import preload

    try:
        settings = Settings.of()
        graph = settings.load_graph(_packaged_graph())
    except SegueError as error:
        configure()
        say(Action.MISCONFIGURED, severity="ERROR", error=str(error))
        return
    urls = {"ledger": settings.ledger, "queue": settings.queue, "artifacts": graph.artifacts}
    preload(urls[part] for part in parts)
