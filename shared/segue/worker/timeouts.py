"""How long a child may be where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.worker.shared_state import Phase

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.worker.shared_state import Place

# A job's first call in a process compiles and loads; once one was seen, others get so many times as
# long.
COLD_TIMES = 2.0


class Deadlines:
    """The bounds of a graph's jobs, and what was learned of their first calls."""

    def __init__(self, graph: Graph, *, setup_s: float, warmup_s: float) -> None:
        self.setup_s = setup_s
        self._names = tuple(graph.jobs)
        self._timeouts_s = [job.timeout_s for job in graph.jobs.values()]
        self._warmups_s = dict.fromkeys(self._names, warmup_s)
        self._longest_s = dict.fromkeys(self._names, 0.0)

    @property
    def shortest_s(self) -> float:
        """The shortest of all."""
        return min(self._timeouts_s)

    def limit_s(self, place: Place) -> float:
        """How long a child may be at a place; a batch has the time of all its files."""
        if place.phase is Phase.SETUP:
            return self.setup_s
        limit_s = self._timeouts_s[place.job] * place.files
        return limit_s + self._warmups_s[self._names[place.job]] * (place.phase is Phase.COLD)

    def warmed(self, job: str, seconds: float = 0.0) -> None:
        """A first call has ended, or was stopped, which says nothing of how long they take."""
        self._longest_s[job] = max(self._longest_s[job], seconds)
        self._warmups_s[job] = COLD_TIMES * self._longest_s[job]
