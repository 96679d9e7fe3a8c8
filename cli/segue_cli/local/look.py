"""How the system is that ``segue up`` runs, as it is shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from segue.errors import TransientError
from segue.model.graph import Graph
from segue.model.ledger import Counts, Ledger
from segue.model.queue import Lane, Queue, dead_topic, topic_of, topics_of
from segue.model.record import State
from segue_cli.local.supervisor import Standing
from segue_cli.local.tally import Trouble

LOOK_S = 0.5  # between two looks at ledger and queue
LOOK_SHARE = 10  # a look that takes a second is taken every 10 seconds at most


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLook:
    """How one job is."""

    name: str
    queued: int | None  # None: the queue does not know
    states: Mapping[str, int]  # running, done, failed, blocked, as the ledger counts them
    rate: float  # results a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What ledger and queue hold."""

    files: int = 0
    deleted: int = 0
    dead_letters: int | None = None  # None: the queue does not know
    jobs: tuple[JobLook, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How all of it is."""

    folder: str
    is_lost: bool  # the folder went away
    since_s: float
    counted: Counted
    events: int  # files whose events wait to be delivered
    programs: tuple[Standing, ...]
    troubles: tuple[Trouble, ...]
    notes: tuple[str, ...]


class Counter:
    """Counts what ledger and queue hold, twice a second at most; for one thread."""

    def __init__(self, graph: Graph, ledger: Ledger, queue: Queue) -> None:
        self._graph = graph
        self._ledger = ledger
        self._queue = queue
        self._counts = Counts(files=0, deleted=0, jobs={})
        self._depth: Mapping[str, int] | None = None
        self._next_at = 0.0

    def counted(self, rates: Mapping[str, float]) -> Counted:
        """Count, or tell what was counted a moment ago; a server that is away is asked later."""
        began = time.monotonic()
        if began >= self._next_at:
            jobs = self._graph.jobs
            topics = (*topics_of(self._graph), *(dead_topic(job) for job in jobs))
            try:
                self._counts = self._ledger.count(self._graph.accepted)
                self._depth = self._queue.depth(topics)
            except TransientError:
                pass
            now = time.monotonic()
            self._next_at = now + max(LOOK_S, (now - began) * LOOK_SHARE)
        depth = self._depth
        return Counted(
            files=self._counts.files,
            deleted=self._counts.deleted,
            dead_letters=sum(depth[dead_topic(j)] for j in self._graph.jobs) if depth else None,
            jobs=tuple(self._job(job, rates.get(job, 0.0)) for job in self._graph.jobs),
        )

    def _job(self, job: str, rate: float) -> JobLook:
        states = self._counts.jobs.get(job, {})
        queued = None
        if self._depth is not None:  # what is being worked on is in the queue, too
            letters = sum(self._depth[topic_of(job, lane)] for lane in Lane)
            queued = max(letters - states.get(State.RUNNING, 0), 0)
        return JobLook(name=job, queued=queued, states=states, rate=rate)
