"""Counts the files in each state, by job, over a catalogue or a part of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from segue.model.graph import Graph
from segue.model.ledger import Ledger, LedgerCounts, Query, find_records
from segue.model.record import State

STALE = "stale"


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
        states = {s: counts.jobs.get(job, {}).get(s, 0) for s in _STATES}
        jobs[job] = {**states, "missing": max(counts.files - sum(states.values()), 0)}
    return JobCounts(files=counts.files, deleted=counts.deleted, jobs=jobs)


_STATES = ("done", STALE, "failed", "blocked", "running", "queued")


def _count_records(ledger: Ledger, graph: Graph, prefix: str) -> LedgerCounts:
    """Count by reading the records: the ledger's own counts cover the whole only."""
    files = deleted = 0
    jobs: dict[str, Counter[str]] = {job: Counter() for job in graph.jobs}
    for record in find_records(ledger, Query(prefix=prefix)):
        if record.deleted_at is not None:
            deleted += 1
            continue
        files += 1
        for job, entry in record.jobs.items():
            if job in jobs:
                stale = entry.state is State.DONE and entry.fingerprint not in graph.accepted[job]
                jobs[job][STALE if stale else str(entry.state)] += 1
    return LedgerCounts(files=files, deleted=deleted, jobs=jobs)
