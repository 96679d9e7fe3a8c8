"""``segue ping``: walk the graph without work, to see that all pipelines answer."""

from __future__ import annotations

import msgspec

from segue.errors import ConfigurationError
from segue.ingest.request_client import ask, named, open_requests
from segue.ingest.requests import find
from segue.reports.request_progress import Follower
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import File, Jobs, Timeout, known_jobs, seconds_of
from segue_cli.views.request_progress import follow

PATIENCE = "60s"


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "queue"),
    examples=("segue ping song.flac", "segue ping gs://acme-audio/masters/song.flac --job energy"),
)
def ping(context: Context, file: File, jobs: Jobs = None, timeout: Timeout = PATIENCE) -> ExitCode:
    """Send a message through the graph that makes no work, and see which pipelines answer.

    It goes from the source down to the jobs that are named, and leaves a trace at each on its way.
    Nothing is computed. The exit code is 0 once all have answered, and 4 if some have not in time.
    """
    asked = msgspec.structs.replace(
        named(context.graph, [file], None), jobs=known_jobs(context.graph, jobs), ping=True
    )
    with context.open(create=True) as stack, open_requests(stack) as requests:
        accepted = ask(requests, asked)
        if not accepted.files:
            uri, reason = next(iter(accepted.ignored.items()), (file, "it is deleted"))
            raise ConfigurationError(f"{uri!r} cannot be pinged: {reason}")
        document = find(stack.artifacts, accepted.request)
        follower = Follower(graph=stack.graph, ledger=stack.ledger, asked=document)
        limit_s = seconds_of(timeout, "--timeout") if timeout else None
        return follow(context, follower, timeout_s=limit_s)
