"""The time limits of a graph's jobs: setup, first call, and later calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.worker.shared_state import Phase

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.worker.shared_state import Progress

# A job's first call in a process compiles and loads things. Once one has finished, later ones get
# this many times as long.
COLD_TIMES = 2.0


class Timeouts:
    """The time limits of a graph's jobs, adapted to how long first calls took."""

    def __init__(self, graph: Graph, *, setup_s: float, warmup_s: float) -> None:
        self.setup_s = setup_s
        self._names = tuple(graph.jobs)
        self._timeouts_s = [job.timeout_s for job in graph.jobs.values()]
        self._warmups_s = dict.fromkeys(self._names, warmup_s)
        self._longest_s = dict.fromkeys(self._names, 0.0)

    @property
    def shortest_s(self) -> float:
        """The shortest ``timeout_s`` of all jobs."""
        return min(self._timeouts_s)

    def find_limit_s(self, progress: Progress) -> float:
        """Return how long a child's current call may take; a batch gets the sum over its files."""
        if progress.phase is Phase.SETUP:
            return self.setup_s
        limit_s = self._timeouts_s[progress.job] * progress.files
        return limit_s + self._warmups_s[self._names[progress.job]] * (progress.phase is Phase.COLD)

    def record_first_call(self, job: str, seconds: float = 0.0) -> None:
        """Record a first call's duration; 0 if it was stopped, which says nothing of others."""
        self._longest_s[job] = max(self._longest_s[job], seconds)
        self._warmups_s[job] = COLD_TIMES * self._longest_s[job]
