"""``segue pause``: have jobs not computed for now."""

from __future__ import annotations

import click
import msgspec

from segue.clock import utc_now
from segue.model.controls import READ_S, pause_jobs
from segue.model.run import find_user
from segue_cli.command import Context, command
from segue_cli.parameters import complete_job
from segue_cli.views.paused import list_paused


@command(settings=("graph", "ledger"), examples=("segue pause beats", "segue pause"))
@click.argument(
    "jobs",
    nargs=-1,
    metavar="[JOB]...",
    help="The jobs to pause.  [default: all, with those that are added to the graph later]",
    shell_complete=complete_job,
)
def pause(context: Context, jobs: tuple[str, ...]) -> None:
    """Have jobs not computed for now, by no backfill and no streaming pipeline.

    Workers notice within a few seconds, and finish what they have begun. Whatever arrives or is
    requested meanwhile is recorded, and 'segue resume' has it computed; jobs below a paused one
    wait. A backfill goes on with the other jobs, and ends with the code 4. 'segue status' shows
    what is paused. Other namespaces are not paused; what they need of a paused job waits.
    """
    selected = context.graph.select(jobs) if jobs else ()
    with context.open(create=True) as stack:
        controls = stack.ledger.change_controls(
            lambda found: pause_jobs(found, selected, by=find_user(), now=utc_now())
        )
    if context.output.as_json:
        context.output.write_json({"paused": msgspec.to_builtins(controls.paused)})
        return
    context.output.print(*list_paused(controls))
    context.output.note(f"Workers notice within {READ_S:g} seconds, and finish what they run.")
