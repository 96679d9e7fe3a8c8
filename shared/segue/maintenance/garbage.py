"""Finds and deletes artifacts that nothing refers to any more.

Artifacts that the ledger refers to are kept without reading their metadata. An object is an
artifact by its name *and* by the lineage in its metadata; no other object is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import TypeVar

from segue.clock import Clock
from segue.errors import MissingInput, Superseded
from segue.maintenance.artifact_listing import ListedArtifact, list_by_file
from segue.model.artifact import ArtifactName, Lineage, quote_name
from segue.model.graph import Graph
from segue.model.ledger import Ledger
from segue.model.location import parse_location
from segue.model.media_file import find_bucket_location, split_uri
from segue.model.object_store import ObjectStore
from segue.model.record import Lease, Record, State

READ_BATCH = 256
# Small: little time may pass between the second read of the ledger and the deletion.
DELETE_BATCH = 32
THREADS = 16

T = TypeVar("T")


class GarbageReason(StrEnum):
    """Why nothing refers to an artifact."""

    OLD_FINGERPRINT = "old_fingerprint"  # of an older version of the job
    OLD_GENERATION = "old_generation"  # of a file that has been overwritten since
    DELETED_FILE = "deleted_file"
    LEFTOVER = "leftover"  # of a run that was killed before it wrote to the ledger
    UNKNOWN_FILE = "unknown_file"  # of a file that this ledger has no record of


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreferencedArtifact:
    """An artifact that the ledger does not refer to."""

    name: str  # in the store
    generation: int  # of the object
    size_bytes: int
    lineage: Lineage


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """An artifact that may be deleted, and why."""

    artifact: UnreferencedArtifact
    reason: GarbageReason


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageCollector:
    """Finds and deletes garbage among the artifacts of a graph."""

    graph: Graph
    ledger: Ledger
    artifacts: ObjectStore
    before: datetime  # cutoff_ser artifacts are kept: a run may be about to record them
    clock: Clock
    lost: Callable[[Lease], bool]  # whether the owner of a lease is known to be dead

    def find(self, report: Callable[[int], object] = lambda _artifacts: None) -> Iterator[Garbage]:
        """Stream all garbage; ``report`` is called with the number of artifacts of each batch."""
        with ThreadPoolExecutor(THREADS) as threads:
            for batch in split_into_batches(list_by_file(self.artifacts), READ_BATCH):
                report(sum(len(some) for _, some in batch))
                artifacts = threads.map(self._read_lineage, self._find_unreferenced(batch))
                yield from self._find_garbage(
                    [artifact for artifact in artifacts if artifact is not None]
                )

    def collect(self, garbage: Iterable[Garbage]) -> Iterator[Garbage]:
        """Delete what is still garbage by a second read of the ledger; yield what was deleted."""
        with ThreadPoolExecutor(THREADS) as threads:
            for batch in split_into_batches(garbage, DELETE_BATCH):
                confirmed = self._find_garbage([one.artifact for one in batch])
                removed = threads.map(self._remove, confirmed)
                yield from (one for one, gone in zip(confirmed, removed, strict=True) if gone)

    def _find_unreferenced(
        self, batch: Sequence[tuple[str, list[ListedArtifact]]]
    ) -> list[ListedArtifact]:
        """Return the old artifacts that their file's record, found by name, does not refer to."""
        uris = {file: self._guess_uri(file) for file, _ in batch}
        records = self._read(uri for uri in uris.values() if uri is not None)
        cutoff_s = self.before.timestamp()
        unreferenced = []
        for file, some in batch:
            record = records.get(uris[file] or "")
            referenced = _find_referenced(record) if record is not None else frozenset()
            unreferenced += [
                one
                for one in some
                if one.object.updated_at < cutoff_s
                and self.artifacts.uri(one.object.name) not in referenced
            ]
        return unreferenced

    def _guess_uri(self, file: str) -> str | None:
        """Guess the URI of a file in the catalogue's bucket; None if its name was quoted.

        A wrong guess costs a read of the metadata, never an artifact: the lineage has the URI.
        """
        if quote_name(file) != file:
            return None
        where = find_bucket_location(parse_location(self.graph.catalogue or "file:///"))
        return f"{where.rstrip('/')}/{file}" if where != "file:///" else f"file:///{file}"

    def _read_lineage(self, listed: ListedArtifact) -> UnreferencedArtifact | None:
        """Read an artifact's lineage; None if it is gone, or is not an artifact."""
        try:
            found = self.artifacts.stat(listed.object.name)
        except MissingInput:
            return None
        lineage = Lineage.from_metadata(found.metadata)
        if lineage is None or not _is_consistent(listed.name, lineage):
            return None
        return UnreferencedArtifact(
            name=listed.object.name,
            generation=found.generation,
            size_bytes=found.size_bytes,
            lineage=lineage,
        )

    def _find_garbage(self, unreferenced: Sequence[UnreferencedArtifact]) -> list[Garbage]:
        records = self._read(dict.fromkeys(s.lineage.uri for s in unreferenced))
        reasons = ((s, self._find_reason(s, records.get(s.lineage.uri))) for s in unreferenced)
        return [Garbage(artifact=s, reason=reason) for s, reason in reasons if reason is not None]

    def _find_reason(
        self, artifact: UnreferencedArtifact, record: Record | None
    ) -> GarbageReason | None:
        lineage = artifact.lineage
        if record is None:
            return GarbageReason.UNKNOWN_FILE
        if record.deleted_at is not None:
            return GarbageReason.DELETED_FILE if record.deleted_at < self.before else None
        if self.artifacts.uri(artifact.name) in _find_referenced(record):
            return None
        if lineage.generation != record.generation:
            return GarbageReason.OLD_GENERATION if lineage.generation < record.generation else None
        if self._is_held(record, lineage.job):
            return None
        if lineage.fingerprint != self.graph.fingerprints.get(lineage.job):
            return GarbageReason.OLD_FINGERPRINT
        return GarbageReason.LEFTOVER

    def _is_held(self, record: Record, job: str) -> bool:
        """Whether a live worker holds the job, and may be about to record the artifact."""
        entry = record.jobs.get(job)
        if entry is None or entry.state is not State.RUNNING or entry.lease is None:
            return False
        return entry.lease.expires_at > self.clock() and not self.lost(entry.lease)

    def _remove(self, garbage: Garbage) -> bool:
        try:
            return self.artifacts.delete(
                garbage.artifact.name, generation=garbage.artifact.generation
            )
        except Superseded:  # overwritten meanwhile
            return False

    def _read(self, uris: Iterable[str]) -> dict[str, Record]:
        requested = list(uris)
        if not requested:
            return {}
        snapshots = self.ledger.read(requested)
        return {s.record.uri: s.record for s in snapshots if s.record is not None}


def _find_referenced(record: Record) -> frozenset[str]:
    """Return the artifacts that a record refers to; a tombstone refers to none."""
    if record.deleted_at is not None:
        return frozenset()
    return frozenset(e.artifact for e in record.jobs.values() if e.artifact is not None)


def _is_consistent(name: ArtifactName, lineage: Lineage) -> bool:
    """Whether an artifact's name and its lineage agree."""
    return (name.job, name.fingerprint, name.file, name.generation) == (
        lineage.job,
        lineage.fingerprint,
        quote_name(split_uri(lineage.uri)[1]),
        lineage.generation,
    )


def split_into_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split items into lists of at most ``size`` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
