"""``segue resume``: have paused jobs computed again."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import msgspec

from segue import text
from segue.adapters.connect import connect_queue, ledger_exists
from segue.ingest.sweep import Sweeper
from segue.model.controls import EVERY_JOB, READ_S, Controls, resume_jobs
from segue_cli.command import Context, command
from segue_cli.parameters import complete_job
from segue_cli.views.paused import list_paused

if TYPE_CHECKING:
    from segue.model.graph import Graph
    from segue.stack import Stack

NOTICE_S = READ_S + 1.0


@command(settings=("graph", "ledger", "queue"), examples=("segue resume beats", "segue resume"))
@click.argument(
    "jobs",
    nargs=-1,
    metavar="[JOB]...",
    help="The jobs to resume.  [default: all that are paused]",
    shell_complete=complete_job,
)
@click.option(
    "--publish/--no-publish",
    default=None,
    help="Also notify the streaming pipelines of what has been waiting.  [default: if there is a "
    "queue]",
)
def resume(context: Context, jobs: tuple[str, ...], publish: bool | None) -> None:
    """Have paused jobs computed again, and request what has been waiting for them.

    The streaming pipelines are sent requests for whatever arrived, or was requested, while the jobs
    were paused. If that is interrupted, run it again, or leave the rest to the regular sweep. A
    backfill is not started again: run it once more.
    """
    selected = context.graph.select(jobs) if jobs else ()
    publish = ledger_exists(context.settings.queue) if publish is None else publish
    with context.open() as stack:
        done = _resume(context, stack, selected, publish=publish)
    if context.output.as_json:
        context.output.write_json(
            {
                "resumed": list(done.resumed),
                "requests": done.requests,
                "paused": msgspec.to_builtins(done.controls.paused),
            }
        )
        return
    names = ", ".join("all jobs" if job == EVERY_JOB else job for job in done.resumed)
    context.output.print(f"Resumed: {names}." if names else "Nothing was paused.")
    if done.requests:
        requests = text.format_count(done.requests, "request")
        context.output.print(f"Sent {requests} for what has been waiting.")
    context.output.print(*list_paused(done.controls))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumedJobs:
    """What was resumed, and what has been requested for that."""

    resumed: tuple[str, ...]
    requests: int
    controls: Controls  # as they are now


def _resume(context: Context, stack: Stack, jobs: tuple[str, ...], *, publish: bool) -> ResumedJobs:
    before = stack.ledger.read_controls()
    controls = before
    if before.paused:
        controls = stack.ledger.change_controls(lambda found: resume_jobs(found, jobs))
    resumed = tuple(sorted({*before.paused} - {*controls.paused}))
    if resumed and publish:
        # A worker that does not know yet would leave what it is sent now to the regular sweep.
        context.output.note(f"Waiting {NOTICE_S:g} seconds, until all workers have noticed.")
        time.sleep(NOTICE_S)
    # Also if nothing was paused any more: the last time may have been interrupted here.
    requests = _request(context, stack, jobs) if publish else 0
    return ResumedJobs(resumed=resumed, requests=requests, controls=controls)


def _request(context: Context, stack: Stack, jobs: tuple[str, ...]) -> int:
    """Request what is wanted of some jobs and those below; return how many requests were sent."""
    with contextlib.closing(connect_queue(context.settings.queue, stack.graph)) as queue:
        sweeper = Sweeper(
            graph=stack.graph,
            ledger=stack.ledger,
            queue=queue,
            grace_s=0.0,
            jobs=find_below(stack.graph, jobs),
        )
        requests, is_over = 0, False
        while not is_over:
            swept = sweeper.run()
            requests, is_over = requests + swept.messages, not swept.limited
    return requests


def find_below(graph: Graph, jobs: tuple[str, ...]) -> frozenset[str]:
    """Return some jobs, or none of them: all, and those below, which have waited for them."""
    below = [graph.find_descendants(job) for job in jobs]
    return frozenset(jobs).union(*below) if jobs else frozenset(graph.jobs)
