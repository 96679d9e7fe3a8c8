"""Finds where a listing and the ledger disagree because an event never came.

Both are sorted by URI, so they are merged while they are read: memory use stays flat, and no
record is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from segue.model.graph import SOURCE, Graph
from segue.model.media_file import MediaFile
from segue.model.record import Record, State


class DiscrepancyKind(StrEnum):
    """How the listing and the ledger disagree about a file."""

    UNRECORDED = "unrecorded"  # it exists, and the ledger has no record of it
    OVERWRITTEN = "overwritten"  # it exists in a newer version than the recorded one
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One URI's entry in the listing, the ledger, or both."""

    listed: ListedFile | None = None
    record: Record | None = None


def pair_by_uri(listed: Iterable[ListedFile], recorded: Iterable[Record]) -> Iterator[Pair]:
    """Merge a listing and records, both sorted by URI, into pairs."""
    left, right = iter(listed), iter(recorded)
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.uri < other.uri):
            yield Pair(listed=one)
            one = next(left, None)
        elif one is None or other.uri < one.uri:
            yield Pair(record=other)
            other = next(right, None)
        else:
            yield Pair(listed=one, record=other)
            one, other = next(left, None), next(right, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscrepancyFinder:
    """Compares one pair at a time; listing and ledger were not read at the same moment."""

    started_at: datetime  # a file recorded after the listing began may be missing from it
    grace: timedelta  # how long after its arrival a file may have no started job
    sources: tuple[str, ...]  # the jobs that an arrival notifies

    @classmethod
    def for_graph(
        cls, graph: Graph, *, started_at: datetime, grace: timedelta
    ) -> DiscrepancyFinder:
        """Return the finder for a graph."""
        return cls(started_at=started_at, grace=grace, sources=graph.children[SOURCE])

    def find(self, pair: Pair) -> Discrepancy | None:
        """Return the discrepancy of one pair, if any."""
        record = pair.record
        if pair.listed is None:
            if record is None or record.deleted_at is not None or self._is_new(record):
                return None
            return Discrepancy(kind=DiscrepancyKind.GONE, media=record.media)
        media = pair.listed.media
        if media is None:
            return None
        kind = self._find_kind(media, record)
        return None if kind is None else Discrepancy(kind=kind, media=media)

    def _find_kind(self, media: MediaFile, record: Record | None) -> DiscrepancyKind | None:
        if record is None:
            return DiscrepancyKind.UNRECORDED
        if record.generation < media.generation:
            return DiscrepancyKind.OVERWRITTEN
        if record.generation > media.generation or record.deleted_at is not None:
            return None  # the listing is the older one
        waited = self.started_at - record.arrived_at
        return (
            DiscrepancyKind.UNSTARTED
            if waited >= self.grace and not self._is_started(record)
            else None
        )

    def _is_new(self, record: Record) -> bool:
        return record.arrived_at >= self.started_at

    def _is_started(self, record: Record) -> bool:
        """Whether any job that reads the source has ever started; being queued is not enough."""
        entries = [record.jobs[job] for job in self.sources if job in record.jobs]
        return any(e.state is not State.QUEUED or e.attempts for e in entries)
