"""Logs which jobs are paused: at the start of a system, and whenever that changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.log import Action, log_event
from segue.model.controls import NO_CONTROLS
from segue.reports.explanation import describe_pause

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.model.ledger import Ledger


class PauseReporter:
    """Compares the controls of a ledger with those that were there before."""

    def __init__(self, graph: Graph, ledger: Ledger) -> None:
        self._graph = graph
        self._ledger = ledger
        self._before = NO_CONTROLS

    def report(self, **about: str) -> None:
        """Log a line for each job that is paused since the last call, or is not any more."""
        controls, before = self._ledger.read_controls(), self._before
        self._before = controls
        for job in self._graph.jobs:
            pause = controls.find_pause(job)
            if pause == before.find_pause(job):
                continue
            if pause is None:
                log_event(Action.RESUMED, job=job, **about)
            else:
                log_event(
                    Action.PAUSED,
                    severity="WARNING",
                    job=job,
                    reason=describe_pause(pause),
                    **about,
                )
