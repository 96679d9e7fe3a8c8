"""The status of the system that ``segue up`` runs, for display."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from segue.errors import TransientError
from segue.model.graph import Graph
from segue.model.ledger import Ledger, LedgerCounts
from segue.model.queue import Lane, Queue, format_dead_topic, format_topic, list_topics
from segue.model.record import State
from segue_cli.local.activity_totals import JobFailure
from segue_cli.local.supervisor import ProgramStatus

COUNT_S = 0.5  # between two counts of the ledger and the queue
COUNT_SHARE = 10  # a count that takes a second is made at most every 10 seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class JobActivity:
    """The counts of one job."""

    name: str
    queued: int | None  # None: the queue cannot count
    states: Mapping[str, int]  # running, done, failed, blocked, as the ledger counts them
    rate: float  # results per second


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCounts:
    """The counts of the ledger and the queue."""

    files: int = 0
    deleted: int = 0
    dead_letters: int | None = None  # None: the queue cannot count
    jobs: tuple[JobActivity, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemStatus:
    """The status of the whole system."""

    folder: str
    is_lost: bool  # the folder does not exist any more
    since_s: float
    counts: StoredCounts
    events: int  # files with an event to deliver
    programs: tuple[ProgramStatus, ...]
    failures: tuple[JobFailure, ...]
    notes: tuple[str, ...]


class CountReader:
    """Reads the counts of the ledger and the queue, at most twice per second; for one thread."""

    def __init__(self, graph: Graph, ledger: Ledger, queue: Queue) -> None:
        self._graph = graph
        self._ledger = ledger
        self._queue = queue
        self._counts = LedgerCounts(files=0, deleted=0, jobs={})
        self._depth: Mapping[str, int] | None = None
        self._next_at = 0.0

    def read(self, rates: Mapping[str, float]) -> StoredCounts:
        """Return the counts, recent ones if the last count was a moment ago or a server is away."""
        began = time.monotonic()
        if began >= self._next_at:
            jobs = self._graph.jobs
            topics = (*list_topics(self._graph), *(format_dead_topic(job) for job in jobs))
            try:
                self._counts = self._ledger.count(self._graph.accepted)
                self._depth = self._queue.measure_depth(topics)
            except TransientError:
                pass
            now = time.monotonic()
            self._next_at = now + max(COUNT_S, (now - began) * COUNT_SHARE)
        depth = self._depth
        return StoredCounts(
            files=self._counts.files,
            deleted=self._counts.deleted,
            dead_letters=sum(depth[format_dead_topic(j)] for j in self._graph.jobs)
            if depth
            else None,
            jobs=tuple(self._count_job(job, rates.get(job, 0.0)) for job in self._graph.jobs),
        )

    def _count_job(self, job: str, rate: float) -> JobActivity:
        states = self._counts.jobs.get(job, {})
        queued = None
        if self._depth is not None:  # messages of running jobs are still in the queue
            messages = sum(self._depth[format_topic(job, lane)] for lane in Lane)
            queued = max(messages - states.get(State.RUNNING, 0), 0)
        return JobActivity(name=job, queued=queued, states=states, rate=rate)
