"""Adds up the log lines of the programs of ``segue up``: rates, counts and failures of jobs."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from segue.clock import utc_now
from segue.log import Action

WINDOW_S = 10
RECENT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailure:
    """One failure of a job on a file."""

    at: datetime
    job: str
    kind: str
    uri: str


class ActivityTotals:
    """Totals of the lines that programs log; thread-safe."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: deque[tuple[int, Counter[str]]] = deque()
        self._began = clock()
        self._counts: Counter[str] = Counter()
        self._failures: deque[JobFailure] = deque(maxlen=RECENT)
        self._active_at = clock()

    def add(self, line: Mapping[str, Any]) -> None:
        """Count one line."""
        action, job = line.get("action"), str(line.get("job"))
        with self._lock:
            self._active_at = self._clock()
            self._counts[str(action)] += 1
            if action == Action.DONE:
                self._bucket()[job] += 1
            elif action == Action.FAILED:
                kind, uri = str(line.get("kind")), str(line.get("file"))
                now = utc_now()
                self._failures.append(JobFailure(at=now, job=job, kind=kind, uri=uri))

    def _bucket(self) -> Counter[str]:
        second = int(self._clock())
        if not self._buckets or self._buckets[-1][0] != second:
            self._buckets.append((second, Counter()))
        self._forget(second)
        return self._buckets[-1][1]

    def _forget(self, second: int) -> None:
        while self._buckets and self._buckets[0][0] <= second - WINDOW_S:
            self._buckets.popleft()

    def compute_rates(self) -> dict[str, float]:
        """Return the recent results per second of each job."""
        with self._lock:
            now = self._clock()
            self._forget(int(now))
            total: Counter[str] = Counter()
            for _, counts in self._buckets:
                total += counts
        span = min(max(now - self._began, 1.0), WINDOW_S)
        return {job: n / span for job, n in total.items()}

    def count_actions(self) -> dict[str, int]:
        """Return how often each action was logged."""
        with self._lock:
            return dict(self._counts)

    def list_failures(self) -> tuple[JobFailure, ...]:
        """Return the last failures, newest first."""
        with self._lock:
            return tuple(reversed(self._failures))

    @property
    def idle_s(self) -> float:
        """How long nothing has been logged."""
        with self._lock:
            return self._clock() - self._active_at
