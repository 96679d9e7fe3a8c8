"""``segue sweep``: republish messages for unfinished work."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from segue.adapters.connect import connect_queue
from segue.ingest.sweep import GRACE_S, LIMIT, Sweeper
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import parse_duration
from segue_cli.views import text

Limit = Annotated[
    int, typer.Option("--limit", min=1, metavar="N", help="Stop after about N messages.")
]
Grace = Annotated[
    str,
    typer.Option(
        "--grace", metavar="DURATION", help="Skip work requested more recently than this."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count the messages; publish nothing.")]


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
    """Republish messages for unfinished work.

    Unfinished work is a pending result whose message was lost or whose worker died, or a job whose
    lease has expired. In the cloud a scheduled function does this; 'segue up' does it every minute.
    Existing results are not computed again.
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
            grace_s=parse_duration(grace, "--grace"),
        )
        swept = sweeper.run(limit=limit)
    if context.output.as_json:
        context.output.write_json(
            {
                "dry_run": dry_run,
                "files": swept.files,
                "pending": swept.pending,
                "expired": swept.expired,
                "limited": swept.limited,
            }
        )
        return ExitCode.UNFINISHED if swept.limited else ExitCode.OK
    done = "Would publish" if dry_run else "Published"
    context.output.print(
        f"{done} {text.format_count(swept.messages, 'message')}: {swept.pending:,} for pending "
        f"results, {swept.expired:,} for expired leases."
    )
    if swept.limited:
        context.output.note("There may be more; run the command again.")
    return ExitCode.UNFINISHED if swept.limited else ExitCode.OK
