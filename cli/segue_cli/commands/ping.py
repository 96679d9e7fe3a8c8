"""``segue ping``: check that every streaming pipeline answers."""

from __future__ import annotations

import click
import msgspec

from segue.errors import ConfigurationError
from segue.ingest.request_client import build_request, open_requests, send_request
from segue.ingest.requests import load_request
from segue_cli.command import Context, command
from segue_cli.commands.watch import follow
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import file_argument, job_option, parse_duration


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "queue"),
    examples=("segue ping song.flac", "segue ping gs://acme-audio/masters/song.flac --job energy"),
)
@file_argument
@job_option
@click.option(
    "--timeout",
    default="60s",
    metavar="DURATION",
    callback=parse_duration,
    help="How long to wait at most, such as 90s or 1h.",
)
def ping(context: Context, file: str, jobs: tuple[str, ...], timeout: float) -> ExitCode:
    """Check that every streaming pipeline answers.

    A message passes through the graph, from the source down to the named jobs (default: all), and
    each pipeline records it in the ledger. Nothing is computed. The exit code is 0 once all have
    answered, and 4 if some have not answered in time.
    """
    new_request = msgspec.structs.replace(
        build_request(context.graph, [file], None), jobs=context.graph.select(jobs), ping=True
    )
    with context.open(create=True) as stack, open_requests(stack) as requests:
        receipt = send_request(requests, new_request)
        if not receipt.files:
            uri, reason = next(iter(receipt.ignored.items()), (file, "it has been deleted"))
            raise ConfigurationError(f"cannot ping {uri!r}: {reason}")
        run = load_request(stack.artifacts, receipt.request)
        return follow(context, stack, run, timeout)
