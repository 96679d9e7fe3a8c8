"""Queries for files on which jobs failed, are stale or are missing."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from segue.errors import ConfigurationError
from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query, find_records
from segue.model.record import Record, State
from segue.model.transitions import is_current

Criterion = Literal["failed", "stale", "missing", "all"]
CRITERIA: tuple[Criterion, ...] = get_args(Criterion)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerQuery:
    """Finds the files whose targets meet a criterion."""

    criterion: Criterion
    graph: Graph
    targets: tuple[str, ...]

    def records(self, ledger: Ledger, prefix: str) -> Iterator[Record]:
        """Yield the records in the order of their URIs, without tombstones.

        An index finds failures. Whether a result is stale or missing depends on the current graph,
        which no index knows, so all records below the prefix are read.
        """
        if self.criterion == "failed":
            jobs = self.graph.add_ancestors(self.targets)
            found = [
                find_records(ledger, Query(prefix=prefix, job=job, state=State.FAILED))
                for job in jobs
            ]
            last = ""
            for record in heapq.merge(*found, key=_uri):
                if record.uri != last and record.deleted_at is None:
                    yield record
                last = record.uri
            return
        matches = self._build_filter()
        for record in find_records(ledger, Query(prefix=prefix, deleted=False)):
            if matches(record):
                yield record

    def _build_filter(self) -> Callable[[Record], bool]:
        match self.criterion:
            case "stale":
                return lambda record: any(self._is_stale(record, job) for job in self.targets)
            case "missing":
                return lambda record: any(_is_missing(record, job) for job in self.targets)
            case _:
                return lambda _record: True

    def _is_stale(self, record: Record, job: str) -> bool:
        entry = record.jobs.get(job)
        done = entry is not None and entry.state is State.DONE
        return done and not is_current(self.graph, record, job)


def _is_missing(record: Record, job: str) -> bool:
    entry = record.jobs.get(job)
    return entry is None or entry.state is State.QUEUED


def _uri(record: Record) -> str:
    return record.uri


def build_ledger_query(graph: Graph, targets: tuple[str, ...], criterion: str) -> LedgerQuery:
    """Build the query for a criterion that a user wrote."""
    for known in CRITERIA:
        if known == criterion:
            return LedgerQuery(criterion=known, graph=graph, targets=targets)
    raise ConfigurationError(
        f"{criterion!r} is not a ledger query; write one of {', '.join(CRITERIA)}"
    )
