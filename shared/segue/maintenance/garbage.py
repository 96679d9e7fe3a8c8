"""Artifacts that nothing refers to any more: which they are, and their removal.

What the ledger names is kept without a closer look. An object is an artifact by its name *and* by
the lineage in its metadata; nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import TypeVar

from segue.errors import MissingInput, Superseded
from segue.maintenance.artifact_listing import Listed, list_by_file
from segue.model.artifact import ArtifactName, Lineage, quote_name
from segue.model.graph import Graph
from segue.model.ledger import Ledger
from segue.model.location import location_of
from segue.model.media_file import bucket_location, split_uri
from segue.model.object_store import ObjectStore
from segue.model.record import Lease, Record, State

READ_BATCH = 256
# Little time may pass between a second look at the ledger and the removal.
DELETE_BATCH = 32
THREADS = 16

T = TypeVar("T")


class Reason(StrEnum):
    """Why nothing refers to an artifact."""

    OLD_FINGERPRINT = "old_fingerprint"  # of an older version of the job
    OLD_GENERATION = "old_generation"  # of a file that has been overwritten since
    DELETED_FILE = "deleted_file"
    LEFTOVER = "leftover"  # of a run that was killed before it told the ledger
    UNKNOWN_FILE = "unknown_file"  # of a file that this ledger has never heard of


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """An artifact that the ledger does not name."""

    name: str  # in the store
    generation: int  # of the object
    size_bytes: int
    lineage: Lineage


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """An artifact that nothing refers to."""

    artifact: Suspect
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Looks for garbage among the artifacts of a graph, and removes it."""

    graph: Graph
    ledger: Ledger
    artifacts: ObjectStore
    before: datetime  # what is younger is left alone: a run may be about to name it
    clock: Callable[[], datetime]
    lost: Callable[[Lease], bool]  # whether the owner of a lease is known to be dead

    def find(self, seen: Callable[[int], object] = lambda _artifacts: None) -> Iterator[Garbage]:
        """Stream all garbage; ``seen`` is told of each batch how many artifacts it had."""
        with ThreadPoolExecutor(THREADS) as threads:
            for batch in batches(list_by_file(self.artifacts), READ_BATCH):
                seen(sum(len(some) for _, some in batch))
                looked = threads.map(self._look, self._unnamed(batch))
                yield from self._judged([suspect for suspect in looked if suspect is not None])

    def collect(self, garbage: Iterable[Garbage]) -> Iterator[Garbage]:
        """Remove what a second look at the ledger still finds to be garbage; yield what went."""
        with ThreadPoolExecutor(THREADS) as threads:
            for batch in batches(garbage, DELETE_BATCH):
                still = self._judged([one.artifact for one in batch])
                removed = threads.map(self._remove, still)
                yield from (one for one, gone in zip(still, removed, strict=True) if gone)

    def _unnamed(self, batch: Sequence[tuple[str, list[Listed]]]) -> list[Listed]:
        """The artifacts that are old enough, and that no record names as far as names can tell."""
        uris = {file: self._guess(file) for file, _ in batch}
        records = self._read(uri for uri in uris.values() if uri is not None)
        young = self.before.timestamp()
        unnamed = []
        for file, some in batch:
            record = records.get(uris[file] or "")
            named = _named(record) if record is not None else frozenset()
            unnamed += [
                one
                for one in some
                if one.object.updated_at < young
                and self.artifacts.uri(one.object.name) not in named
            ]
        return unnamed

    def _guess(self, file: str) -> str | None:
        """The URI of a file in the catalogue's bucket; None where the name was changed to be safe.

        A wrong guess costs a closer look, never an artifact: the lineage has the URI itself.
        """
        if quote_name(file) != file:
            return None
        where = bucket_location(location_of(self.graph.catalogue or "file:///"))
        return f"{where.rstrip('/')}/{file}" if where != "file:///" else f"file:///{file}"

    def _look(self, listed: Listed) -> Suspect | None:
        """Read an artifact's lineage; None if it is none, or gone."""
        try:
            found = self.artifacts.stat(listed.object.name)
        except MissingInput:
            return None
        lineage = Lineage.from_metadata(found.metadata)
        if lineage is None or not _agree(listed.name, lineage):
            return None
        return Suspect(
            name=listed.object.name,
            generation=found.generation,
            size_bytes=found.size_bytes,
            lineage=lineage,
        )

    def _judged(self, suspects: Sequence[Suspect]) -> list[Garbage]:
        records = self._read(dict.fromkeys(s.lineage.uri for s in suspects))
        judged = ((s, self._reason(s, records.get(s.lineage.uri))) for s in suspects)
        return [Garbage(artifact=s, reason=reason) for s, reason in judged if reason is not None]

    def _reason(self, suspect: Suspect, record: Record | None) -> Reason | None:
        made = suspect.lineage
        if record is None:
            return Reason.UNKNOWN_FILE
        if record.deleted_at is not None:
            return Reason.DELETED_FILE if record.deleted_at < self.before else None
        if self.artifacts.uri(suspect.name) in _named(record):
            return None
        if made.generation != record.generation:
            return Reason.OLD_GENERATION if made.generation < record.generation else None
        if self._is_held(record, made.job):
            return None
        if made.fingerprint != self.graph.fingerprints.get(made.job):
            return Reason.OLD_FINGERPRINT
        return Reason.LEFTOVER

    def _is_held(self, record: Record, job: str) -> bool:
        """Whether somebody is at work who may be about to name the artifact."""
        entry = record.jobs.get(job)
        if entry is None or entry.state is not State.RUNNING or entry.lease is None:
            return False
        return entry.lease.expires_at > self.clock() and not self.lost(entry.lease)

    def _remove(self, garbage: Garbage) -> bool:
        try:
            return self.artifacts.delete(
                garbage.artifact.name, generation=garbage.artifact.generation
            )
        except Superseded:  # written again meanwhile
            return False

    def _read(self, uris: Iterable[str]) -> dict[str, Record]:
        wanted = list(uris)
        if not wanted:
            return {}
        snapshots = self.ledger.read(wanted)
        return {s.record.uri: s.record for s in snapshots if s.record is not None}


def _named(record: Record) -> frozenset[str]:
    """The artifacts that a record refers to; a tombstone refers to none."""
    if record.deleted_at is not None:
        return frozenset()
    return frozenset(e.artifact for e in record.jobs.values() if e.artifact is not None)


def _agree(name: ArtifactName, lineage: Lineage) -> bool:
    """Whether an artifact's name and its lineage tell the same."""
    return (name.job, name.fingerprint, name.file, name.generation) == (
        lineage.job,
        lineage.fingerprint,
        quote_name(split_uri(lineage.uri)[1]),
        lineage.generation,
    )


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Group items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
