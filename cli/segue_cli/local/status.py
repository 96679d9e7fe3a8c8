"""The status of the system that ``segue up`` runs: totals of what its parts log, and the counts of
the ledger and the queue.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from segue.clock import utc_now
from segue.errors import TransientError
from segue.log import Action
from segue.model.controls import NO_CONTROLS, Controls
from segue.model.ledger import LedgerCounts
from segue.model.queue import DEAD_TOPIC, list_subscriptions
from segue.model.record import State

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.model.ledger import Ledger
    from segue.model.queue import Queue
    from segue.worker.running_job import RunningJob
    from segue_cli.local.supervisor import ProgramStatus

WINDOW_S = 10  # of the rates
RECENT = 5  # failures
COUNT_S = 0.5  # between two counts of the ledger and the queue
COUNT_SHARE = 10  # a count that takes a second is made at most every 10 seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """One failure of a job on a file."""

    at: datetime
    job: str
    kind: str
    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobActivity:
    """The counts of one job."""

    name: str
    states: Mapping[str, int]  # running, done, failed, blocked, as the ledger counts them
    rate: float  # results per second


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCounts:
    """The counts of the ledger and the queue."""

    files: int = 0
    deleted: int = 0
    dead_letters: int | None = None  # None: the queue cannot count
    # By pipeline: the messages that wait, without those in work; empty: the queue cannot count.
    queued: Mapping[str, int] = field(default_factory=dict)
    jobs: tuple[JobActivity, ...] = ()
    controls: Controls = NO_CONTROLS


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemStatus:
    """The status of the system of one graph."""

    namespace: str
    folder: str | None  # None: it watches none
    is_lost: bool  # the folder does not exist any more
    counts: StoredCounts
    events: int  # files with an event to deliver
    programs: tuple[ProgramStatus, ...]
    failures: tuple[JobFailure, ...]
    notes: tuple[str, ...]
    running: tuple[RunningJob, ...] = ()  # for a while, longest first


class ActivityTotals:
    """Totals of the lines that functions and pipelines log; thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._results: deque[tuple[float, str]] = deque()  # when a job had a result
        self._began = self._active_at = clock()
        self._counts: Counter[str] = Counter()
        self._failures: deque[JobFailure] = deque(maxlen=RECENT)

    def add(self, line: Mapping[str, Any]) -> None:
        """Count one line."""
        action, job = line.get("action"), str(line.get("job"))
        with self._lock:
            self._active_at = self._clock()
            self._counts[str(action)] += 1
            if action == Action.DONE:
                self._results.append((self._active_at, job))
                self._forget_old_results()
            elif action == Action.FAILED:
                kind, uri = str(line.get("kind")), str(line.get("file"))
                self._failures.appendleft(JobFailure(at=utc_now(), job=job, kind=kind, uri=uri))

    def _forget_old_results(self) -> None:
        while self._results and self._results[0][0] <= self._clock() - WINDOW_S:
            self._results.popleft()

    def compute_rates(self) -> dict[str, float]:
        """Return the recent results per second of each job."""
        with self._lock:
            self._forget_old_results()
            counts = Counter(job for _, job in self._results)
        span = min(max(self._clock() - self._began, 1.0), WINDOW_S)
        return {job: n / span for job, n in counts.items()}

    def count_actions(self) -> dict[str, int]:
        """Return how often each action was logged."""
        with self._lock:
            return dict(self._counts)

    def list_failures(self) -> tuple[JobFailure, ...]:
        """Return the last failures, newest first."""
        with self._lock:
            return tuple(self._failures)

    @property
    def idle_s(self) -> float:
        """How long nothing has been logged."""
        with self._lock:
            return self._clock() - self._active_at


class CountReader:
    """Reads the counts of the ledger and the queue, at most twice per second; for one thread."""

    def __init__(self, graph: Graph, ledger: Ledger, queue: Queue) -> None:
        self._graph = graph
        self._ledger = ledger
        self._queue = queue
        self._counts = LedgerCounts(files=0, deleted=0, jobs={})
        self._controls = NO_CONTROLS
        self._depth: Mapping[str, int] | None = None
        self._next_at = 0.0

    def read(self, rates: Mapping[str, float]) -> StoredCounts:
        """Return the counts, recent ones if the last count was a moment ago or a server is away."""
        began = time.monotonic()
        pipelines = self._graph.pipelines
        names = [one.name for one in list_subscriptions(self._graph)]
        if began >= self._next_at:
            try:
                self._controls = self._ledger.read_controls()
                self._counts = self._ledger.count(self._graph.accepted)
                self._depth = self._queue.measure_depth(names)
            except TransientError:
                pass
            now = time.monotonic()
            self._next_at = now + max(COUNT_S, (now - began) * COUNT_SHARE)
        return StoredCounts(
            controls=self._controls,
            files=self._counts.files,
            deleted=self._counts.deleted,
            dead_letters=self._depth[DEAD_TOPIC] if self._depth else None,
            queued={name: self._count_queued(name) for name in pipelines} if self._depth else {},
            jobs=tuple(
                JobActivity(
                    name=job, states=self._counts.jobs.get(job, {}), rate=rates.get(job, 0.0)
                )
                for job in self._graph.jobs
            ),
        )

    def _count_queued(self, pipeline: str) -> int:
        """Count the messages of a pipeline; those of files that it works on are in the queue."""
        assert self._depth is not None
        own = list_subscriptions(self._graph, (pipeline,))
        messages = sum(self._depth[one.name] for one in own)
        jobs = [self._counts.jobs.get(job, {}) for job in self._graph.pipelines[pipeline]]
        return max(messages - max(states.get(State.RUNNING, 0) for states in jobs), 0)
