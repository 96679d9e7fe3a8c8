"""How far each job has come, over a catalogue or a part of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from segue.model.graph import Graph
from segue.model.ledger import Counts, Ledger, Query
from segue.model.record import Record, State

PAGE = 1000
STALE = "stale"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How many files each job has in which state; each job's numbers add up to all files."""

    files: int
    deleted: int
    jobs: Mapping[
        str, Mapping[str, int]
    ]  # job → done, stale, failed, blocked, running, queued, missing


def standing(ledger: Ledger, graph: Graph, prefix: str = "") -> Standing:
    """Count all files, or those whose URIs start with a prefix."""
    counts = _count(ledger, graph, prefix) if prefix else ledger.count(graph.accepted)
    jobs = {}
    for job in graph.jobs:
        states = {s: counts.jobs.get(job, {}).get(s, 0) for s in _STATES}
        jobs[job] = {**states, "missing": max(counts.files - sum(states.values()), 0)}
    return Standing(files=counts.files, deleted=counts.deleted, jobs=jobs)


_STATES = ("done", STALE, "failed", "blocked", "running", "queued")


def _count(ledger: Ledger, graph: Graph, prefix: str) -> Counts:
    """Count by reading the records: a ledger keeps sums of the whole only."""
    files = deleted = 0
    jobs: dict[str, Counter[str]] = {job: Counter() for job in graph.jobs}
    for record in records(ledger, Query(prefix=prefix)):
        if record.deleted_at is not None:
            deleted += 1
            continue
        files += 1
        for job, entry in record.jobs.items():
            if job in jobs:
                stale = entry.state is State.DONE and entry.fingerprint not in graph.accepted[job]
                jobs[job][STALE if stale else str(entry.state)] += 1
    return Counts(files=files, deleted=deleted, jobs=jobs)


def records(ledger: Ledger, query: Query, *, after: str = "") -> Iterator[Record]:
    """Stream all records that a query finds behind a URI, in the order of their URIs."""
    while page := ledger.find(query, after=after, limit=PAGE):
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].uri
