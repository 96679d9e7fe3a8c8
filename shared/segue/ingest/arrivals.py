"""Arrivals: a file is recorded in the ledger, and the jobs that read it are told.

Recording comes first, and a repeated event tells the jobs again: so a crash in between is repaired
by the event's redelivery.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from segue.errors import ConfigurationError
from segue.model.graph import SOURCE, Graph
from segue.model.ledger import Arrival, Change, Ledger, Snapshot, arrive
from segue.model.media_file import MediaFile, includes, split_uri
from segue.model.message import Message
from segue.model.queue import Letter, Queue, letter
from segue.model.record import Record

NOTHING_KNOWN = Snapshot(record=None)
DETOURS = frozenset({"", ".", ".."})


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Which objects are media of the catalogue."""

    below: str | None  # a URI prefix; None: any place
    not_below: tuple[str, ...]  # URI prefixes of what Segue itself writes
    include: Callable[[str], bool]

    @classmethod
    def of(cls, graph: Graph, *, catalogue: str | None, ours: Sequence[str]) -> Self:
        """The intake of a graph, for places that are given as locations."""
        below = None
        if catalogue is not None:
            # A prefix inside a bucket is what names begin with; a folder has an end.
            is_prefix = catalogue.startswith("gs://") and "/" in catalogue[5:].rstrip("/")
            below = catalogue if is_prefix else catalogue.rstrip("/") + "/"
        return cls(
            below=below,
            not_below=tuple(place.rstrip("/") + "/" for place in ours),
            include=includes(graph.include),
        )

    def refusal(self, uri: str) -> str | None:
        """Why an object is ignored; None if it is media of the catalogue."""
        try:
            bucket, name = split_uri(uri)
        except ConfigurationError:
            return "no URI such as gs://bucket/name"
        if not name or name.endswith("/"):
            return "a folder"
        if not bucket and is_detour(name):
            return "a path with empty, '.' or '..' parts, or a NUL"
        if any(uri.startswith(place) for place in self.not_below):
            return "written by Segue itself"
        if self.below is not None and not uri.startswith(self.below):
            return f"not below the catalogue {self.below}"
        if not self.include(name):
            return "no suffix that the graph includes"
        return None


def is_detour(path: str) -> bool:
    """Whether a path in a folder may not lead where it seems to."""
    return "\0" in path or not DETOURS.isdisjoint(path.split("/"))


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Takes in versions of files that have arrived."""

    graph: Graph
    ledger: Ledger
    queue: Queue
    clock: Callable[[], datetime] = _utc_now

    def take(self, files: Sequence[MediaFile]) -> list[Arrival]:
        """Record files, and tell their jobs; answers what the ledger had to say of each.

        A duplicate is told again, since whoever recorded it may have died before telling.
        """
        told = [Arrival.STALE] * len(files)
        newest: dict[str, int] = {}  # of a file that is named twice, only the newest version counts
        for at, media in enumerate(files):
            if media.uri not in newest or files[newest[media.uri]].generation < media.generation:
                newest[media.uri] = at
        some = list(newest.values())
        now = self.clock()
        # Most files are new: then this is one write each, and no read.
        changes = [
            Change(uri=files[i].uri, known=NOTHING_KNOWN, transition=_arriving(files[i], now))
            for i in some
        ]
        letters: list[Letter] = []
        for at, changed in zip(some, self.ledger.change(changes), strict=True):
            told[at] = changed.answer
            if changed.answer is not Arrival.STALE:
                letters += self.letters(files[at])
        if letters:
            self.queue.publish(letters)
        for at, media in enumerate(files):  # a version that is named again is as in a second call
            first = newest[media.uri]
            if at != first and media.generation == files[first].generation:
                told[at] = Arrival.STALE if told[first] is Arrival.STALE else Arrival.DUPLICATE
        return told

    def letters(self, media: MediaFile) -> list[Letter]:
        """What tells the jobs that read the source that a version of a file is there."""
        return [
            letter(Message(uri=media.uri, generation=media.generation, job=job))
            for job in self.graph.children[SOURCE]
        ]


def _arriving(
    media: MediaFile, now: datetime
) -> Callable[[Record | None], tuple[Record | None, Arrival]]:
    return lambda found: arrive(found, media, now)
