"""Has a backfill stop that runs here or elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from segue.adapters.dataflow_jobs import cancel_job
from segue.clock import utc_now
from segue.model.controls import cancel_run
from segue.model.run import RunState, find_user

if TYPE_CHECKING:
    from segue.model.run import RunRecord
    from segue.stack import Stack


def stop_backfill(stack: Stack, run: RunRecord) -> None:
    """Ask Dataflow to cancel a run's job, or have its workers stop, which read the ledger.

    Raises
    ------
    ConfigurationError
        If Dataflow refuses it.
    Unavailable
        If Dataflow or the ledger cannot be reached.
    """
    if run.runner_job is not None:
        cancel_job(run.runner_job)
        return
    stack.ledger.change_controls(
        lambda controls: cancel_run(controls, run.id, by=find_user(), now=utc_now())
    )
    stack.ledger.sync()


def mark_cancelled(run: RunRecord) -> RunRecord:
    """Return the record of a run elsewhere that was cancelled: perhaps nobody waits for its end."""
    return msgspec.structs.replace(
        run, state=RunState.CANCELLED, cancelled_by=find_user(), ended_at=utc_now()
    )
