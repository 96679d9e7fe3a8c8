"""``segue ping``: check that every streaming pipeline answers."""

from __future__ import annotations

import msgspec

from segue.errors import ConfigurationError
from segue.ingest.request_client import build_request, open_requests, send_request
from segue.ingest.requests import load_request
from segue.reports.request_progress import RequestWatcher
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import File, Jobs, Timeout, parse_duration
from segue_cli.views.request_progress import follow

DEFAULT_TIMEOUT = "60s"


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "queue"),
    examples=("segue ping song.flac", "segue ping gs://acme-audio/masters/song.flac --job energy"),
)
def ping(
    context: Context, file: File, jobs: Jobs = None, timeout: Timeout = DEFAULT_TIMEOUT
) -> ExitCode:
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
        document = load_request(stack.artifacts, receipt.request)
        watcher = RequestWatcher(graph=stack.graph, ledger=stack.ledger, document=document)
        limit_s = parse_duration(timeout, "--timeout") if timeout else None
        return follow(context.output, watcher, timeout_s=limit_s)
