"""``segue request``: ask the streaming pipelines for results."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from segue.errors import ConfigurationError
from segue.ingest.request_client import ask, named, open_requests
from segue.ingest.requests import Accepted, Asked, find
from segue.reports.request_progress import Follower
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import AskedFiles, AskedPrefix, TargetJobs, Timeout, seconds_of
from segue_cli.selection import All, targets_of
from segue_cli.views import text
from segue_cli.views.request_progress import follow

Force = Annotated[
    bool,
    typer.Option("--force", help="Compute the jobs again even if they are current; they alone."),
]
Parents = Annotated[
    bool, typer.Option("--parents", help="With --force: what is above the jobs, too.")
]
Watch = Annotated[bool, typer.Option("--watch", help="Follow it until it is done.")]


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "queue"),
    examples=(
        "segue request song.flac --job beats",
        "segue request --prefix gs://acme-audio/masters/2026/ --job energy --watch",
        "segue request song.flac --job beats --force",
    ),
)
def request(
    context: Context,
    files: AskedFiles = None,
    prefix: AskedPrefix = None,
    jobs: TargetJobs = None,
    everything: All = False,
    force: Force = False,
    parents: Parents = False,
    watch: Watch = False,
    timeout: Timeout = None,
) -> ExitCode:
    """Ask the streaming pipelines for results.

    What is missing on the jobs' direct line is computed: parents first, never a sibling. A file of
    which no event has come yet is recorded first. The answer is an id, by which 'segue watch'
    follows the request. Requests have a lane of their own, so that arrivals are not held up. For a
    whole catalogue, 'segue backfill' is cheaper.
    """
    asked = msgspec.structs.replace(
        named(context.graph, files, prefix),
        jobs=targets_of(context.graph, jobs, everything=everything),
        force=force,
        parents=parents,
    )
    if parents and not force:
        raise ConfigurationError("--parents says what --force computes again; give both, or none")
    with context.open(create=True) as stack, open_requests(stack) as requests:
        accepted = ask(requests, asked)
        document = find(stack.artifacts, accepted.request)
        if watch and accepted.files:
            return _follow(context, document, accepted, stack, timeout)
    if context.output.as_json:
        context.output.json(msgspec.to_builtins(accepted))
    else:
        _tell(context, accepted)
        if accepted.files:
            context.output.print(f"Follow it: segue watch {accepted.request}")
    return ExitCode.OK if accepted.files else ExitCode.FAILURES


def _follow(
    context: Context, document: Asked, accepted: Accepted, stack: object, timeout: str | None
) -> ExitCode:
    from segue.stack import Stack

    assert isinstance(stack, Stack)
    if not context.output.as_json:
        _tell(context, accepted)
    follower = Follower(graph=stack.graph, ledger=stack.ledger, asked=_taken(document, accepted))
    return follow(
        context, follower, timeout_s=seconds_of(timeout, "--timeout") if timeout else None
    )


def _taken(document: Asked, accepted: Accepted) -> Asked:
    """What was asked for, without the files that were ignored."""
    files = tuple(uri for uri in document.files if uri not in accepted.ignored)
    return msgspec.structs.replace(document, files=files)


def _tell(context: Context, accepted: Accepted) -> None:
    for uri, reason in accepted.ignored.items():
        context.output.note(text.printable(f"Ignored: {uri}: {reason}."))
    jobs = ", ".join(accepted.targets)
    context.output.print(
        f"Asked for {jobs} on {text.count(accepted.files, 'file')}: request {accepted.request}"
    )
