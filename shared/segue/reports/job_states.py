"""Reports the states of jobs in the ledger: how many files are in each, and which jobs failed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from segue.errors import ConfigurationError, Kind, suggest
from segue.model.graph import Graph
from segue.model.ledger import Ledger, LedgerCounts, Query, find_records, find_records_by_state
from segue.model.record import REQUESTED, Entry, Failure, Record, State, is_inbox
from segue.model.transitions import find_current, find_entry, is_current

UNKNOWN = Failure(kind="job_raised", type="unknown", message="the ledger does not say why")
STALE = "stale"
MISSING = "missing"
MAX_REQUESTED = 1000  # files to read
# With "missing", each file has one of them for each job.
STATES = ("done", "not_applicable", "failed", "blocked", "running", "queued")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """The number of files in each state, by job."""

    files: int
    deleted: int
    # job → done, not_applicable, failed, blocked, running, queued, missing, which add up to all
    # files; and stale: those of them that have a result of an earlier version of the job only.
    jobs: Mapping[str, Mapping[str, int]]
    reads: int = 0  # that the server bills for counting


def count_jobs(ledger: Ledger, graph: Graph, prefix: str = "") -> JobCounts:
    """Count all files, or those whose URIs start with a prefix."""
    counts = _count_records(ledger, graph, prefix) if prefix else ledger.count(graph.accepted)
    jobs = {}
    for job in graph.jobs:
        found = counts.jobs.get(job, {})
        states = {s: found.get(s, 0) for s in STATES}
        # A ledger in the cloud counts each state at another moment.
        missing = max(counts.files - sum(states.values()), 0)
        jobs[job] = {**states, MISSING: missing, STALE: found.get(STALE, 0)}
    return JobCounts(files=counts.files, deleted=counts.deleted, jobs=jobs, reads=counts.reads)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRequests:
    """The files of which other namespaces wait for a result, by namespace."""

    files: Mapping[str, int]
    is_complete: bool  # False: there are more than were read


def count_requests(ledger: Ledger, prefix: str = "") -> ForeignRequests:
    """Count the files of which other namespaces wait for a result, reading at most a thousand."""
    files: Counter[str] = Counter()
    query = Query(prefix=prefix, open=REQUESTED)
    records = list(itertools.islice(find_records(ledger, query), MAX_REQUESTED + 1))
    for record in records[:MAX_REQUESTED]:
        files.update(
            {
                whom.partition("/")[0]
                for entry in record.results.values()
                for whom in filter(is_inbox, entry.notify)
            }
        )
    return ForeignRequests(
        files=dict(sorted(files.items())), is_complete=len(records) <= MAX_REQUESTED
    )


def _count_records(ledger: Ledger, graph: Graph, prefix: str) -> LedgerCounts:
    """Count by reading the records: the ledger's own counts cover the whole only."""
    files = deleted = 0
    jobs: dict[str, Counter[str]] = {job: Counter() for job in graph.jobs}
    for record in find_records(ledger, Query(prefix=prefix)):
        if record.deleted_at is not None:
            deleted += 1
            continue
        files += 1
        for job, counted in jobs.items():
            counted.update(_list_states(graph, record, job))
    return LedgerCounts(files=files, deleted=deleted, jobs=jobs)


def _list_states(graph: Graph, record: Record, job: str) -> Iterator[str]:
    """Yield what a job of one file counts as: its state, and whether it is stale."""
    if find_current(graph, record, job) is not None:
        yield str(State.DONE)
        return
    entry = find_entry(graph, record, job)
    if entry is not None:
        yield str(entry.state)
    if _has_result(record, job):
        yield STALE


def _has_result(record: Record, job: str) -> bool:
    """Whether any version of a job has a result."""
    return any(e.job == job and e.state is State.DONE for e in record.results.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedJob:
    """One job that failed on one file."""

    uri: str
    version: str  # of the file
    job: str
    fingerprint: str
    entry: Entry

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
    """Stream the jobs that failed as the graph now defines them; no kinds means all."""
    for record in find_records_by_state(ledger, graph, jobs, (State.FAILED,), prefix):
        for job in jobs:
            entry = find_entry(graph, record, job)
            if entry is None or entry.state is not State.FAILED or is_current(graph, record, job):
                continue
            found = FailedJob(
                uri=record.uri,
                version=record.version,
                job=job,
                fingerprint=graph.fingerprints[job],
                entry=entry,
            )
            if not kinds or found.error.kind in kinds:
                yield found
