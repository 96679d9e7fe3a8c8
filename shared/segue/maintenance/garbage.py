"""Finds and deletes artifacts that nothing refers to any more.

Artifacts that the ledger refers to are kept without reading their metadata. An object is an
artifact by its name *and* by the lineage in its metadata; no other object is deleted.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import TypeVar

from segue.clock import Clock, utc_now
from segue.errors import ConfigurationError, DamagedRecord, MissingInput, Superseded
from segue.model.artifact import ArtifactName, Lineage, parse_artifact_name, quote_name
from segue.model.graph import FINGERPRINT, NAME, Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Ledger, Query, find_pages
from segue.model.media_file import find_bucket_location, parse_location, split_uri
from segue.model.object_store import LAST, Object, ObjectStore
from segue.model.record import Record, State

READ_BATCH = 1_000  # artifacts
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
class Garbage:
    """An artifact that the ledger does not refer to, and why it may be deleted."""

    object: Object
    lineage: Lineage
    reason: GarbageReason


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageCollector:
    """Finds and deletes garbage among the artifacts of a graph."""

    graph: Graph
    ledger: Ledger
    artifacts: ObjectStore
    before: datetime  # younger artifacts are kept: a run may be about to record them
    clock: Clock = utc_now

    def find(self, report: Callable[[int], object] = lambda _artifacts: None) -> Iterator[Garbage]:
        """Stream all garbage; ``report`` is called with the number of artifacts of each batch.

        Raises
        ------
        DamagedRecord
            If a record cannot be read: the artifacts that it refers to would look like garbage.
        """
        self._check_ledger()
        with ThreadPoolExecutor(THREADS) as threads:
            for batch in split_into_batches(list_artifacts(self.artifacts), READ_BATCH):
                report(len(batch))
                found = threads.map(self._read_lineage, self._find_unreferenced(batch))
                yield from self._find_garbage([one for one in found if one is not None])

    def collect(self, garbage: Iterable[Garbage]) -> Iterator[Garbage]:
        """Delete what is still garbage by a second read of the ledger; yield what was deleted."""
        with ThreadPoolExecutor(THREADS) as threads:
            for batch in split_into_batches(garbage, DELETE_BATCH):
                confirmed = self._find_garbage([(one.object, one.lineage) for one in batch])
                removed = threads.map(self._remove, confirmed)
                yield from (one for one, gone in zip(confirmed, removed, strict=True) if gone)

    def _check_ledger(self) -> None:
        """Read the whole ledger."""
        for _ in find_pages(self.ledger, Query()):
            pass
        self._check_damage()

    def _check_damage(self) -> None:
        if damaged := self.ledger.damage.reasons:
            message = next(iter(damaged.values()))
            more = f" ({len(damaged)} records are damaged)" if len(damaged) > 1 else ""
            raise DamagedRecord(f"nothing more is deleted: {message}{more}", damaged)

    def _find_unreferenced(
        self, batch: Sequence[tuple[ArtifactName, Object]]
    ) -> list[tuple[ArtifactName, Object]]:
        """Return the old artifacts that their file's record, found by name, does not refer to."""
        uris = {name.file: self._guess_uri(name.file) for name, _ in batch}
        records = self._read(uri for uri in uris.values() if uri is not None)
        cutoff_s = self.before.timestamp()
        return [
            (name, found)
            for name, found in batch
            if found.updated_at < cutoff_s
            and not self._is_referenced(found, records.get(uris[name.file] or ""))
        ]

    def _guess_uri(self, file: str) -> str | None:
        """Guess the URI of a file in the catalogue's bucket; None if its name was quoted.

        A wrong guess costs a read of the metadata, never an artifact: the lineage has the URI.
        """
        if quote_name(file) != file:
            return None
        where = find_bucket_location(parse_location(self.graph.catalogue or "file:///"))
        return f"{where.rstrip('/')}/{file}" if where != "file:///" else f"file:///{file}"

    def _read_lineage(self, artifact: tuple[ArtifactName, Object]) -> tuple[Object, Lineage] | None:
        """Read an artifact's lineage; None if it is gone, or is not an artifact."""
        name, listed = artifact
        try:
            found = self.artifacts.stat(listed.name)
        except MissingInput:
            return None
        lineage = Lineage.from_metadata(found.metadata)
        if lineage is None or not _is_consistent(name, lineage):
            return None
        return found, lineage

    def _find_garbage(self, unreferenced: Sequence[tuple[Object, Lineage]]) -> list[Garbage]:
        records = self._read(dict.fromkeys(lineage.uri for _, lineage in unreferenced))
        return [
            Garbage(object=found, lineage=lineage, reason=reason)
            for found, lineage in unreferenced
            if (reason := self._find_reason(found, lineage, records.get(lineage.uri))) is not None
        ]

    def _find_reason(
        self, found: Object, lineage: Lineage, record: Record | None
    ) -> GarbageReason | None:
        if record is None:
            return GarbageReason.UNKNOWN_FILE
        if record.deleted_at is not None:
            return GarbageReason.DELETED_FILE if record.deleted_at < self.before else None
        if self._is_referenced(found, record):
            return None
        if lineage.generation != record.generation:
            return GarbageReason.OLD_GENERATION if lineage.generation < record.generation else None
        if self._is_held(record, lineage.job):
            return None
        if lineage.fingerprint != self.graph.fingerprints.get(lineage.job):
            return GarbageReason.OLD_FINGERPRINT
        return GarbageReason.LEFTOVER

    def _is_referenced(self, found: Object, record: Record | None) -> bool:
        """Whether a record refers to an artifact; a tombstone refers to none."""
        if record is None or record.deleted_at is not None:
            return False
        uri = self.artifacts.uri(found.name)
        return any(entry.artifact == uri for entry in record.jobs.values())

    def _is_held(self, record: Record, job: str) -> bool:
        """Whether a live worker holds the job, and may be about to record the artifact."""
        entry = record.jobs.get(job)
        if entry is None or entry.state is not State.RUNNING or entry.lease is None:
            return False
        return entry.lease.expires_at > self.clock() and not is_lost(entry.lease)

    def _remove(self, garbage: Garbage) -> bool:
        try:
            return self.artifacts.delete(garbage.object.name, generation=garbage.object.generation)
        except Superseded:  # overwritten meanwhile
            return False

    def _read(self, uris: Iterable[str]) -> dict[str, Record]:
        snapshots = self.ledger.read(list(uris))
        self._check_damage()
        return {s.record.uri: s.record for s in snapshots if s.record is not None}


def list_artifacts(store: ObjectStore) -> Iterator[tuple[ArtifactName, Object]]:
    """Stream all artifacts of a store, those of one file together.

    They are spread over one folder per job and fingerprint. All folders are listed in parallel and
    merged in the order of the files, so memory use stays flat.
    """
    folders = list(_find_folders(store))
    listings = [_list_folder(store, folder) for folder in folders]
    return heapq.merge(*listings, key=lambda found: found[1].name.split("/", 2)[2])


def _find_folders(store: ObjectStore) -> Iterator[str]:
    """Yield the folders of a job and a fingerprint; each listing starts after the last folder."""
    known, after = "", ""
    while True:
        for found in store.list(after=after):
            job, _, rest = found.name.partition("/")
            fingerprint, slash, _ = rest.partition("/")
            folder = f"{job}/{fingerprint}/"
            if not (slash and NAME.fullmatch(job) and FINGERPRINT.fullmatch(fingerprint)):
                continue
            if folder != known:  # a name that is not valid text sorts after LAST
                yield folder
                known, after = folder, folder + LAST
                break
        else:
            return


def _list_folder(store: ObjectStore, folder: str) -> Iterator[tuple[ArtifactName, Object]]:
    for found in store.list(folder):
        try:
            found.name.encode()
            yield parse_artifact_name(found.name), found
        except (UnicodeEncodeError, ConfigurationError):  # not written by Segue
            continue


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
