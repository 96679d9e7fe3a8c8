"""Checks a deployed environment against the graph: everything Terraform should create exists."""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from segue.adapters.cloud_inventory import QueueContents, find_index_faults, list_queue_contents
from segue.adapters.connect import connect_store
from segue.adapters.firestore_indexes import Index
from segue.errors import ConfigurationError
from segue.model.graph import Graph
from segue.model.queue import list_subscriptions, list_topics
from segue.model.run import FOLDER as RUNS
from segue.model.settings import SETTINGS, Settings
from segue.stack import load_graph
from segue_cli.health_checks.check import Check, CheckFault, CheckNote, CheckResult

T = TypeVar("T")

# Setting → the scheme of its URL in the cloud.
CLOUD = {
    "catalogue": "gs://",
    "artifacts": "gs://",
    "ledger": "firestore://",
    "queue": "pubsub://",
}
SWEEP = "sweep"  # the topic of the schedule
HINT = "apply the Terraform of this graph to this environment"
SHOWN = 8  # names per message
MANY = 1000
# Topics and subscriptions that a graph may have.
DONE = "done-[a-z0-9_]+"
FORMER = re.compile(rf"{DONE}|inbox-[a-z0-9_]+|[a-z0-9_]+\.(inbox|([a-z0-9-]+\.)?(source|{DONE}))")
BUILDING = "currently building"  # in Firestore's answer to a query whose index is not ready yet


def list_cloud_checks(settings: Settings) -> Iterator[Check]:
    """Yield the checks; none if the graph cannot be read, which a place check reports."""
    group = "cloud"
    try:
        graph = load_graph(settings)
    except ConfigurationError:
        return
    yield Check(group, "settings", partial(_check_settings, settings, graph))
    if settings.queue.startswith(CLOUD["queue"]):
        contents = _call_once(partial(list_queue_contents, settings.queue))
        yield Check(group, "topics", lambda: _check_topics(graph, contents()))
        yield Check(group, "subscriptions", lambda: _check_subscriptions(graph, contents()))
        yield Check(group, "former pipelines", lambda: _check_former_pipelines(graph, contents()))
    if settings.ledger.startswith(CLOUD["ledger"]):
        yield Check(group, "indexes", partial(_check_indexes, settings.ledger))
    if graph.artifacts.startswith(CLOUD["artifacts"]):
        yield Check(group, "runs", partial(_check_runs, graph.artifacts))


def _check_settings(settings: Settings, graph: Graph) -> CheckResult:
    """Check that all four places are in the cloud."""
    places = {
        "catalogue": graph.catalogue or "",
        "artifacts": graph.artifacts,
        "ledger": settings.ledger,
        "queue": settings.queue,
    }
    local = [name for name, scheme in CLOUD.items() if not places[name].startswith(scheme)]
    if not local:
        return CheckResult("catalogue, artifacts, ledger and queue are in the cloud")
    detail = "; ".join(f"{name} is {places[name] or 'not set'}" for name in local)
    hint = ", ".join(f"{SETTINGS[name].variable}={CLOUD[name]}..." for name in local)
    return CheckFault(detail, f"set {hint}")


def _check_topics(graph: Graph, contents: QueueContents) -> CheckResult:
    expected = [*list_topics(graph), SWEEP]
    missing = [name for name in expected if name not in contents.topics]
    if missing:
        return CheckFault(f"missing: {_join_names(contents.prefix, missing)}", HINT)
    return CheckResult(f"{len(expected)} topics, with that of the sweep")


def _check_subscriptions(graph: Graph, contents: QueueContents) -> CheckResult:
    """Check that each pipeline has its subscriptions; Eventarc reads the sweep's topic."""
    expected = {one.name: contents.format_topic(one) for one in list_subscriptions(graph)}
    missing = [name for name in expected if name not in contents.subscriptions]
    if missing:
        return CheckFault(f"missing: {_join_names(contents.prefix, missing)}", HINT)
    existing = {name: contents.subscriptions[name] for name in expected}
    misplaced = [name for name, found in existing.items() if found.topic != expected[name]]
    if misplaced:
        detail = f"attached to the wrong topic: {_join_names(contents.prefix, misplaced)}"
        return CheckFault(detail, f"delete them, and {HINT}")
    stopped = [name for name, found in existing.items() if not found.is_active]
    if stopped:
        detail = f"inactive: {_join_names(contents.prefix, stopped)}"
        return CheckFault(detail, f"inspect them in the console; delete them, and {HINT}")
    return CheckResult(f"{len(expected)} subscriptions, each attached to its topic")


def _check_former_pipelines(graph: Graph, contents: QueueContents) -> CheckResult:
    """Check for what no job or pipeline of the graph uses, as after a removal."""
    topics = contents.topics.difference(list_topics(graph))
    used = {one.name for one in list_subscriptions(graph)}
    subscriptions = contents.subscriptions.keys() - used
    former = filter(FORMER.fullmatch, [*sorted(topics), *sorted(subscriptions)])
    names = _join_names(contents.prefix, former)
    if not names:
        return CheckResult("there are no topics or subscriptions of former pipelines")
    detail = f"topics or subscriptions that this graph does not use: {names}"
    return CheckNote(detail, f"check that this is the deployed graph; {HINT}")


def _check_indexes(ledger: str) -> CheckResult:
    faults = find_index_faults(ledger)
    if not faults:
        return CheckResult(f"{ledger} answers, and its indexes are ready")
    building = [index for index, reason in faults.items() if BUILDING in reason]
    missing = [index for index in faults if index not in building]
    parts = [
        f"{state}: {_join_indexes(indexes)}"
        for state, indexes in (("missing", missing), ("being built", building))
        if indexes
    ]
    if not missing:
        hint = "wait: an index of a full ledger takes hours to build; then check again"
        return CheckFault("; ".join(parts), hint)
    return CheckFault(f"{'; '.join(parts)}\n{faults[missing[0]]}", HINT)


def _check_runs(artifacts: str) -> CheckResult:
    """Check that records of runs can be listed, and count them."""
    with contextlib.closing(connect_store(artifacts)) as store:
        count = sum(1 for _ in islice(store.list(f"{RUNS}/"), MANY))
    many = f"{MANY:,} or more" if count == MANY else f"{count:,}"
    return CheckResult(f"{many} found below {artifacts.rstrip('/')}/{RUNS}/")


def _join_indexes(indexes: Sequence[Index]) -> str:
    names = [f"({', '.join(index.fields)})" for index in indexes]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _join_names(prefix: str, names: Iterable[str]) -> str:
    full = [f"{prefix}-{name}" for name in names]
    more = f" and {len(full) - SHOWN} more" if len(full) > SHOWN else ""
    return ", ".join(full[:SHOWN]) + more


def _call_once(call: Callable[[], T]) -> Callable[[], T]:
    """Return a function for several checks: the first call runs, the others wait for its result."""
    lock, cached = threading.Lock(), functools.cache(call)

    def get() -> T:
        with lock:
            return cached()

    return get
