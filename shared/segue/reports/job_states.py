"""Reports the states of jobs in the ledger: how many files are in each, and which jobs failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from segue.errors import ConfigurationError, Kind, suggest
from segue.model.graph import Graph
from segue.model.ledger import Ledger, LedgerCounts, Query, find_records, find_records_by_state
from segue.model.record import Entry, Failure, State

UNKNOWN = Failure(kind="job_raised", type="unknown", message="the ledger does not say why")
STALE = "stale"
STATES = ("done", STALE, "failed", "blocked", "running", "queued")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """The number of files in each state, by job; each job's numbers add up to all files."""

    files: int
    deleted: int
    # job → done, stale, failed, blocked, running, queued, missing
    jobs: Mapping[str, Mapping[str, int]]


def count_jobs(ledger: Ledger, graph: Graph, prefix: str = "") -> JobCounts:
    """Count all files, or those whose URIs start with a prefix."""
    counts = _count_records(ledger, graph, prefix) if prefix else ledger.count(graph.accepted)
    jobs = {}
    for job in graph.jobs:
        states = {s: counts.jobs.get(job, {}).get(s, 0) for s in STATES}
        jobs[job] = {**states, "missing": max(counts.files - sum(states.values()), 0)}
    return JobCounts(files=counts.files, deleted=counts.deleted, jobs=jobs)


def _count_records(ledger: Ledger, graph: Graph, prefix: str) -> LedgerCounts:
    """Count by reading the records: the ledger's own counts cover the whole only."""
    files = deleted = 0
    jobs: dict[str, Counter[str]] = {job: Counter() for job in graph.jobs}
    for record in find_records(ledger, Query(prefix=prefix)):
        if record.deleted_at is not None:
            deleted += 1
            continue
        files += 1
        for job in jobs.keys() & record.jobs.keys():
            entry = record.jobs[job]
            stale = entry.state is State.DONE and entry.fingerprint not in graph.accepted[job]
            jobs[job][STALE if stale else str(entry.state)] += 1
    return LedgerCounts(files=files, deleted=deleted, jobs=jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedJob:
    """One job that failed on one file."""

    uri: str
    generation: int
    job: str
    entry: Entry
    stale: bool  # an older version of the job failed; the next backfill recomputes it

    @property
    def error(self) -> Failure:
        """The error with which it failed."""
        return self.entry.error or UNKNOWN


def select_kinds(names: Iterable[str]) -> frozenset[str]:
    """Return the named kinds of failures; an empty set means all."""
    kinds = frozenset(names)
    for name in sorted(kinds.difference(Kind)):
        raise ConfigurationError(f"{name!r} is not a kind of failure; {suggest(name, Kind)}")
    return kinds


def find_failures(
    ledger: Ledger,
    graph: Graph,
    *,
    jobs: Sequence[str],
    kinds: Collection[str] = (),
    prefix: str = "",
) -> Iterator[FailedJob]:
    """Stream the failed jobs; no kinds means all."""
    for record in find_records_by_state(ledger, jobs, (State.FAILED,), prefix):
        for job in jobs:
            entry = record.jobs.get(job)
            if entry is None or entry.state is not State.FAILED:
                continue
            found = FailedJob(
                uri=record.uri,
                generation=record.generation,
                job=job,
                entry=entry,
                stale=entry.fingerprint != graph.fingerprints[job],
            )
            if not kinds or found.error.kind in kinds:
                yield found
