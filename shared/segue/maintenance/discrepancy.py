"""Where a listing and the ledger disagree, for want of an event that never came.

Both are in the order of their URIs, so they are compared side by side as they are read: memory
stays flat, and nothing is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from segue.model.graph import SOURCE, Graph
from segue.model.media_file import MediaFile
from segue.model.record import Record, State


class Kind(StrEnum):
    """What is wrong with a file."""

    UNRECORDED = "unrecorded"  # it is there, and the ledger has never heard of it
    OVERWRITTEN = "overwritten"  # it is there in a newer version than the ledger knows
    UNSTARTED = "unstarted"  # it was recorded some time ago, and nobody began with it
    GONE = "gone"  # it was recorded, and is no longer there


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """One file with which something is wrong."""

    kind: Kind
    media: MediaFile  # as it is listed; one that is gone as it was recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One object of a listing."""

    uri: str
    media: MediaFile | None  # None: no media of the catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One URI, in the listing, in the ledger, or in both."""

    listed: Listed | None = None
    record: Record | None = None


def side_by_side(listed: Iterable[Listed], recorded: Iterable[Record]) -> Iterator[Pair]:
    """Pair what is in the order of the URIs on both sides."""
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
class Judge:
    """Says what is wrong; listing and ledger are not of the same moment."""

    started_at: datetime  # what was recorded later may be missing from a listing that began before
    grace: timedelta  # for how long it is no wonder that nobody has begun with a file
    sources: tuple[str, ...]  # the jobs that an arrival tells

    @classmethod
    def of(cls, graph: Graph, *, started_at: datetime, grace: timedelta) -> Judge:
        """The judge for a graph."""
        return cls(started_at=started_at, grace=grace, sources=graph.children[SOURCE])

    def discrepancy(self, pair: Pair) -> Discrepancy | None:
        """Say what is wrong with one file, if anything."""
        record = pair.record
        if pair.listed is None:
            if record is None or record.deleted_at is not None or self._is_new(record):
                return None
            return Discrepancy(kind=Kind.GONE, media=record.media)
        media = pair.listed.media
        if media is None:
            return None
        kind = self._kind(media, record)
        return None if kind is None else Discrepancy(kind=kind, media=media)

    def _kind(self, media: MediaFile, record: Record | None) -> Kind | None:
        if record is None:
            return Kind.UNRECORDED
        if record.generation < media.generation:
            return Kind.OVERWRITTEN
        if record.generation > media.generation or record.deleted_at is not None:
            return None  # the listing is the older one
        waited = self.started_at - record.arrived_at
        return Kind.UNSTARTED if waited >= self.grace and not self._is_begun(record) else None

    def _is_new(self, record: Record) -> bool:
        return record.arrived_at >= self.started_at

    def _is_begun(self, record: Record) -> bool:
        """Whether any job that reads the source was ever begun; to be asked for is not enough."""
        entries = [record.jobs[job] for job in self.sources if job in record.jobs]
        return any(e.state is not State.QUEUED or e.attempts for e in entries)
