"""Measures wall and processor time of consecutive steps; reads the clocks once per step."""

from __future__ import annotations

import resource
import time


class Timer:
    """Measures the time from one mark to the next."""

    def __init__(self) -> None:
        self.marked_s = 0.0
        self._marked_cpu_s = 0.0
        self.mark()

    def mark(self) -> None:
        """Start to measure now."""
        self.marked_s = time.monotonic()
        self._marked_cpu_s = _cpu_s()

    def lap(self) -> tuple[float, float]:
        """Return wall and processor time since the last mark, with child processes; set a mark."""
        before_s, before_cpu_s = self.marked_s, self._marked_cpu_s
        self.mark()
        return self.marked_s - before_s, self._marked_cpu_s - before_cpu_s


def _cpu_s() -> float:
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + below.ru_utime + below.ru_stime
