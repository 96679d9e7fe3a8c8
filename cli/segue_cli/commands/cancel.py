"""``segue cancel``: stop a backfill that is running here or elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
import msgspec

from segue import text
from segue.adapters.connect import ledger_exists
from segue.clock import utc_now
from segue.errors import ConfigurationError, SegueError
from segue.maintenance.cancellation import mark_cancelled, stop_backfill
from segue.model.controls import READ_S
from segue.model.run import RunKind, RunRecord, RunState, load_run, save_run
from segue.reports.run_history import LOST_STATE, describe_state, find_run
from segue_cli.command import Context, command
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import parse_duration
from segue_cli.run_names import complete_run

if TYPE_CHECKING:
    from segue.stack import Stack

POLL_S = 0.25


@command(
    settings=("graph", "artifacts", "ledger"),
    examples=("segue cancel 0a1b2c3d", "segue cancel 0a1b2c3d --timeout 10m"),
)
@click.argument(
    "run",
    metavar="RUN",
    help="Its id, or the last 8 characters of it, as 'segue runs' shows it.  [required]",
    shell_complete=complete_run,
)
@click.option(
    "--timeout",
    default="60s",
    metavar="DURATION",
    callback=parse_duration,
    help="How long to wait for its end, such as 90s or 1h.",
)
def cancel(context: Context, run: str, timeout: float) -> ExitCode:
    """Stop a backfill that is running here or elsewhere.

    Its workers notice within a few seconds: they begin nothing more, finish what they have begun,
    and the run is recorded as cancelled. The command that started it exits with 130. What is left
    is computed by running that command again. A job on Dataflow is cancelled by the service, if the
    record of the run has its id: what runs there is killed, and its leases expire in a quarter of
    an hour.
    """
    with context.open() as stack:
        found = find_run(stack.artifacts, run)
        _check(context, found)
        stop_backfill(stack, found)
        if found.runner is not None or found.runner_job is not None:
            ended = _record_end(context, stack, found)
        else:
            ended = _wait(context, stack, found, timeout)
    if context.output.as_json:
        context.output.write_json(_to_json(ended))
    else:
        context.output.print(_describe_end(ended, timeout))
    return ExitCode.UNFINISHED if ended.state is RunState.RUNNING else ExitCode.OK


def _check(context: Context, run: RunRecord) -> None:
    """Raise an error if a run cannot be cancelled."""
    state = describe_state(run, utc_now())
    if run.kind is not RunKind.BACKFILL:
        remedy = "only a backfill can be cancelled"
        if run.kind is RunKind.REQUEST:
            remedy = f"{remedy}; 'segue pause' has its jobs not computed for now"
        raise ConfigurationError(f"the run {run.id} is a {run.kind}, and {remedy}")
    if state == LOST_STATE:
        raise ConfigurationError(
            f"the run {run.id} is lost: its process was killed, and runs no more"
        )
    if run.state is not RunState.RUNNING:
        ended = f" at {text.format_time(run.ended_at)}" if run.ended_at is not None else ""
        raise ConfigurationError(f"the run {run.id} is over: it was {state}{ended}")
    if run.runner_job is None and not ledger_exists(context.settings.ledger):
        raise ConfigurationError(
            f"there is no ledger {context.settings.ledger}, by which the run would be told; set "
            "the one that the run uses with --ledger or SEGUE_LEDGER"
        )


def _record_end(context: Context, stack: Stack, run: RunRecord) -> RunRecord:
    """Record the end of a run elsewhere, which says nothing unless somebody waits for it."""
    ended = mark_cancelled(run)
    try:
        save_run(stack.artifacts, ended, replace=True)
    except SegueError as error:  # the run is cancelled all the same
        context.output.note(f"The record of the run does not say so: {error}")
    return ended


def _wait(context: Context, stack: Stack, run: RunRecord, timeout_s: float) -> RunRecord:
    """Wait until a run says that it has ended."""
    context.output.note(f"Its workers notice within {READ_S:g} seconds, and finish what they run.")
    until_s = time.monotonic() + timeout_s
    while True:
        found = load_run(stack.artifacts, run.id)
        if found.state is not RunState.RUNNING or time.monotonic() >= until_s:
            return found
        time.sleep(POLL_S)


def _describe_end(run: RunRecord, timeout_s: float) -> str:
    match run.state:
        case RunState.RUNNING:
            return (
                f"It has not ended after {timeout_s:g} s: it finishes what it has begun, unless it "
                "uses another ledger than this one (--ledger). To see how far it is: segue runs "
                f"{run.id}"
            )
        case RunState.CANCELLED if run.runner_job is not None:
            return f"Dataflow was asked to cancel its job {run.runner_job}."
        case RunState.CANCELLED if run.runner is not None:
            return "Its workers were told: they begin nothing more, and finish what they run."
        case RunState.CANCELLED:
            done = text.format_count(run.counts.files, "file")
            return f"Cancelled: {done} done, {run.counts.not_started:,} not started."
    return f"It had ended before it noticed: {run.state}."


def _to_json(run: RunRecord) -> dict[str, Any]:
    return {
        "run": run.id,
        "state": str(run.state),
        "runner_job": run.runner_job,
        "counts": msgspec.to_builtins(run.counts),
    }
