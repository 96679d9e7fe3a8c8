"""A deployed environment, held against the graph: what Terraform should have made is there."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

from segue.adapters.cloud_inventory import QueueContents, index_faults, queue_contents
from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError
from segue.ingest.requests import FOLDER as REQUESTS
from segue.model.graph import Graph
from segue.model.queue import dead_topic, topics_of
from segue.model.settings import SETTINGS, Settings
from segue.stack import load_graph
from segue_cli.health_checks.check import Look, Seen, Status

T = TypeVar("T")

# Setting → what the cloud form of its URL begins with.
CLOUD = {
    "catalogue": "gs://",
    "artifacts": "gs://",
    "ledger": "firestore://",
    "queue": "pubsub://",
}
SWEEP = "sweep"  # the topic of the schedule
REMEDY = "apply the Terraform of this graph to this environment"
SHOWN = 8  # names in one message
MANY = 1000


def cloud(settings: Settings) -> Iterator[Look]:
    """Look at each part; a graph that cannot be read is told by who looks at places."""
    group = "cloud"
    try:
        graph = load_graph(settings)
    except ConfigurationError:
        return
    yield Look(group, "settings", partial(_settings, settings, graph))
    if settings.queue.startswith(CLOUD["queue"]):
        contents = _once(partial(queue_contents, settings.queue))
        yield Look(group, "topics", lambda: _topics(graph, contents()))
        yield Look(group, "subscriptions", lambda: _subscriptions(graph, contents()))
        yield Look(group, "former jobs", lambda: _former(graph, contents()))
    if settings.ledger.startswith(CLOUD["ledger"]):
        yield Look(group, "indexes", partial(_indexes, graph, settings.ledger))
    if graph.artifacts.startswith(CLOUD["artifacts"]):
        yield Look(group, "requests", partial(_requests, graph.artifacts))


def _settings(settings: Settings, graph: Graph) -> Seen:
    """Whether all four places are in the cloud."""
    places = {
        "catalogue": graph.catalogue or "",
        "artifacts": graph.artifacts,
        "ledger": settings.ledger,
        "queue": settings.queue,
    }
    here = [name for name, begin in CLOUD.items() if not places[name].startswith(begin)]
    if not here:
        return Seen(Status.OK, "catalogue, artifacts, ledger and queue are in the cloud")
    told = "; ".join(f"{name} is {places[name] or 'not set'}" for name in here)
    remedy = ", ".join(f"{SETTINGS[name].variable}={CLOUD[name]}..." for name in here)
    return Seen(Status.FAULT, told, f"set {remedy}")


def _topics(graph: Graph, contents: QueueContents) -> Seen:
    wanted = _wanted(graph)
    missing = [name for name in wanted if name not in contents.topics]
    if missing:
        return Seen(Status.FAULT, f"missing: {_listed(contents.prefix, missing)}", REMEDY)
    return Seen(Status.OK, f"{len(wanted)}, of {len(graph.jobs)} jobs and the sweep")


def _subscriptions(graph: Graph, contents: QueueContents) -> Seen:
    """Whether each topic that somebody reads has its subscription; Eventarc reads the sweep's."""
    wanted = [name for name in _wanted(graph) if name != SWEEP]
    missing = [name for name in wanted if name not in contents.subscriptions]
    if missing:
        return Seen(Status.FAULT, f"missing: {_listed(contents.prefix, missing)}", REMEDY)
    there = {name: contents.subscriptions[name] for name in wanted}
    astray = [name for name, found in there.items() if found.topic != name]
    if astray:
        told = f"not of the topic of their name: {_listed(contents.prefix, astray)}"
        return Seen(Status.FAULT, told, f"delete them, and {REMEDY}")
    stopped = [name for name, found in there.items() if not found.is_active]
    if stopped:
        told = f"deliver nothing: {_listed(contents.prefix, stopped)}"
        return Seen(Status.FAULT, told, f"look at them in the console; delete them, and {REMEDY}")
    return Seen(Status.OK, f"{len(wanted)}, each of the topic of its name")


def _former(graph: Graph, contents: QueueContents) -> Seen:
    """Topics of jobs that the graph does not have, as after a job was removed from it."""
    kinds = {name.rpartition("-")[2] for name in _wanted(graph)} - {SWEEP}
    foreign = [
        name
        for name in sorted(contents.topics - set(_wanted(graph)))
        if name.count("-") == 1 and name.partition("-")[2] in kinds  # a job's name has no hyphen
    ]
    if not foreign:
        return Seen(Status.OK, "none has topics")
    told = f"topics of jobs that are not in this graph: {_listed(contents.prefix, foreign)}"
    return Seen(Status.NOTE, told, f"see that this is the deployed graph; {REMEDY}")


def _indexes(graph: Graph, ledger: str) -> Seen:
    faults = index_faults(ledger, graph)
    if not faults:
        return Seen(Status.OK, f"{ledger} answers, and its indexes are ready")
    names = [f"({', '.join(index.fields)})" for index in faults]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    told = f"not ready: {', '.join(names[:SHOWN])}{more}\n{next(iter(faults.values()))}"
    remedy = f"{REMEDY}; an index of a full ledger takes hours to build"
    return Seen(Status.FAULT, told, remedy)


def _requests(artifacts: str) -> Seen:
    """Whether the documents of requests can be listed, and how many there are."""
    with contextlib.closing(connect_store(artifacts)) as store:
        count = sum(1 for _ in islice(store.list(f"{REQUESTS}/"), MANY))
    many = f"{MANY:,} or more" if count == MANY else f"{count:,}"
    return Seen(Status.OK, f"{many} below {artifacts.rstrip('/')}/{REQUESTS}/")


def _wanted(graph: Graph) -> list[str]:
    return [*topics_of(graph), *(dead_topic(job) for job in graph.jobs), SWEEP]


def _listed(prefix: str, names: Iterable[str]) -> str:
    full = [f"{prefix}-{name}" for name in names]
    more = f" and {len(full) - SHOWN} more" if len(full) > SHOWN else ""
    return ", ".join(full[:SHOWN]) + more


def _once(call: Callable[[], T]) -> Callable[[], T]:
    """Several looks at one answer: who comes first asks, the others wait for it."""
    lock, asked = threading.Lock(), functools.cache(call)

    def answer() -> T:
        with lock:
            return asked()

    return answer
