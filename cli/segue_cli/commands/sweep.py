"""``segue sweep``: republish messages for unfinished work."""

from __future__ import annotations

import contextlib

import click

from segue import text
from segue.adapters.connect import connect_queue
from segue.ingest.sweep import GRACE_S, LIMIT, Sweeper
from segue_cli.command import Context, command
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import parse_duration


@command(
    settings=("graph", "ledger", "queue"),
    examples=("segue sweep --dry-run", "segue sweep --grace 1h"),
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=LIMIT,
    metavar="N",
    help="Stop after about N messages.",
)
@click.option(
    "--grace",
    default=f"{GRACE_S / 60:.0f}m",
    metavar="DURATION",
    callback=parse_duration,
    help="Skip work requested more recently than this.",
)
@click.option("--dry-run", is_flag=True, help="Count the messages; publish nothing.")
def sweep(context: Context, limit: int, grace: float, dry_run: bool) -> ExitCode:
    """Republish messages for unfinished work.

    Unfinished work is a pending result whose message was lost or whose worker died, or a job whose
    lease has expired. In the cloud a scheduled function does this; 'segue up' does it every minute.
    Existing results are not computed again.
    """
    with context.open() as stack, contextlib.ExitStack() as opened:
        queue = None
        if not dry_run:
            queue = connect_queue(context.settings.queue, context.graph)
            opened.callback(queue.close)
        sweeper = Sweeper(
            graph=stack.graph,
            ledger=stack.ledger,
            queue=queue,
            grace_s=grace,
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
