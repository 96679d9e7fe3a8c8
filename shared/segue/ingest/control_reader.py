"""Reads the controls of a ledger, every few seconds at most."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from segue.clock import Clock, utc_now
from segue.model.controls import NO_CONTROLS, READ_S, Controls
from segue.model.ledger import Ledger


@dataclass(slots=True, kw_only=True)
class ControlReader:
    """The controls as they were at most a few seconds ago."""

    ledger: Ledger
    clock: Clock = utc_now
    every_s: float = READ_S
    _found: Controls = NO_CONTROLS
    _read_at: datetime | None = field(default=None)

    def read(self) -> Controls:
        """Return the controls; a ledger that is unavailable raises as for its records."""
        now = self.clock()
        if self._read_at is None or abs((now - self._read_at).total_seconds()) >= self.every_s:
            self._found = self.ledger.read_controls()
            self._read_at = now
        return self._found

    def select_paused(self, jobs: Iterable[str]) -> frozenset[str]:
        """Return those of some jobs that are paused."""
        return self.read().select_paused(jobs)


PausedJobs = Callable[[], frozenset[str]]
