"""Finds and removes results that nothing needs any more, and the artifacts of no result.

An artifact is removed in two steps. A transition removes the result from its file's record, unless
it is needed by then: from now on, whoever needs it computes it again. Then the artifact is deleted
in the generation that was seen before, so one that is written meanwhile is kept. If the process is
killed in between, the next run finds an artifact of no result.

An object is an artifact by its name *and* by the lineage in its metadata; no other object is
deleted. The metadata of artifacts that are needed is not read.
"""

from __future__ import annotations

import functools
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import TypeVar

from segue.clock import Clock, utc_now
from segue.errors import ConfigurationError, DamagedRecord, MissingInput, Superseded
from segue.ingest.file_artifacts import list_result_folders
from segue.model.artifact import ArtifactName, Lineage, parse_artifact_name, quote_name
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Change, Ledger, Query, find_pages
from segue.model.media_file import find_bucket_location, parse_location, split_uri
from segue.model.object_store import Object, ObjectStore
from segue.model.record import FINISHED, Entry, Lease, Record, State, evolve
from segue.model.transitions import release

READ_BATCH = 1_000  # artifacts
DELETE_BATCH = 32  # artifacts; at most so many lose their result before a crash, and are left
THREADS = 16

T = TypeVar("T")


class GarbageReason(StrEnum):
    """Why nothing needs an artifact."""

    OLD_FINGERPRINT = "old_fingerprint"  # of a version of the job that is not accepted
    REMOVED_JOB = "removed_job"  # of a job that is not in the graph
    OLD_VERSION = "old_version"  # of a file that has been overwritten since
    DELETED_FILE = "deleted_file"
    LEFTOVER = "leftover"  # of a run that was killed before it wrote to the ledger
    UNKNOWN_FILE = "unknown_file"  # of a file that this ledger has no record of


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An object that a job wrote, and the file that it is about."""

    object: Object
    name: ArtifactName
    uri: str  # of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """An artifact that may be removed, with its result if it still has one."""

    artifact: Artifact
    reason: GarbageReason


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageCollector:
    """Finds and removes garbage among the artifacts of a graph.

    Results and artifacts that are younger than ``before`` are kept. So is everything of a file that
    somebody works on, perhaps with another graph: it may be in use.
    """

    graph: Graph
    ledger: Ledger
    artifacts: ObjectStore
    before: datetime
    pinned: frozenset[str] = frozenset()  # fingerprints that other namespaces are locked to
    clock: Clock = utc_now
    lost: Callable[[Lease], bool] = is_lost

    def find(
        self, report: Callable[[int], object] = lambda _artifacts: None, *, forget: bool = False
    ) -> Iterator[Garbage]:
        """Stream all garbage; ``report`` is called with the number of artifacts of each batch.

        With ``forget``, results that nothing needs and that have no artifact, such as failures of
        older versions of a job, are removed from the records beforehand.

        Raises
        ------
        DamagedRecord
            If a record cannot be read: the artifacts that it refers to would look like garbage.
        """
        self._read_ledger(forget=forget)
        with ThreadPoolExecutor(THREADS) as threads:
            for batch in split_into_batches(list_artifacts(self.artifacts), READ_BATCH):
                report(len(batch))
                described = threads.map(self._describe, self._find_candidates(batch))
                found = [artifact for artifact in described if artifact is not None]
                records = self._read(dict.fromkeys(artifact.uri for artifact in found))
                for artifact in found:
                    reason = self._find_reason(artifact.name, records.get(artifact.uri))
                    if reason is not None:
                        yield Garbage(artifact=artifact, reason=reason)

    def collect(self, garbage: Iterable[Garbage]) -> Iterator[Garbage]:
        """Remove what is still garbage; yield what was deleted."""
        with ThreadPoolExecutor(THREADS) as threads:
            for batch in split_into_batches(garbage, DELETE_BATCH):
                claimed = self._claim(batch)
                deleted = threads.map(self._delete, claimed)
                yield from (one for one, gone in zip(claimed, deleted, strict=True) if gone)

    def _read_ledger(self, *, forget: bool) -> None:
        """Read the whole ledger, and forget what failed as the graph no longer defines it."""
        for records in find_pages(self.ledger, Query()):
            outdated = [record for record in records if forget and self._list_old_failures(record)]
            if outdated:
                self.ledger.change(
                    [Change(uri=r.uri, transition=self._forget_old_failures) for r in outdated]
                )
        self._check_damage()

    def _check_damage(self) -> None:
        if damaged := self.ledger.damage.reasons:
            message = next(iter(damaged.values()))
            more = f" ({len(damaged)} records are damaged)" if len(damaged) > 1 else ""
            raise DamagedRecord(f"nothing more is deleted: {message}{more}", damaged)

    # Find.

    def _find_candidates(
        self, batch: Sequence[tuple[ArtifactName, Object]]
    ) -> list[tuple[ArtifactName, Object]]:
        """Return the old artifacts that their file's record, found by name, does not need."""
        uris = {name.file: self._guess_uri(name.file) for name, _ in batch}
        records = self._read(uri for uri in uris.values() if uri is not None)
        return [
            (name, found)
            for name, found in batch
            if self._is_old(found) and not self._is_needed(name, records.get(uris[name.file] or ""))
        ]

    def _guess_uri(self, file: str) -> str | None:
        """Guess the URI of a file in the catalogue's bucket; None if its name was quoted.

        A wrong guess costs a read of the metadata, never an artifact: the lineage has the URI.
        """
        if quote_name(file) != file:
            return None
        where = find_bucket_location(parse_location(self.graph.catalogue or "file:///"))
        return f"{where.rstrip('/')}/{file}" if where != "file:///" else f"file:///{file}"

    def _is_needed(self, name: ArtifactName, record: Record | None) -> bool:
        """Whether a record refers to an artifact that is not garbage."""
        return _find_result(record, name) is not None and self._find_reason(name, record) is None

    def _describe(self, found: tuple[ArtifactName, Object]) -> Artifact | None:
        """Read an artifact's lineage; None if it is gone, or is not an artifact.

        Its generation is noted before the record is read on which its removal depends.
        """
        name, listed = found
        try:
            current = self.artifacts.stat(listed.name)
        except MissingInput:
            return None
        lineage = Lineage.from_metadata(current.metadata)
        if lineage is None or not _is_consistent(name, lineage) or not self._is_old(current):
            return None
        return Artifact(object=current, name=name, uri=lineage.uri)

    def _is_old(self, found: Object) -> bool:
        return found.updated_at < self.before.timestamp()

    def _read(self, uris: Iterable[str]) -> dict[str, Record]:
        snapshots = self.ledger.read(list(uris))
        self._check_damage()
        return {s.record.uri: s.record for s in snapshots if s.record is not None}

    # Decide.

    def _find_reason(self, name: ArtifactName, record: Record | None) -> GarbageReason | None:
        """Return why an old artifact is garbage, given its file's record; None if it is not."""
        if record is None:
            return GarbageReason.UNKNOWN_FILE
        result = _find_result(record, name)
        if self._is_under_way(record) or (result is not None and not self._is_past(result)):
            return None
        if result is None and not record.erased and _is_newer(name, record):
            return None
        if record.deleted_at is not None:
            return GarbageReason.DELETED_FILE if record.deleted_at < self.before else None
        if name.version != record.version:
            may_come_back = result is not None and record.arrived_at >= self.before
            return None if may_come_back else GarbageReason.OLD_VERSION
        if name.fingerprint in self.pinned:
            return None if result is not None else GarbageReason.LEFTOVER
        if name.job not in self.graph.jobs:
            return GarbageReason.REMOVED_JOB
        if name.fingerprint not in self.graph.accepted[name.job]:
            return GarbageReason.OLD_FINGERPRINT
        return GarbageReason.LEFTOVER if result is None else None

    def _is_under_way(self, record: Record) -> bool:
        """Whether anybody works on a file: a live worker may be about to read or record results."""
        now = self.clock()
        leases = [entry.lease for entry in record.results.values() if entry.lease is not None]
        return any(lease.expires_at > now and not self.lost(lease) for lease in leases)

    def _is_past(self, result: Entry) -> bool:
        """Whether a result, and the last wish to notify somebody of it, are old."""
        moments = (result.finished_at, result.notify_at)
        return all(moment is None or moment < self.before for moment in moments)

    # Remove.

    def _list_old_failures(self, record: Record) -> list[str]:
        """Return the results without an artifact that the graph does not accept any more."""
        if self._is_under_way(record):
            return []
        return [
            fingerprint
            for fingerprint, entry in record.results.items()
            if entry.state in FINISHED
            and entry.state is not State.DONE
            and not entry.notify
            and self._is_past(entry)
            and fingerprint not in self.pinned
            and fingerprint not in self.graph.accepted.get(entry.job, ())
        ]

    def _forget_old_failures(self, record: Record | None) -> tuple[Record | None, None]:
        outdated = self._list_old_failures(record) if record is not None else []
        if record is None or not outdated:
            return None, None
        kept = {f: entry for f, entry in record.results.items() if f not in outdated}
        return evolve(record, results=kept), None

    def _claim(self, batch: Sequence[Garbage]) -> list[Garbage]:
        """Remove results from their records if they are still garbage; return what to delete."""
        by_uri: dict[str, list[Artifact]] = {}
        for one in batch:
            by_uri.setdefault(one.artifact.uri, []).append(one.artifact)
        changes = [
            Change(uri=uri, transition=functools.partial(self._forget, artifacts=artifacts))
            for uri, artifacts in by_uri.items()
        ]
        try:
            changed = self.ledger.change(changes)
        except DamagedRecord:
            self._check_damage()
            raise
        self.ledger.sync()  # else a result might come back after a power cut, and its artifact not
        return [one for each in changed for one in each.answer]

    def _forget(
        self, record: Record | None, *, artifacts: Sequence[Artifact]
    ) -> tuple[Record | None, list[Garbage]]:
        """Remove the results that artifacts belong to; return those artifacts that are garbage."""
        garbage = [
            Garbage(artifact=artifact, reason=reason)
            for artifact in artifacts
            if (reason := self._find_reason(artifact.name, record)) is not None
        ]
        if record is not None:
            for one in garbage:
                record = _remove_result(record, one.artifact.name)
        return record, garbage

    def _delete(self, garbage: Garbage) -> bool:
        found = garbage.artifact.object
        try:
            return self.artifacts.delete(found.name, generation=found.generation)
        except Superseded:  # overwritten meanwhile
            return False


def _is_newer(name: ArtifactName, record: Record) -> bool:
    """Whether an artifact is of a generation of which this ledger has not heard yet."""
    has_generations = record.version == str(record.order)
    return has_generations and name.version.isdecimal() and int(name.version) > record.order


def _find_result(record: Record | None, name: ArtifactName) -> Entry | None:
    """Return the result that refers to an artifact."""
    if record is None:
        return None
    is_current = name.version == record.version
    results = record.results if is_current else record.earlier.get(name.version, {})
    entry = results.get(name.fingerprint)
    return entry if entry is not None and name.suffix in entry.checksums else None


def _remove_result(record: Record, name: ArtifactName) -> Record:
    """Remove the result of an artifact, or the expired lease of a worker that may have written it.

    Else such a worker, which may only be slow, would record a result without an artifact.
    """
    if _find_result(record, name) is None:
        entry = record.results.get(name.fingerprint) if name.version == record.version else None
        lease = entry.lease if entry is not None else None
        released, _ = release(record, owns=lambda found: found == lease)
        return released or record
    if name.version == record.version:
        return evolve(record, results=_leave_out(record.results, name.fingerprint))
    earlier = {  # in the same order: the first ones are forgotten first
        version: _leave_out(results, name.fingerprint) if version == name.version else results
        for version, results in record.earlier.items()
    }
    return evolve(record, earlier={version: kept for version, kept in earlier.items() if kept})


def _leave_out(mapping: Mapping[str, T], key: str) -> dict[str, T]:
    return {k: value for k, value in mapping.items() if k != key}


def list_artifacts(store: ObjectStore) -> Iterator[tuple[ArtifactName, Object]]:
    """Stream all artifacts of a store, those of one file together.

    They are spread over one folder per job and fingerprint. All folders are listed in parallel and
    merged in the order of the files, so memory use stays flat.
    """
    folders = list(list_result_folders(store))
    listings = [_list_folder(store, folder) for folder in folders]
    return heapq.merge(*listings, key=lambda found: found[1].name.split("/", 2)[2])


def _list_folder(store: ObjectStore, folder: str) -> Iterator[tuple[ArtifactName, Object]]:
    for found in store.list(folder):
        try:
            found.name.encode()
            yield parse_artifact_name(found.name), found
        except (UnicodeEncodeError, ConfigurationError):  # not written by Segue
            continue


def _is_consistent(name: ArtifactName, lineage: Lineage) -> bool:
    """Whether an artifact's name and its lineage agree."""
    return (name.job, name.fingerprint, name.file, name.version) == (
        lineage.job,
        lineage.fingerprint,
        quote_name(split_uri(lineage.uri)[1]),
        lineage.version,
    )


def split_into_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Split items into lists of at most ``size`` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
