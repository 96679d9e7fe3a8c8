"""How long work takes, as far as is known, and so how much of it goes into one message."""

from __future__ import annotations

MESSAGE_S = 0.05
MAX_MESSAGE = 500
# A message is filled to this part even if it is then more than a fair share.
LEAST = 0.04
# An estimate follows the last few dozen tasks.
WEIGHT = 0.05
LATE_S = 0.2
LATE_TIMES = 4.0


class Pace:
    """Learns from what is finished; tasks that run the same jobs take alike."""

    def __init__(self) -> None:
        self._mean_s: dict[tuple[str, ...], float] = {}
        self._seen: dict[tuple[str, ...], int] = {}
        self._batch_sizes: dict[str, int] = {}
        self._least: dict[tuple[str, ...], int] = {}
        self._latest: tuple[str, ...] = ()

    def learn(self, run: tuple[str, ...], seconds: float) -> None:
        """Take note of how long a task took."""
        seen = self._seen.get(run, 0) + 1
        self._seen[run] = seen
        self._latest = run
        mean_s = self._mean_s.get(run, 0.0)
        self._mean_s[run] = mean_s + (seconds - mean_s) * max(WEIGHT, 1.0 / seen)

    def learn_batch(self, job: str, size: int) -> None:
        """Take note of a job that wants many files at once."""
        self._batch_sizes[job] = size
        self._least.clear()

    def seconds(self, run: tuple[str, ...]) -> float | None:
        """How long a task takes; None if nothing is known."""
        return self._mean_s.get(run)

    def share(self, run: tuple[str, ...]) -> float:
        """How much of a message a task fills."""
        mean_s = self._mean_s.get(run)
        filled = 1.0 if mean_s is None else mean_s / MESSAGE_S
        return min(max(filled, 1.0 / MAX_MESSAGE), 1.0 / self._batch(run))

    def message(self) -> int:
        """How many tasks of the latest kind a message holds."""
        return round(1.0 / self.share(self._latest))

    def late_s(self, run: tuple[str, ...]) -> float:
        """After how long a task is so late that those behind it go elsewhere."""
        return max(LATE_S, LATE_TIMES * self._mean_s.get(run, 0.0))

    def _batch(self, run: tuple[str, ...]) -> int:
        least = self._least.get(run)
        if least is None:
            sizes = [self._batch_sizes[j] for j in run if j in self._batch_sizes]
            least = self._least[run] = max(sizes, default=1)
        return least
