"""Decides how many tasks go into one message, from how long earlier tasks took."""

from __future__ import annotations

MESSAGE_S = 0.05
MAX_MESSAGE = 500
# A message is filled at least this much, even if that exceeds the child's fair share.
MIN_FILL = 0.04
# With this weight, an estimate reflects the last few dozen tasks.
WEIGHT = 0.05
LATE_S = 0.2
LATE_TIMES = 4.0


class BatchSize:
    """Estimates from finished tasks; tasks with the same jobs count as alike."""

    def __init__(self) -> None:
        self._mean_s: dict[tuple[str, ...], float] = {}
        self._counts: dict[tuple[str, ...], int] = {}
        self._batch_sizes: dict[str, int] = {}
        self._sizes: dict[tuple[str, ...], int] = {}
        self._latest: tuple[str, ...] = ()

    def learn(self, run: tuple[str, ...], seconds: float) -> None:
        """Record how long a task took."""
        count = self._counts.get(run, 0) + 1
        self._counts[run] = count
        self._latest = run
        mean_s = self._mean_s.get(run, 0.0)
        self._mean_s[run] = mean_s + (seconds - mean_s) * max(WEIGHT, 1.0 / count)

    def set_batch_size(self, job: str, size: int) -> None:
        """Record how many files a job wants per call."""
        self._batch_sizes[job] = size
        self._sizes.clear()

    def estimate_s(self, run: tuple[str, ...]) -> float | None:
        """Return how long a task takes; None if no such task has finished."""
        return self._mean_s.get(run)

    def estimate_share(self, run: tuple[str, ...]) -> float:
        """Return which fraction of a message a task fills."""
        mean_s = self._mean_s.get(run)
        filled = 1.0 if mean_s is None else mean_s / MESSAGE_S
        return min(max(filled, 1.0 / MAX_MESSAGE), 1.0 / self._find_batch_size(run))

    def estimate_message_size(self) -> int:
        """Return how many tasks like the latest one fit into a message."""
        return round(1.0 / self.estimate_share(self._latest))

    def estimate_late_s(self, run: tuple[str, ...]) -> float:
        """Return after how long the tasks behind a task are moved to other children."""
        return max(LATE_S, LATE_TIMES * self._mean_s.get(run, 0.0))

    def _find_batch_size(self, run: tuple[str, ...]) -> int:
        size = self._sizes.get(run)
        if size is None:
            sizes = [self._batch_sizes[j] for j in run if j in self._batch_sizes]
            size = self._sizes[run] = max(sizes, default=1)
        return size
