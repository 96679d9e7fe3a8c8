"""Erases files: their results and artifacts, in this namespace and in those below, for good.

A tombstone that no version ever replaces is written first, so that whoever wants to compute
something for the file finds it. The event of it leads to the pipelines of the namespaces below,
which do the same (``segue.execution.engine``). Each step may be repeated: after a crash, the whole
is run again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import partial

from segue.adapters.connect import connect_store, ledger_exists, open_ledger_to_read
from segue.clock import Clock, utc_now
from segue.errors import SegueError
from segue.ingest.events import Deletions
from segue.ingest.file_artifacts import (
    find_file_artifacts,
    list_result_folders,
    remove_file_artifacts,
)
from segue.model.graph import SOURCE, Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Change, Ledger, Snapshot
from segue.model.manifest import Manifest
from segue.model.media_file import MediaFile
from segue.model.object_store import ObjectStore
from segue.model.queue import Queue
from segue.model.record import Lease, Record
from segue.model.transitions import erase, forget_results

POLL_S = 0.5


class FileState(StrEnum):
    """What the ledger of a namespace says of a file."""

    ERASED = "erased"  # nothing is computed for it again
    RUNNING = "running"  # it is erased, and a job that had begun has not ended yet
    PRESENT = "present"
    DELETED = "deleted"  # a newer version would be computed
    UNKNOWN = "unknown"
    UNREADABLE = "unreadable"  # the ledger or the artifacts cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a namespace has of a file."""

    state: FileState
    artifacts: tuple[str, ...] = ()  # their names
    running: tuple[str, ...] = ()  # jobs
    reason: str = ""  # why it is unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Eraser:
    """Erases files in one namespace, and tells those below."""

    graph: Graph
    ledger: Ledger
    artifacts: ObjectStore
    queue: Queue | None  # None: the graph is not shared, so nobody is told
    clock: Clock = utc_now
    lost: Callable[[Lease], bool] = is_lost

    def erase(self, uri: str) -> None:
        """Write the tombstone, tell the namespaces below, and remove what there is.

        A file that is not known gets a tombstone, too, and so does one whose record is damaged.
        """
        [found] = self.ledger.read([uri])
        media = MediaFile(uri=uri, version="0", order=0)  # of a file that is not known
        known = found if found.damage is not None else None
        transition = partial(erase, media=media, now=self.clock())
        [changed] = self.ledger.change([Change(uri=uri, known=known, transition=transition)])
        self.ledger.sync()
        self.ledger.damage.reasons.pop(uri, None)
        assert changed.snapshot.record is not None
        failure: SegueError | None = None
        try:
            self._announce(changed.snapshot.record)
        except SegueError as error:  # there is more to do, and they are told when it is repeated
            failure = error
        self.clean(uri)
        if failure is not None:
            raise failure

    def _announce(self, record: Record) -> None:
        if self.queue is not None:
            deletions = Deletions(graph=self.graph, ledger=self.ledger, queue=self.queue)
            deletions.announce([record])
            self.queue.sync()

    def clean(self, uri: str) -> None:
        """Remove the artifacts and results of a file that was erased.

        What jobs are still running write later is removed by their workers.
        """
        remove_file_artifacts(self.artifacts, uri, list_result_folders(self.artifacts))
        self.artifacts.sync()
        is_held = partial(is_alive, now=self.clock(), lost=self.lost)
        self.ledger.change([Change(uri=uri, transition=partial(forget_results, is_held=is_held))])
        self.ledger.sync()


def is_alive(lease: Lease, *, now: datetime, lost: Callable[[Lease], bool]) -> bool:
    """Whether somebody still works under a lease."""
    return lease.expires_at > now and not lost(lease)


@dataclass(slots=True, kw_only=True)
class Place:
    """The ledger and the artifacts of a namespace, to look into; opened when first needed."""

    namespace: str
    contact: str = ""  # of the team
    is_own: bool = False
    is_below: bool = False  # the event of an erasure reaches it
    ledger_url: str = ""
    artifacts_url: str = ""
    ledger: Ledger | None = None
    artifacts: ObjectStore | None = None

    def inspect(self, uri: str, *, in_full: bool = True) -> Trace:
        """Return what there is of a file; unless ``in_full``, look for artifacts only at the end.

        The end is an erased record of which no job is running.
        """
        try:
            if self.ledger is None and ledger_exists(self.ledger_url):
                self.ledger = open_ledger_to_read(self.ledger_url, self.namespace)
            found = Snapshot(record=None) if self.ledger is None else self.ledger.read([uri])[0]
            trace = _describe(found)
            if not in_full and trace.state is not FileState.ERASED:
                return trace
            store = self.artifacts = self.artifacts or connect_store(self.artifacts_url)
            artifacts = find_file_artifacts(store, uri, list_result_folders(store))
            return replace(trace, artifacts=tuple(sorted(one.name for one in artifacts)))
        except SegueError as error:
            return Trace(state=FileState.UNREADABLE, reason=str(error))

    def is_done(self, trace: Trace) -> bool:
        """Whether nothing is left of a file; what is not below may never have heard of it."""
        is_known = self.is_own or self.is_below or trace.state is not FileState.UNKNOWN
        return not trace.artifacts and (trace.state is FileState.ERASED or not is_known)

    def close(self) -> None:
        """Close what was opened of another namespace."""
        for opened in (self.ledger, self.artifacts):
            if opened is not None and not self.is_own:
                opened.close()


def _describe(found: Snapshot) -> Trace:
    record = found.record
    if found.damage is not None:
        return Trace(state=FileState.UNREADABLE, reason=found.damage)
    if record is None:
        return Trace(state=FileState.UNKNOWN)
    if not record.erased:
        is_deleted = record.deleted_at is not None
        return Trace(state=FileState.DELETED if is_deleted else FileState.PRESENT)
    running = tuple(entry.job for entry in record.results.values())
    return Trace(state=FileState.RUNNING if running else FileState.ERASED, running=running)


@contextmanager
def open_places(
    graph: Graph, ledger: Ledger, artifacts: ObjectStore, manifests: Mapping[str, Manifest]
) -> Iterator[list[Place]]:
    """Yield the own namespace, and then those that have published a manifest."""
    below = find_below(graph, manifests)
    own = Place(namespace=graph.namespace, is_own=True, ledger=ledger, artifacts=artifacts)
    others = [
        Place(
            namespace=name,
            contact=manifest.contact,
            is_below=name in below,
            ledger_url=manifest.ledger,
            artifacts_url=manifest.artifacts,
        )
        for name, manifest in sorted(manifests.items())
        if name != graph.namespace
    ]
    with ExitStack() as opened:
        for place in others:
            opened.enter_context(closing(place))
        yield [own, *others]


def find_below(graph: Graph, manifests: Mapping[str, Manifest]) -> frozenset[str]:
    """Return the namespaces that the events of a graph reach, directly or not.

    These need its published jobs, or read its files; or need the published jobs of such ones.
    """
    published = {f"{graph.namespace}/{name}" for name, job in graph.jobs.items() if job.publish}
    published.add(f"{graph.namespace}/{SOURCE}")
    needs = {n: {*m.pins, f"{m.source_namespace}/{SOURCE}"} for n, m in manifests.items()}
    below: set[str] = set()
    while reached := {
        name
        for name, needed in needs.items()
        if name not in {*below, graph.namespace} and not published.isdisjoint(needed)
    }:
        below |= reached
        published |= {f"{name}/{job}" for name in reached for job in manifests[name].jobs}
    return frozenset(below)


Traces = dict[tuple[str, str], Trace]  # by URI and namespace


def inspect_all(places: Sequence[Place], uris: Sequence[str]) -> Traces:
    """Return what each namespace has of each file."""
    return {(uri, place.namespace): place.inspect(uri) for uri in uris for place in places}


def follow(
    eraser: Eraser,
    places: Sequence[Place],
    uris: Sequence[str],
    *,
    timeout_s: float,
    show: Callable[[Sequence[str]], object] = lambda _namespaces: None,
    sleep: Callable[[float], object] = time.sleep,
) -> Traces:
    """Wait until nothing is left in the own namespace and in those below; return what is left.

    ``show`` is called with the namespaces that are waited for. Those that no event reaches are
    looked at once.
    """
    until_s = time.monotonic() + timeout_s
    waiting = [(u, place) for u in uris for place in places if place.is_own or place.is_below]
    while True:
        for uri in dict.fromkeys(uri for uri, place in waiting if place.is_own):
            eraser.clean(uri)
        waiting = [
            (uri, place)
            for uri, place in waiting
            if not place.is_done(place.inspect(uri, in_full=False))
        ]
        left_s = until_s - time.monotonic()
        if not waiting or left_s <= 0:
            return inspect_all(places, uris)
        show(tuple(dict.fromkeys(place.namespace for _, place in waiting)))
        sleep(min(POLL_S, left_s))
