"""``segue watch``: follow a request, or a file, until it is done."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from segue.errors import ConfigurationError, MissingInput
from segue.ingest.requests import Asked, find
from segue.model.location import file_uris
from segue.model.object_store import ObjectStore
from segue.reports.request_progress import Follower
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import Jobs, Timeout, known_jobs, seconds_of
from segue_cli.views.request_progress import follow

REQUEST = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}")

What = Annotated[
    str,
    typer.Argument(
        metavar="REQUEST|FILE",
        help="What 'segue request' printed; or a path, a URI, or a name below the catalogue.",
        show_default=False,
    ),
]


@command(
    settings=("graph", "catalogue", "artifacts", "ledger"),
    examples=(
        "segue watch 20261122T101500.000000Z-0a1b2c3d",
        "segue watch song.flac --job energy --timeout 5m",
    ),
)
def watch(context: Context, what: What, jobs: Jobs = None, timeout: Timeout = None) -> ExitCode:
    """Follow a request, or a file, until it is done.

    A file that the ledger does not know yet is waited for. The exit code tells how it ended: 0 all
    is there, 3 something failed, 4 the time was up.
    """
    with context.open(create=True) as stack:
        if REQUEST.fullmatch(what):
            asked = _found(stack.artifacts, what)
        else:
            uris = file_uris(what, stack.graph.catalogue)
            known = [s.record.uri for s in stack.ledger.read(uris) if s.record is not None]
            asked = Asked(
                request="",
                targets=known_jobs(stack.graph, jobs),
                files=(known or uris)[:1],  # type: ignore[arg-type]
                made_at=datetime.now(UTC),
            )
        follower = Follower(graph=stack.graph, ledger=stack.ledger, asked=asked)
        limit_s = seconds_of(timeout, "--timeout") if timeout else None
        return follow(context, follower, timeout_s=limit_s)


def _found(artifacts: ObjectStore, request: str) -> Asked:
    try:
        return find(artifacts, request)
    except MissingInput as error:
        raise ConfigurationError(
            f"no request {request} was made on {artifacts.location}; name the right artifacts with "
            "--artifacts, or make the request again"
        ) from error
