"""Bounds how many files are started in a time."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from segue.errors import ConfigurationError

RATE = re.compile(r"(\d+(?:\.\d+)?)/(s|min|h)")
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
BURST_S = 0.25  # what was not started in that time may be started at once


def parse_rate(text: str) -> float:
    """Parse a rate such as ``2/s``, ``30/min`` or ``100/h``; return files per second.

    Raises
    ------
    ConfigurationError
        If it is not a rate, or is not greater than 0.
    """
    found = RATE.fullmatch(text.strip())
    rate = float(found[1]) / SECONDS[found[2]] if found else 0.0
    if not rate:
        raise ConfigurationError(
            f"{text!r} is not a rate; write a number greater than 0 and a unit "
            f"({', '.join(SECONDS)}), such as 30/min"
        )
    return rate


@dataclass(slots=True, kw_only=True)
class Pace:
    """A rate that starts keep to.

    A file may be started when the one before it has had its time. What is not used is kept for a
    quarter of a second, so that few writes claim many files.
    """

    rate_per_s: float
    clock_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _next_s: float | None = field(default=None)  # when the next file may be started

    @property
    def room(self) -> int:
        """How many files may be started now."""
        now = self.clock_s()
        if self._next_s is None or self._next_s < now - BURST_S:
            self._next_s = now - BURST_S if self.rate_per_s * BURST_S >= 1 else now
        # Rounded, as sums of the times of files are not exact.
        return max(0, math.floor((now - self._next_s) * self.rate_per_s + 1 + 1e-6))

    def start(self, files: int) -> None:
        """Count files that are started."""
        assert self._next_s is not None
        self._next_s += files / self.rate_per_s

    def wait(self, timeout_s: float) -> None:
        """Wait until a file may be started, up to a timeout."""
        if self._next_s is not None:
            left_s = self._next_s - self.clock_s()
            self.sleep(max(0.0, min(left_s, timeout_s)))
