"""Lists the failed jobs in the ledger, in the order of their files."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from segue.errors import ConfigurationError, Kind
from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query, find_records
from segue.model.record import Entry, Failure, Record, State
from segue.suggestion import suggest

UNKNOWN = Failure(kind="job_raised", type="unknown", message="the ledger does not say why")


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


def select_kinds(names: Iterable[str] | None) -> frozenset[str]:
    """Return the named kinds of failures; an empty set means all."""
    for name in names or ():
        if name not in set(Kind):
            raise ConfigurationError(
                f"{name!r} is not a kind of failure; {suggest(name, list(Kind))}"
            )
    return frozenset(names or ())


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


def find_records_by_state(
    ledger: Ledger, jobs: Sequence[str], states: Sequence[State], prefix: str
) -> Iterator[Record]:
    """Stream the records that have any of the jobs in any of the states, each once, in order."""
    found = heapq.merge(
        *(
            find_records(ledger, Query(prefix=prefix, job=job, state=state, deleted=False))
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
