"""Which files the ledger is asked for: those on which jobs failed, are stale, or are missing."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query, current
from segue.model.record import Record, State

PAGE = 1000
What = Literal["failed", "stale", "missing", "all"]
WHATS: tuple[What, ...] = get_args(What)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerQuery:
    """What files must lack."""

    what: What
    graph: Graph
    targets: tuple[str, ...]

    def records(self, ledger: Ledger, prefix: str) -> Iterator[Record]:
        """The records, in the order of their URIs, each once; tombstones are left out.

        Failures are found by an index. What is stale or missing depends on today's graph, which no
        index knows: all records below the prefix are read.
        """
        if self.what == "failed":
            jobs = self.graph.upward(self.targets)
            found = [
                _pages(ledger, Query(prefix=prefix, job=job, state=State.FAILED)) for job in jobs
            ]
            last = ""
            for record in heapq.merge(*found, key=_uri):
                if record.uri != last and record.deleted_at is None:
                    yield record
                last = record.uri
            return
        lacks = self._lacks()
        for record in _pages(ledger, Query(prefix=prefix, deleted=False)):
            if lacks(record):
                yield record

    def _lacks(self) -> Callable[[Record], bool]:
        match self.what:
            case "stale":
                return lambda record: any(self._is_stale(record, job) for job in self.targets)
            case "missing":
                return lambda record: any(_is_missing(record, job) for job in self.targets)
            case _:
                return lambda _record: True

    def _is_stale(self, record: Record, job: str) -> bool:
        entry = record.jobs.get(job)
        done = entry is not None and entry.state is State.DONE
        return done and not current(self.graph, record, job)


def _is_missing(record: Record, job: str) -> bool:
    entry = record.jobs.get(job)
    return entry is None or entry.state is State.QUEUED


def _pages(ledger: Ledger, query: Query) -> Iterator[Record]:
    after = ""
    while page := ledger.find(query, after=after, limit=PAGE):
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].uri


def _uri(record: Record) -> str:
    return record.uri
