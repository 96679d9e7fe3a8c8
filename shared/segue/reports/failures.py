"""The failures that a ledger keeps, in the order of their files."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query
from segue.model.record import Entry, Failure, Record, State
from segue.reports.job_counts import records

UNKNOWN = Failure(kind="job_raised", type="unknown", message="the ledger does not say why")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedJob:
    """One job that failed on one file."""

    uri: str
    generation: int
    job: str
    entry: Entry
    stale: bool  # an older version of the job, which the next backfill replaces without being asked

    @property
    def error(self) -> Failure:
        """Why it failed."""
        return self.entry.error or UNKNOWN


def failures(
    ledger: Ledger,
    graph: Graph,
    *,
    jobs: Sequence[str],
    kinds: Collection[str] = (),
    prefix: str = "",
) -> Iterator[FailedJob]:
    """Stream what failed; no kinds means all."""
    for record in records_in(ledger, jobs, (State.FAILED,), prefix):
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


def records_in(
    ledger: Ledger, jobs: Sequence[str], states: Sequence[State], prefix: str
) -> Iterator[Record]:
    """Stream the records with any of some jobs in any of some states, each once, in order."""
    found = heapq.merge(
        *(
            records(ledger, Query(prefix=prefix, job=job, state=state, deleted=False))
            for job in jobs
            for state in states
        ),
        key=lambda record: record.uri,
    )
    last = ""
    for record in found:
        if record.uri != last:
            yield record
        last = record.uri
