"""The services of a function: graph, ledger, queue and stores, built once per process.

They connect when they are first used. That must be in the process that serves: the framework
imports a function, and forks then.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.errors import SegueError
from segue.ingest.arrivals import Arrivals
from segue.ingest.deletions import Deletions
from segue.ingest.media_filter import MediaFilter, build_media_filter
from segue.ingest.requests import Requests
from segue.ingest.sweep import Sweeper
from segue.log import LOGGER, Action, configure, log_event
from segue.model.graph import Graph
from segue.model.ledger import Ledger
from segue.model.location import parse_location
from segue.model.object_store import ObjectStore
from segue.model.queue import Queue
from segue.model.settings import Settings

Part = Literal["ledger", "queue", "artifacts"]
# In an archive the graph is beside main.py, whatever folder the function is started in.
PACKAGED_GRAPH = os.path.join(os.path.dirname(os.path.dirname(__file__)), "jobs.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services that the functions use."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    artifacts: ObjectStore
    media_filter: MediaFilter
    arrivals: Arrivals
    deletions: Deletions
    requests: Requests
    sweeper: Sweeper

    def close(self) -> None:
        """Close connections and files."""
        self.queue.close()
        self.ledger.close()
        self.artifacts.close()


def build_services(settings: Settings) -> Services:
    """Build the services; their logs go to standard output unless a handler is configured."""
    if not LOGGER.handlers:
        configure()
    graph = settings.load_graph(_find_packaged_graph())
    media_filter = build_media_filter(graph, settings)
    artifacts = connect_store(parse_location(graph.artifacts))
    ledger = connect_ledger(settings.ledger)
    try:
        queue = connect_queue(settings.queue)
    except BaseException:
        ledger.close()
        raise
    removes = settings.on_deletion == "remove"
    return Services(
        graph=graph,
        ledger=ledger,
        queue=queue,
        artifacts=artifacts,
        media_filter=media_filter,
        arrivals=Arrivals(graph=graph, ledger=ledger, queue=queue),
        deletions=Deletions(ledger=ledger, artifacts=artifacts if removes else None),
        requests=Requests(
            graph=graph,
            ledger=ledger,
            queue=queue,
            media_filter=media_filter,
            open_store=connect_store,
            artifacts=artifacts,
        ),
        sweeper=Sweeper(graph=graph, ledger=ledger, queue=queue),
    )


def _find_packaged_graph() -> str | None:
    return PACKAGED_GRAPH if os.path.exists(PACKAGED_GRAPH) else None


class _LazyServices:
    """Builds the services at their first use, in one of the threads that need them."""

    def __init__(self, build: Callable[[], Services]) -> None:
        self._build = build
        self._lock = threading.Lock()
        self._services: Services | None = None

    def get(self) -> Services:
        with self._lock:  # after an error the next event tries again
            if self._services is None:
                self._services = self._build()
            return self._services

    def close(self) -> None:
        with self._lock:
            if self._services is not None:
                self._services.close()
            self._services = None


_lazy = _LazyServices(lambda: build_services(Settings.load()))


def get_services() -> Services:
    """Return the services of this process."""
    return _lazy.get()


def close() -> None:
    """Close the services of this process; a later event builds them anew."""
    _lazy.close()


def warm(*parts: Part) -> None:
    """Import clients ahead of the first event on Cloud Functions, which has more CPU at startup.

    A wrong set-up is logged, here and by each event, until it is corrected.
    """
    if not os.environ.get("K_SERVICE"):
        return
    from segue.adapters.client_imports import preload

    try:
        settings = Settings.load()
        graph = settings.load_graph(_find_packaged_graph())
    except SegueError as error:
        configure()
        log_event(Action.MISCONFIGURED, severity="ERROR", error=str(error))
        return
    urls = {"ledger": settings.ledger, "queue": settings.queue, "artifacts": graph.artifacts}
    preload(urls[part] for part in parts)
