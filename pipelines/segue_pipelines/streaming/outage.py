"""Retries after a server becomes unavailable: logged once, with growing pauses, for ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from segue.backoff import Backoff
from segue.errors import DiskFull, TransientError
from segue.log import Action, log_event

BACKOFF = Backoff(0.1, 10.0)


@dataclass(slots=True, kw_only=True)
class Outage:
    """The retry state of one operation: how long to wait before the next try."""

    clock: Callable[[], float] = time.monotonic
    backoff: Backoff = BACKOFF
    _pauses: Iterator[float] | None = None  # None while there is no outage
    _until_s: float = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the last try failed."""
        return self._pauses is not None

    @property
    def left_s(self) -> float:
        """The time until the next try; 0 if it is due."""
        return max(0.0, self._until_s - self.clock()) if self.is_on else 0.0

    def record_failure(self, error: TransientError, *, what: str) -> None:
        """Record a failed try, and log it if it is the first of the outage."""
        if self._pauses is None:
            self._pauses = iter(self.backoff)
            severity = "ERROR" if isinstance(error, DiskFull) else "WARNING"
            log_event(
                Action.UNAVAILABLE, severity=severity, what=what, kind=error.kind, error=str(error)
            )
        self._until_s = self.clock() + next(self._pauses)

    def record_success(self) -> None:
        """Record that a try succeeded: the outage is over."""
        self._pauses = None
