"""``segue sweep``: publish again what was left lying."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from segue.adapters.connect import connect_queue
from segue.ingest.sweep import GRACE_S, LIMIT, Sweeper
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import seconds_of
from segue_cli.views import text

Limit = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Publish about so many.")]
Grace = Annotated[
    str,
    typer.Option("--grace", metavar="SPAN", help="Leave alone what was asked for since, as 15m."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count; publish nothing.")]


@command(
    settings=("graph", "ledger", "queue"),
    examples=("segue sweep --dry-run", "segue sweep --grace 1h"),
)
def sweep(
    context: Context,
    limit: Limit = LIMIT,
    grace: Grace = f"{GRACE_S / 60:.0f}m",
    dry_run: DryRun = False,
) -> ExitCode:
    """Publish again what was left lying: results still owed to somebody, and leases that expired.

    In the cloud a function does it on a schedule, and 'segue up' does it every minute. Nothing is
    computed twice by it.
    """
    with context.open() as stack, contextlib.ExitStack() as opened:
        queue = None
        if not dry_run:
            queue = connect_queue(context.settings.queue)
            opened.callback(queue.close)
        sweeper = Sweeper(
            graph=stack.graph,
            ledger=stack.ledger,
            queue=queue,
            grace_s=seconds_of(grace, "--grace"),
        )
        swept = sweeper.run(limit=limit)
    if context.output.as_json:
        context.output.json(
            {
                "dry_run": dry_run,
                "files": swept.files,
                "owed": swept.owed,
                "expired": swept.expired,
                "limited": swept.limited,
            }
        )
        return ExitCode.UNFINISHED if swept.limited else ExitCode.OK
    done = "Would publish" if dry_run else "Published"
    context.output.print(
        f"{done} {text.count(swept.messages, 'message')}: {swept.owed:,} for results that are "
        f"owed, {swept.expired:,} for leases that expired."
    )
    if swept.limited:
        context.output.note("There is more; run it again.")
    return ExitCode.UNFINISHED if swept.limited else ExitCode.OK
