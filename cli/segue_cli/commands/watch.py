"""``segue watch``: follow a request or a file until it is done."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from segue.clock import utc_now
from segue.errors import ConfigurationError, MissingInput
from segue.ingest.requests import RequestDocument, load_request
from segue.model.location import list_file_uris
from segue.model.object_store import ObjectStore
from segue.reports.request_progress import RequestWatcher
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import Jobs, Timeout, parse_duration
from segue_cli.views.request_progress import follow

REQUEST = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}")

RequestOrFile = Annotated[
    str,
    typer.Argument(
        metavar="REQUEST|FILE",
        help="The id that 'segue request' printed, or a path, a URI, or a path relative to the "
        "catalogue.",
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
def watch(
    context: Context, what: RequestOrFile, jobs: Jobs = None, timeout: Timeout = None
) -> ExitCode:
    """Follow a request or a file until it is done.

    If the file is not in the ledger yet, the command waits for it. The exit code is 0 if everything
    was computed, 3 if something failed, and 4 on timeout.
    """
    with context.open(create=True) as stack:
        if REQUEST.fullmatch(what):
            document = _find_document(stack.artifacts, what)
        else:
            uris = list_file_uris(what, stack.graph.catalogue)
            known = [s.record.uri for s in stack.ledger.read(uris) if s.record is not None]
            document = RequestDocument(
                request="",
                targets=stack.graph.select(jobs),
                files=(known or uris)[:1],  # type: ignore[arg-type]
                made_at=utc_now(),
            )
        watcher = RequestWatcher(graph=stack.graph, ledger=stack.ledger, document=document)
        limit_s = parse_duration(timeout, "--timeout") if timeout else None
        return follow(context.output, watcher, timeout_s=limit_s)


def _find_document(artifacts: ObjectStore, request: str) -> RequestDocument:
    try:
        return load_request(artifacts, request)
    except MissingInput as error:
        raise ConfigurationError(
            f"there is no request {request} in {artifacts.location}; set the right artifacts with "
            "--artifacts, or send the request again"
        ) from error
