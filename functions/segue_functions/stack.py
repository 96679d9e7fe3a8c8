"""The services of a function: graph, ledger, queue and stores, built once per process.

They connect when they are first used. That must be in the process that serves: the framework
imports a function, and forks then.
"""

from __future__ import annotations

import functools
import os
import threading
from dataclasses import dataclass
from typing import Literal

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.errors import SegueError
from segue.ingest.catalogue import MediaFilter, build_media_filter
from segue.ingest.events import Arrivals, Deletions
from segue.ingest.requests import Requests
from segue.ingest.sweep import Sweeper
from segue.log import LOGGER, Action, configure, log_event
from segue.model.graph import Graph
from segue.model.ledger import Ledger
from segue.model.media_file import parse_location
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
    ledger = connect_ledger(settings.ledger, graph.namespace)
    try:
        queue = connect_queue(settings.queue, graph)
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
        deletions=Deletions(
            graph=graph, ledger=ledger, queue=queue, artifacts=artifacts if removes else None
        ),
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


_lock = threading.Lock()


@functools.cache  # only what was built: after an error the next event tries again
def _build_once() -> Services:
    return build_services(Settings.load())


def get_services() -> Services:
    """Return the services of this process."""
    with _lock:  # functions run in several threads
        return _build_once()


def close() -> None:
    """Close the services of this process; a later event builds them anew."""
    with _lock:
        if _build_once.cache_info().currsize:
            _build_once().close()
        _build_once.cache_clear()


def warm(*parts: Part) -> None:
    """Import clients ahead of the first event on Cloud Functions, which has more CPU at startup.

    A wrong set-up is logged, here and by each event, until it is corrected.
    """
    if not os.environ.get("K_SERVICE"):
        return
    from segue.adapters.connect import preload_clients

    try:
        settings = Settings.load()
        graph = settings.load_graph(_find_packaged_graph())
    except SegueError as error:
        configure()
        log_event(Action.MISCONFIGURED, severity="ERROR", error=str(error))
        return
    urls = {"ledger": settings.ledger, "queue": settings.queue, "artifacts": graph.artifacts}
    preload_clients(urls[part] for part in parts)
