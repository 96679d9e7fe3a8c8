"""Explains the state of each job of a file, and what a backfill would do next."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from segue.adapters.connect import connect_store
from segue.clock import utc_now
from segue.errors import ConfigurationError, DamagedRecord, Kind, MissingInput, suggest
from segue.ingest.catalogue import MediaStat, stat_media
from segue.model.artifact import Lineage
from segue.model.graph import Graph
from segue.model.lease_owner import is_lost
from segue.model.ledger import Query
from segue.model.media_file import find_bucket_location, list_file_uris, split_uri
from segue.model.object_store import ObjectStore
from segue.model.planner import Verdict, plan_line
from segue.model.record import Entry, Lease, Record, State
from segue.model.transitions import arrive, is_current
from segue.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExplanation:
    """The state of one job of one file, and the reason."""

    job: str
    state: str  # of the entry, or "stale" or "missing"
    current: bool
    reason: str  # why it is not current; empty if it is
    verdict: Verdict  # what a backfill would do
    entry: Entry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactStat:
    """Size and lineage of one artifact, if it exists."""

    uri: str
    exists: bool
    size_bytes: int = 0
    lineage: Lineage | None = None  # None if the artifact is missing, or has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything that is known about one file."""

    uri: str
    record: Record | None  # in the ledger
    media_stat: MediaStat  # the file itself
    jobs: tuple[JobExplanation, ...]  # parents first
    artifacts: Mapping[str, ArtifactStat]  # by URI, including all that they were made from
    targets: tuple[str, ...]

    @property
    def gone(self) -> bool:
        """Whether the file no longer exists."""
        return self.media_stat.gone or (self.media_stat.media is None and self.deleted)

    @property
    def deleted(self) -> bool:
        """Whether the ledger has a tombstone."""
        return self.record is not None and self.record.deleted_at is not None

    @property
    def run(self) -> tuple[str, ...]:
        """The jobs that a backfill of the targets would compute."""
        if self.gone:
            return ()
        return tuple(a.job for a in self.jobs if a.verdict is Verdict.RUN)


def explain(stack: Stack, file: str, targets: Collection[str]) -> Explanation:
    """Explain a file, which is given as a path, a URI, or a path relative to the catalogue.

    Raises
    ------
    ConfigurationError
        If the file is neither in the ledger nor in its folder or bucket.
    DamagedRecord
        If its record cannot be read.
    """
    media_stat, record = _find_file(stack, file)
    now = utc_now()
    # A backfill first records the version that it finds.
    planned = arrive(record, media_stat.media, now)[0] if media_stat.media is not None else record
    jobs: list[JobExplanation] = []
    if planned is not None:
        jobs = explain_jobs(stack.graph, planned, targets, now=now)
    kept = record.jobs.values() if record is not None else ()
    return Explanation(
        uri=media_stat.uri,
        record=record,
        media_stat=media_stat,
        jobs=tuple(jobs),
        artifacts=trace_lineage(e.artifact for e in kept if e.artifact is not None),
        targets=tuple(targets),
    )


def _find_file(stack: Stack, file: str) -> tuple[MediaStat, Record | None]:
    """Return the first candidate URI that is in the ledger, else the first that exists."""
    uris = list_file_uris(file, stack.graph.catalogue)
    for uri, snapshot in zip(uris, stack.ledger.read(uris), strict=True):
        if snapshot.damage is not None:
            raise DamagedRecord(snapshot.damage, [uri])
        if snapshot.record is not None:
            return stat_media(uri), snapshot.record
    for uri in uris:
        found = stat_media(uri)
        if not found.gone or found.other:
            return found, None
    raise ConfigurationError(
        f"{file!r} is not in the ledger and does not exist; {_suggest_uris(stack, uris[0])}"
    )


def _suggest_uris(stack: Stack, uri: str) -> str:
    """Return a hint: similar URIs in the ledger, or how to write one."""
    folder, _, name = uri.rpartition("/")
    for start in (f"{folder}/{name[:3]}", f"{folder}/"):
        uris = [r.uri for r in stack.ledger.find(Query(prefix=start), limit=1000)]
        if hint := suggest(uri, uris, otherwise="", limit=3):
            return hint
    return "write a path, a URI as 'segue failures' shows them, or a path relative to the catalogue"


def trace_lineage(uris: Iterable[str]) -> dict[str, ArtifactStat]:
    """Look up artifacts, and all that they were made from."""
    traced: dict[str, ArtifactStat] = {}
    stores: dict[str, ObjectStore] = {}
    left = list(uris)
    with contextlib.ExitStack() as opened:
        while left:
            uri = left.pop()
            if uri in traced:
                continue
            location = find_bucket_location(uri)
            if location not in stores:
                stores[location] = connect_store(location)
                opened.callback(stores[location].close)
            try:
                found = stores[location].stat(split_uri(uri)[1])
            except MissingInput:
                traced[uri] = ArtifactStat(uri=uri, exists=False)
                continue
            lineage = Lineage.from_metadata(found.metadata)
            traced[uri] = ArtifactStat(
                uri=uri, exists=True, size_bytes=found.size_bytes, lineage=lineage
            )
            left += lineage.parents.values() if lineage is not None else ()
    return traced


def explain_jobs(
    graph: Graph,
    record: Record,
    targets: Collection[str],
    *,
    now: datetime,
) -> list[JobExplanation]:
    """Explain all jobs of the graph as a backfill of the targets would see them; parents first."""
    plan = plan_line(graph, record, targets, now=now, retry_transient=True, lost=is_lost)
    found = []
    for job in graph.jobs:
        entry = record.jobs.get(job)
        done_now = is_current(graph, record, job)
        done_before = entry is not None and entry.state is State.DONE and not done_now
        found.append(
            JobExplanation(
                job=job,
                state="missing" if entry is None else "stale" if done_before else str(entry.state),
                current=done_now,
                reason="" if done_now else _find_reason(graph, record, job, entry, now),
                verdict=plan.verdicts.get(job, Verdict.CURRENT if done_now else Verdict.IDLE),
                entry=entry,
            )
        )
    return found


def _find_reason(
    graph: Graph,
    record: Record,
    job: str,
    entry: Entry | None,
    now: datetime,
) -> str:
    if entry is None:
        return "it has never been requested"
    if entry.generation != record.generation:
        return f"it was made from generation {entry.generation}, the file is at {record.generation}"
    older = entry.fingerprint != graph.fingerprints[job]
    match entry.state:
        case State.DONE:
            return (
                f"the job, or one above it, has changed since: fingerprint {entry.fingerprint} "
                f"then, {graph.fingerprints[job]} now"
            )
        case State.FAILED:
            if older:
                return "an older version of the job failed; the current one has not been tried"
            if entry.error is not None and entry.error.kind == Kind.NO_SPACE:
                return "it failed for lack of space; the next backfill tries it again"
            return "it failed; run 'segue retry' to try again"
        case State.BLOCKED:
            return _explain_blocked(record, entry)
        case State.RUNNING:
            return _explain_running(entry, now)
        case State.QUEUED:
            return "it has been requested, and no worker has started it"


def _explain_blocked(record: Record, entry: Entry) -> str:
    cause = entry.error.type if entry.error is not None else "one above it"
    above = record.jobs.get(cause)
    if above is not None and above.state is State.FAILED:
        return f"{cause!r} above it failed"
    return f"{cause!r} above it had failed; it has not been tried since {cause!r} was repaired"


def _explain_running(entry: Entry, now: datetime) -> str:
    if entry.lease is None:
        return "it is running without a lease; the next worker takes it over"
    holder = format_holder(entry.lease)
    if is_lost(entry.lease):
        return f"{holder} held it, and is dead; the next worker takes it over"
    until = entry.lease.expires_at.astimezone().strftime("%H:%M:%S")
    if entry.lease.expires_at <= now:
        return f"the lease of {holder} expired at {until}; the next worker takes it over"
    return f"{holder} holds it until {until}"


def format_holder(lease: Lease) -> str:
    """Format the holder of a lease for people: process and host."""
    parts = lease.owner.rsplit("/", 3)
    if len(parts) != 4:
        return lease.owner
    host = parts[0].partition("@")[0].rpartition(":")[0] or parts[0]
    return f"process {parts[1]} on {host}"
