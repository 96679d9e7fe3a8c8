"""Why each job of a file stands where it stands, and what would be done next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from segue.ingest.media_stat import Sight
from segue.model.graph import Graph
from segue.model.ledger import arrive, current
from segue.model.planner import Verdict, line
from segue.model.record import Entry, Lease, Record, State
from segue.reports.lineage import Found, LineageReader


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAccount:
    """One job of one file."""

    job: str
    state: str  # of the entry, or "stale" or "missing"
    current: bool
    reason: str  # why it is not current; empty if it is
    verdict: Verdict  # what a backfill would do
    entry: Entry | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All that is known of one file."""

    uri: str
    record: Record | None  # as the ledger has it
    sight: Sight  # the file itself
    jobs: tuple[JobAccount, ...]  # parents first
    artifacts: Mapping[str, Found]  # by URI, with all that they were made from
    targets: tuple[str, ...]

    @property
    def gone(self) -> bool:
        """Whether there is no file to work on any more."""
        return self.sight.gone or (self.sight.media is None and self.deleted)

    @property
    def deleted(self) -> bool:
        """Whether the ledger keeps a tombstone."""
        return self.record is not None and self.record.deleted_at is not None

    @property
    def run(self) -> tuple[str, ...]:
        """The jobs that a backfill of the targets would compute."""
        if self.gone:
            return ()
        return tuple(a.job for a in self.jobs if a.verdict is Verdict.RUN)


def explanation(
    graph: Graph,
    record: Record | None,
    sight: Sight,
    targets: Collection[str],
    reader: LineageReader,
    *,
    now: datetime,
    lost: Callable[[Lease], bool],
) -> Explanation:
    """Put together what ledger, catalogue and artifacts say of a file."""
    # A backfill first takes note of the version that it finds.
    planned = arrive(record, sight.media, now)[0] if sight.media is not None else record
    jobs = accounts(graph, planned, targets, now=now, lost=lost) if planned is not None else ()
    kept = record.jobs.values() if record is not None else ()
    return Explanation(
        uri=sight.uri,
        record=record,
        sight=sight,
        jobs=tuple(jobs),
        artifacts=reader.trace(e.artifact for e in kept if e.artifact is not None),
        targets=tuple(targets),
    )


def accounts(
    graph: Graph,
    record: Record,
    targets: Collection[str],
    *,
    now: datetime,
    lost: Callable[[Lease], bool],
) -> list[JobAccount]:
    """Account for all jobs of the graph, if a backfill of some targets came next; parents first."""
    verdicts = line(graph, record, targets, now=now, lost=lost).verdicts
    found = []
    for job in graph.jobs:
        entry = record.jobs.get(job)
        is_current = current(graph, record, job)
        done_before = entry is not None and entry.state is State.DONE and not is_current
        found.append(
            JobAccount(
                job=job,
                state="missing" if entry is None else "stale" if done_before else str(entry.state),
                current=is_current,
                reason="" if is_current else _reason(graph, record, job, entry, now, lost),
                verdict=verdicts.get(job, Verdict.CURRENT if is_current else Verdict.IDLE),
                entry=entry,
            )
        )
    return found


def _reason(
    graph: Graph,
    record: Record,
    job: str,
    entry: Entry | None,
    now: datetime,
    lost: Callable[[Lease], bool],
) -> str:
    if entry is None:
        return "it has never been asked for"
    if entry.generation != record.generation:
        return f"it is of generation {entry.generation}, the file is at {record.generation}"
    older = entry.fingerprint != graph.fingerprints[job]
    match entry.state:
        case State.DONE:
            return (
                f"the job, or one above it, has changed since: {entry.fingerprint} then, "
                f"{graph.fingerprints[job]} now"
            )
        case State.FAILED:
            tried = "an older version of the job failed; the present one has not been tried"
            return tried if older else "it failed, and is not tried again before 'segue retry'"
        case State.BLOCKED:
            return _blocked(record, entry)
        case State.RUNNING:
            return _running(entry, now, lost)
        case State.QUEUED:
            return "it has been asked for, and nobody works on it"


def _blocked(record: Record, entry: Entry) -> str:
    cause = entry.error.type if entry.error is not None else "one above it"
    above = record.jobs.get(cause)
    if above is not None and above.state is State.FAILED:
        return f"{cause!r} above it failed"
    return f"{cause!r} above it had failed; it has not been tried since that was mended"


def _running(entry: Entry, now: datetime, lost: Callable[[Lease], bool]) -> str:
    if entry.lease is None:
        return "it is marked as running, and nobody holds it: the next to come takes it"
    if lost(entry.lease):
        return f"{holder(entry.lease)} held it, and is dead: the next to come takes it"
    until = entry.lease.expires_at.astimezone().strftime("%H:%M:%S")
    if entry.lease.expires_at <= now:
        return f"{holder(entry.lease)} held it until {until}: the next to come takes it"
    return f"{holder(entry.lease)} holds it until {until}"


def holder(lease: Lease) -> str:
    """Say who holds a lease, as a person looks for it."""
    parts = lease.owner.rsplit("/", 3)
    if len(parts) != 4:
        return lease.owner
    host = parts[0].partition("@")[0].rpartition(":")[0] or parts[0]
    return f"process {parts[1]} on {host}"
