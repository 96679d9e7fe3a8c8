"""A server that is away: said once, waited for longer and longer, and never given up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from segue.errors import DiskFull, TransientError
from segue.log import Action, say

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


@dataclass(slots=True, kw_only=True)
class Outage:
    """How long to wait before the next try."""

    clock: Callable[[], float] = time.monotonic
    _pause_s: float = 0.0
    _until_s: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the last try failed."""
        return self._pause_s > 0

    @property
    def left_s(self) -> float:
        """How long it is until the next try."""
        return max(0.0, self._until_s - self.clock()) if self.is_on else 0.0

    def failed(self, error: TransientError, *, what: str) -> None:
        """Take note of an error; the first of an outage is logged."""
        if not self.is_on:
            severity = "ERROR" if isinstance(error, DiskFull) else "WARNING"
            say(Action.UNAVAILABLE, severity=severity, what=what, kind=error.kind, error=str(error))
        self._pause_s = min(LONGEST_PAUSE_S, 2 * self._pause_s or FIRST_PAUSE_S)
        self._until_s = self.clock() + self._pause_s

    def is_over(self) -> None:
        """Take note that a try succeeded."""
        self._pause_s = 0.0
