"""Finds out, in a worker of a backfill, whether the run is to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from segue.ingest.control_reader import ControlReader
from segue.model.controls import cancel_run
from segue.model.failure_limit import FailureLimit
from segue.model.outcome import TRIED, Outcome, RunTotals, Status
from segue_pipelines.progress import read_progress

LOOK_S = 0.5  # between two looks at what other workers on this machine have done


@dataclass(slots=True, kw_only=True)
class RunGuard:
    """Stops a run that was cancelled, or in which too many files have failed.

    Workers on one machine see in a folder what all of them have done. Elsewhere each has its share
    of the limit, and whoever reaches it tells the others by the ledger's controls.
    """

    run: str  # its id
    controls: ControlReader
    limit: FailureLimit | None = None
    progress: str | None = None  # the folder of the workers on this machine
    workers: int = 1
    is_stopped: bool = False
    _own: RunTotals = field(default_factory=RunTotals)
    _looked_at_s: float = field(default=float("-inf"))

    def add(self, outcome: Outcome) -> None:
        """Count a file."""
        statuses = outcome.jobs.values()
        self._own.tried_files += not TRIED.isdisjoint(statuses)
        self._own.newly_failed_files += Status.FAILED in statuses

    def check(self) -> bool:
        """Return whether the run is to stop; it never goes on after that."""
        if not self.is_stopped:
            is_cancelled = self.run in self.controls.read().cancelled
            self.is_stopped = is_cancelled or self._has_failed()
        return self.is_stopped

    def _has_failed(self) -> bool:
        limit = self.limit
        if limit is None:
            return False
        if self.progress is None:
            return self._tell_others(limit.divide(self.workers))
        if self.workers == 1:
            return _is_reached(limit, self._own)
        now_s = time.monotonic()
        if now_s - self._looked_at_s < LOOK_S:
            return False
        self._looked_at_s = now_s
        return _is_reached(limit, read_progress(self.progress))

    def _tell_others(self, share: FailureLimit) -> bool:
        if not _is_reached(share, self._own):
            return False
        self.controls.ledger.change_controls(
            lambda found: cancel_run(
                found,
                self.run,
                by=None,
                now=self.controls.clock(),
                reason="too many files have failed",
            )
        )
        return True


def _is_reached(limit: FailureLimit, totals: RunTotals) -> bool:
    return limit.is_reached(totals.newly_failed_files, totals.tried_files)
