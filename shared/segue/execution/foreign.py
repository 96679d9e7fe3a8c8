"""What other namespaces have computed of files: read from their ledgers, and never written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing

import msgspec

from segue.adapters.connect import ledger_exists, open_ledger_to_read
from segue.errors import ConfigurationError
from segue.model.artifact import build_artifact_name, build_references
from segue.model.graph import Graph
from segue.model.ledger import Ledger
from segue.model.manifest import Manifest, PublishedJob, split_reference
from segue.model.media_file import MediaFile, split_uri
from segue.model.message import Message, PublishedResult
from segue.model.record import UNFINISHED, Entry, Record, State, evolve

NO_RESULTS: Mapping[str, ForeignResult] = {}


class ForeignResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The result of another namespace's job for one version of a file."""

    state: State
    artifacts: Mapping[str, str] = {}  # URI → checksum
    is_retired: bool = False  # nobody computes it, any more or yet
    is_of_newer: bool = False  # not done, with a newer fingerprint than the locked one


class ForeignLedgers:
    """The ledgers of the namespaces that a graph depends on, each opened when it is first read.

    ``connect`` opens a ledger for reading, by its URL and namespace; None: there is none yet.
    """

    def __init__(self, graph: Graph, connect: Callable[[str, str], Ledger | None]) -> None:
        self._graph = graph
        self._connect = connect
        self._ledgers: dict[str, Ledger] = {}
        self._lock = threading.Lock()
        self._opened = ExitStack()

    def read(
        self, files: Sequence[MediaFile], targets: Sequence[Sequence[str]]
    ) -> Sequence[Mapping[str, ForeignResult]]:
        """Return, for each file, the results above its targets, by ``namespace/job``."""
        return self.look_up(files, [self._graph.find_foreign(each) for each in targets])[0]

    def look_up(
        self, files: Sequence[MediaFile], needed: Sequence[Sequence[str]]
    ) -> tuple[list[dict[str, ForeignResult]], list[set[str]]]:
        """Return the results of other namespaces that each file needs, each a ``namespace/job``.

        One call for each namespace reads the records of all files. What is missing, or is about
        another version of the file, is left out. Also returns the namespaces to which each file is
        unknown.
        """
        found: list[dict[str, ForeignResult]] = [{} for _ in files]
        unknown: list[set[str]] = [set() for _ in files]
        for namespace, manifest in self._graph.imports.items():
            jobs = [[r for r in line if split_reference(r)[0] == namespace] for line in needed]
            numbers = [i for i, line in enumerate(jobs) if line]
            if not numbers:
                continue
            ledger = self._open(manifest)
            if ledger is None:
                for i in numbers:
                    unknown[i].add(namespace)
                continue
            snapshots = ledger.read([files[i].uri for i in numbers])
            for i, snapshot in zip(numbers, snapshots, strict=True):
                if snapshot.record is None and snapshot.damage is None:
                    unknown[i].add(namespace)
                for reference in jobs[i]:
                    result = find_foreign_result(
                        manifest, self._graph.foreign[reference], snapshot.record, files[i]
                    )
                    if result is not None:
                        found[i][reference] = result
        return found, unknown

    def read_records(self, namespace: str, files: Sequence[MediaFile]) -> list[Record | None]:
        """Return the records of files in the ledger of a namespace, in one call.

        Raises ``ConfigurationError`` if there is no such ledger.
        """
        manifest = self._graph.imports[namespace]
        ledger = self._open(manifest)
        if ledger is None:
            raise ConfigurationError(
                f"there is no {manifest.ledger}, the ledger of {namespace!r}, or its folder is not "
                "accessible; check it, or lock the graph anew: segue lock"
            )
        return [snapshot.record for snapshot in ledger.read([media.uri for media in files])]

    def close(self) -> None:
        """Close the ledgers."""
        self._opened.close()
        self._ledgers.clear()

    def _open(self, manifest: Manifest) -> Ledger | None:
        with self._lock:
            if manifest.namespace not in self._ledgers:
                ledger = self._connect(manifest.ledger, manifest.namespace)
                if ledger is None:
                    return None
                self._ledgers[manifest.namespace] = self._opened.enter_context(closing(ledger))
            return self._ledgers[manifest.namespace]


def open_foreign_ledgers(graph: Graph, opened: ExitStack) -> ForeignLedgers | None:
    """Open what a graph reads of other namespaces, and close it with the stack."""
    if not graph.references:
        return None
    return opened.enter_context(closing(ForeignLedgers(graph, _connect)))


def _connect(url: str, namespace: str) -> Ledger | None:
    return open_ledger_to_read(url, namespace) if ledger_exists(url) else None


def find_inputs(
    graph: Graph, jobs: Iterable[str], found: Mapping[str, ForeignResult]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the URIs and checksums of what some jobs need of other namespaces."""
    needed = {p for job in jobs for p in graph.jobs[job].parents if p not in graph.jobs}
    results = {p: found[p] for p in sorted(needed)}
    written = [each for p, r in results.items() for each in build_references(p, r.artifacts)]
    inputs = {reference: uri for reference, uri, _ in written}
    return inputs, {reference: checksum for reference, _, checksum in written if checksum}


def find_foreign_result(
    manifest: Manifest, job: PublishedJob, record: Record | None, media: MediaFile
) -> ForeignResult | None:
    """Return a published job's result for a version of a file, or None if there is none of it.

    What is not done counts if it is of the locked fingerprint, or of a newer one that stands for
    that: then nobody may compute the locked one any more.
    """
    if record is None or record.deleted_at is not None or record.version != media.version:
        return None
    best: ForeignResult | None = None
    for fingerprint, entry in record.results.items():
        if entry.order != record.order:
            continue
        result = describe_result(fingerprint, entry)
        found = _read_result(manifest, job, entry.job, result, media)
        if found is not None and found.state is State.DONE:
            return found
        is_open = best is None or best.state in UNFINISHED
        if found is not None and is_open and job.fingerprint in (fingerprint, *entry.equivalents):
            best = evolve(found, is_of_newer=fingerprint != job.fingerprint)
    return best


def find_foreign_entry(
    job: PublishedJob, record: Record | None, media: MediaFile
) -> tuple[str, Entry] | None:
    """Return a published job's finished result for a version of a file, and its fingerprint."""
    if record is None or record.deleted_at is not None or record.version != media.version:
        return None
    for fingerprint, entry in record.results.items():
        is_done = entry.order == record.order and entry.state is State.DONE
        if is_done and not {fingerprint, *entry.equivalents}.isdisjoint(job.accepted):
            return fingerprint, entry
    return None


def describe_result(
    fingerprint: str, entry: Entry, equivalents: Iterable[str] = ()
) -> PublishedResult:
    """Return what other namespaces are told of a result, and what else it stands for."""
    return PublishedResult(
        state=entry.state,
        fingerprint=fingerprint,
        equivalents=tuple(dict.fromkeys((*entry.equivalents, *equivalents))),
        checksums=entry.checksums,
    )


def find_told_result(graph: Graph, message: Message) -> tuple[str, ForeignResult] | None:
    """Return what a message tells of another namespace's job, and the job's ``namespace/job``.

    None: the graph does not need it, or is locked to another fingerprint.
    """
    reference = f"{message.namespace}/{message.trigger}"
    job = graph.foreign.get(reference)
    if job is None or message.trigger is None or message.result is None:
        return None
    manifest = graph.imports[message.namespace]
    found = _read_result(manifest, job, message.trigger, message.result, message.media)
    return (reference, found) if found is not None else None


def _read_result(
    manifest: Manifest, job: PublishedJob, name: str, result: PublishedResult, media: MediaFile
) -> ForeignResult | None:
    """Return a result, or None if it is not the one that the graph is locked to.

    A newer fingerprint counts if its results stand for that one.
    """
    if {result.fingerprint, *result.equivalents}.isdisjoint(job.accepted):
        return None
    if result.state is None:
        return ForeignResult(state=State.BLOCKED, is_retired=True)
    if result.state is not State.DONE:
        return ForeignResult(state=result.state)
    path, location = split_uri(media.uri)[1], manifest.artifacts.rstrip("/")
    artifacts = {
        f"{location}/"
        f"{build_artifact_name(name, result.fingerprint, path, media.version, suffix)}": checksum
        for suffix, checksum in result.checksums.items()
    }
    return ForeignResult(state=State.DONE, artifacts=artifacts) if artifacts else None
