"""Compares a listing with the ledger, and repairs where they disagree because an event never came.

Both are sorted by URI, so they are merged while they are read: memory use stays flat, and no record
is looked up. What seems wrong is checked again before it is repaired, as listing and ledger were
not read at the same moment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from segue.errors import DamagedRecord, MissingInput
from segue.ingest.events import Arrivals, Deletions
from segue.ingest.observation import Observation, map_in_threads, observe
from segue.model.graph import SOURCE, Graph
from segue.model.ledger import Change, Ledger, Transition
from segue.model.media_file import MediaFile, split_uri
from segue.model.object_store import LeftOutReason, ObjectStore
from segue.model.queue import Queue
from segue.model.record import Record, State
from segue.model.transitions import Arrival, delete


class DiscrepancyKind(StrEnum):
    """How the listing and the ledger disagree about a file."""

    UNRECORDED = "unrecorded"  # it exists, and the ledger has no record of it
    # It exists in a newer version than the recorded one; in a folder, in another one, perhaps.
    OVERWRITTEN = "overwritten"
    UNSTARTED = "unstarted"  # it was recorded some time ago, and none of its jobs has started
    GONE = "gone"  # it is recorded, and no longer exists


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One file about which the listing and the ledger disagree."""

    kind: DiscrepancyKind
    media: MediaFile  # as listed, or if it is gone, as recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """One object of a listing."""

    uri: str
    media: MediaFile | None  # None: not media of the catalogue


def pair_by_uri(
    listed: Iterable[ListedFile], recorded: Iterable[Record]
) -> Iterator[tuple[ListedFile | None, Record | None]]:
    """Merge a listing and records, both sorted by URI, into pairs; one of a pair may be missing."""
    left, right = iter(listed), iter(recorded)
    file, record = next(left, None), next(right, None)
    while file is not None or record is not None:
        if record is None or (file is not None and file.uri < record.uri):
            yield file, None
            file = next(left, None)
        elif file is None or record.uri < file.uri:
            yield None, record
            record = next(right, None)
        else:
            yield file, record
            file, record = next(left, None), next(right, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscrepancyFinder:
    """Compares what the listing and the ledger say about one file."""

    graph: Graph
    started_at: datetime  # a file recorded after the listing began may be missing from it
    grace: timedelta  # how long after its arrival a file may have no started job

    def find(self, listed: ListedFile | None, record: Record | None) -> Discrepancy | None:
        """Return the discrepancy of one pair, if any."""
        if listed is None:
            if record is None or record.deleted_at is not None:
                return None
            if record.arrived_at >= self.started_at:
                return None
            return Discrepancy(kind=DiscrepancyKind.GONE, media=record.media)
        if listed.media is None:
            return None
        kind = self._find_kind(listed.media, record)
        return None if kind is None else Discrepancy(kind=kind, media=listed.media)

    def _find_kind(self, media: MediaFile, record: Record | None) -> DiscrepancyKind | None:
        if record is None:
            return DiscrepancyKind.UNRECORDED
        if record.erased:
            return None
        if _is_newer(media, record):
            return DiscrepancyKind.OVERWRITTEN
        if media.order != record.order and media.order is not None:
            return None  # the listing is the older one
        if record.deleted_at is not None:
            return None
        if self.started_at - record.arrived_at < self.grace or self._is_started(record):
            return None
        return DiscrepancyKind.UNSTARTED

    def _is_started(self, record: Record) -> bool:
        """Whether any job that an arrival starts has ever started; being queued is not enough."""
        first = self.graph.select_on_arrival(self.graph.children[SOURCE])
        entries = [entry for entry in record.results.values() if entry.job in first]
        return not first or any(e.state is not State.QUEUED or e.attempts for e in entries)


def _is_newer(media: MediaFile, record: Record) -> bool:
    """Whether a listed version is newer than the recorded one, or may be in a folder."""
    if media.order is None:
        return media.stat != record.stat or record.deleted_at is not None
    return media.order > record.order


def repair(
    found: Sequence[Discrepancy],
    *,
    graph: Graph,
    catalogue: ObjectStore,
    ledger: Ledger,
    queue: Queue | None,
    now: datetime,
    trust_absence: bool = False,
    leave_out: Callable[[Observation], None] = lambda _: None,
) -> list[Discrepancy]:
    """Apply the events that never came, and return the confirmed discrepancies.

    Parameters
    ----------
    found : sequence of Discrepancy
    graph : Graph
    catalogue : ObjectStore
        The whole bucket or file system that contains the files.
    ledger : Ledger
    queue : Queue, optional
        Without a queue nothing is changed or published: discrepancies are only confirmed.
    now : datetime
        The deletion time to record for files that are gone.
    trust_absence : bool
        Whether a file in a folder is gone even if its disk seems not to be mounted.
    leave_out : callable, optional
        Called with files in a folder of which it is not known what they are.
    """
    if not catalogue.location.startswith("file://"):
        return _repair_bucket(found, graph, catalogue, ledger, queue, now)
    observed = observe(
        catalogue,
        ledger,
        [MediaFile(uri=one.media.uri, version="") for one in found],
        now,
        dry_run=queue is None,
        trust_absence=trust_absence,
    )
    pairs = list(zip(found, observed, strict=True))
    if queue is not None:
        arrivals = Arrivals(graph=graph, ledger=ledger, queue=queue)
        arrivals.announce(seen for one, seen in pairs if _has_arrived(one, seen))
        gone = [seen.snapshot.record for _, seen in pairs if seen.is_deleted]
        deletions = Deletions(graph=graph, ledger=ledger, queue=queue)
        deletions.announce(record for record in gone if record is not None)
    for one, seen in pairs:
        if _is_left_out(one, seen):
            leave_out(seen)
    return [
        one
        for one, seen in pairs
        if (seen.is_deleted if one.kind is DiscrepancyKind.GONE else _has_arrived(one, seen))
    ]


def _is_left_out(one: Discrepancy, seen: Observation) -> bool:
    """Whether a file is unknown, and was not named for that yet.

    The listing has named what it could not read, and the ledger its damaged records. A broken link
    that was a folder is no media, so the listing has not named it.
    """
    if one.kind is DiscrepancyKind.GONE and seen.reason is not LeftOutReason.UNMOUNTED:
        is_link_itself = os.path.islink(one.media.uri.removeprefix("file://"))
        return seen.reason is LeftOutReason.BROKEN_LINK and not is_link_itself
    return seen.error is not None and not isinstance(seen.error, DamagedRecord)


def _has_arrived(one: Discrepancy, seen: Observation) -> bool:
    """Whether a file in a folder is there, and the pipelines are to be notified.

    A file that is as recorded may be one that was recorded by a run that died then.
    """
    match one.kind:
        case DiscrepancyKind.GONE:
            return seen.arrival in (Arrival.NEW, Arrival.NEWER)
        case DiscrepancyKind.UNSTARTED:
            return seen.arrival is not None
    return seen.arrival is not None and not seen.is_touched


def _repair_bucket(
    found: Sequence[Discrepancy],
    graph: Graph,
    catalogue: ObjectStore,
    ledger: Ledger,
    queue: Queue | None,
    now: datetime,
) -> list[Discrepancy]:
    present = [one for one in found if one.kind is not DiscrepancyKind.GONE]
    missing = [one for one in found if one.kind is DiscrepancyKind.GONE]
    is_gone = map_in_threads(lambda one: _is_gone(catalogue, one.media), missing)
    gone = [one for one, confirmed in zip(missing, is_gone, strict=True) if confirmed]
    if queue is None:
        return [*present, *gone]
    # The pipelines are notified again of files that were recorded before.
    arrivals = Arrivals(graph=graph, ledger=ledger, queue=queue)
    answers = arrivals.record([one.media for one in present])
    deletions = ledger.change(
        [Change(uri=one.media.uri, transition=_build_deletion(one.media, now)) for one in gone]
    )
    records = [change.snapshot.record for change in deletions if change.answer]
    announcer = Deletions(graph=graph, ledger=ledger, queue=queue)
    announcer.announce(record for record in records if record is not None)
    return [
        *(one for one, said in zip(present, answers, strict=True) if said is not Arrival.STALE),
        *(one for one, change in zip(gone, deletions, strict=True) if change.answer),
    ]


def _is_gone(catalogue: ObjectStore, media: MediaFile) -> bool:
    try:
        catalogue.stat(split_uri(media.uri)[1])
    except MissingInput:
        return True
    return False


def _build_deletion(media: MediaFile, now: datetime) -> Transition[bool]:
    """Build the transition that leaves a tombstone, if the ledger still has that version."""

    def transition(found: Record | None) -> tuple[Record | None, bool]:
        if found is None or found.version != media.version:
            return found, False
        return delete(found, media, now)[0], True

    return transition
