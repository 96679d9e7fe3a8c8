"""The controls of a ledger: which jobs are paused, and which runs were cancelled.

One small value beside the records, which the processes that work on files read every few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import msgspec

from segue.errors import ConfigurationError
from segue.model.run import Time

EVERY_JOB = "*"  # no job's name
READ_S = 3.0  # how often a process at work reads the controls
# A run that was cancelled forgets that when it ends; if its process was killed, others do.
KEPT = timedelta(days=7)


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """That a job is not computed for now."""

    at: Time
    by: str | None = None


class Cancellation(msgspec.Struct, frozen=True, kw_only=True):
    """That a run is to stop."""

    at: Time
    by: str | None = None
    reason: str | None = None  # if nobody cancelled it, why it stops


class Controls(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What operators have ordered."""

    paused: dict[str, Pause] = {}  # by job, or ``EVERY_JOB``
    cancelled: dict[str, Cancellation] = {}  # by the id of the run

    def find_pause(self, job: str) -> Pause | None:
        """Return since when a job is paused, and by whom."""
        return self.paused.get(job) or self.paused.get(EVERY_JOB)

    def select_paused(self, jobs: Iterable[str]) -> frozenset[str]:
        """Return those of some jobs that are paused."""
        if not self.paused:
            return frozenset()
        return frozenset(job for job in jobs if self.find_pause(job) is not None)


NO_CONTROLS = Controls()
ControlChange = Callable[[Controls], Controls]


def pause_jobs(
    controls: Controls, jobs: Iterable[str], *, by: str | None, now: datetime
) -> Controls:
    """Pause some jobs, or none of them: all. What is paused already stays as it was."""
    wanted = tuple(jobs) or (EVERY_JOB,)
    added = {job: Pause(at=now, by=by) for job in wanted if controls.find_pause(job) is None}
    return msgspec.structs.replace(controls, paused={**controls.paused, **added})


def resume_jobs(controls: Controls, jobs: Iterable[str]) -> Controls:
    """Resume some jobs, or none of them: all.

    Raises
    ------
    ConfigurationError
        If one of the jobs is paused as all are.
    """
    wanted = frozenset(jobs)
    if wanted and EVERY_JOB in controls.paused:
        raise ConfigurationError(
            "all jobs are paused, so none of them can be resumed alone; run 'segue resume', and "
            "pause those that are to stay paused"
        )
    left = {job: p for job, p in controls.paused.items() if wanted and job not in wanted}
    return msgspec.structs.replace(controls, paused=left)


def cancel_run(
    controls: Controls, run: str, *, by: str | None, now: datetime, reason: str | None = None
) -> Controls:
    """Have a run stop; the first order counts. Orders that nobody has forgotten in time are."""
    recent = {one: c for one, c in controls.cancelled.items() if now - c.at < KEPT}
    recent.setdefault(run, Cancellation(at=now, by=by, reason=reason))
    return msgspec.structs.replace(controls, cancelled=recent)


def forget_run(controls: Controls, run: str) -> Controls:
    """Forget that a run was cancelled, as it has ended."""
    left = {one: c for one, c in controls.cancelled.items() if one != run}
    return msgspec.structs.replace(controls, cancelled=left)


def encode_controls(controls: Controls) -> bytes:
    """Return the controls as JSON; equal ones have equal bytes."""
    return msgspec.json.encode(controls, order="deterministic")


_decode = msgspec.json.Decoder(Controls).decode


def decode_controls(data: bytes | str, where: str) -> Controls:
    """Decode the controls of a ledger.

    Raises
    ------
    ConfigurationError
        If they cannot be read: to work on as if nothing were paused would be wrong.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"the controls of {where} cannot be read ({error}): it is not known which jobs are "
            "paused; run 'segue resume' with the Segue that wrote them"
        ) from error
