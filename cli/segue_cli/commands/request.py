"""``segue request``: request results from the streaming pipelines."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from segue.errors import ConfigurationError
from segue.ingest.request_client import build_request, open_requests, send_request
from segue.ingest.requests import RequestDocument, RequestReceipt, load_request
from segue.reports.request_progress import RequestWatcher
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import RequestFiles, RequestPrefix, TargetJobs, Timeout, parse_duration
from segue_cli.selection import All, select_targets
from segue_cli.views import text
from segue_cli.views.request_progress import follow

Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Recompute the named jobs even if they are current, but not their parents."
    ),
]
Parents = Annotated[
    bool, typer.Option("--parents", help="With --force, also recompute the jobs they depend on.")
]
Watch = Annotated[bool, typer.Option("--watch", help="Follow the request until it is done.")]


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
    files: RequestFiles = None,
    prefix: RequestPrefix = None,
    jobs: TargetJobs = None,
    everything: All = False,
    force: Force = False,
    parents: Parents = False,
    watch: Watch = False,
    timeout: Timeout = None,
) -> ExitCode:
    """Request results for files or a prefix from the streaming pipelines.

    Missing results of the named jobs, and of the jobs they depend on, are computed. Files that are
    not in the ledger yet are recorded first. The command prints an id, with which 'segue watch'
    follows the request. Requests use a separate lane and do not delay arrivals. For a whole
    catalogue, 'segue backfill' is cheaper.
    """
    new_request = msgspec.structs.replace(
        build_request(context.graph, files, prefix),
        jobs=select_targets(context.graph, jobs, everything=everything),
        force=force,
        parents=parents,
    )
    if parents and not force:
        raise ConfigurationError(
            "--parents has no effect without --force; add it or leave both out"
        )
    with context.open(create=True) as stack, open_requests(stack) as requests:
        receipt = send_request(requests, new_request)
        document = load_request(stack.artifacts, receipt.request)
        if watch and receipt.files:
            return _follow(context, document, receipt, stack, timeout)
    if context.output.as_json:
        context.output.write_json(msgspec.to_builtins(receipt))
    else:
        _report(context, receipt)
        if receipt.files:
            context.output.print(f"To follow it: segue watch {receipt.request}")
    return ExitCode.OK if receipt.files else ExitCode.FAILURES


def _follow(
    context: Context,
    document: RequestDocument,
    receipt: RequestReceipt,
    stack: object,
    timeout: str | None,
) -> ExitCode:
    from segue.stack import Stack

    assert isinstance(stack, Stack)
    if not context.output.as_json:
        _report(context, receipt)
    watcher = RequestWatcher(
        graph=stack.graph, ledger=stack.ledger, document=_drop_ignored(document, receipt)
    )
    return follow(
        context.output, watcher, timeout_s=parse_duration(timeout, "--timeout") if timeout else None
    )


def _drop_ignored(document: RequestDocument, receipt: RequestReceipt) -> RequestDocument:
    """Return the request without the files that were ignored."""
    files = tuple(uri for uri in document.files if uri not in receipt.ignored)
    return msgspec.structs.replace(document, files=files)


def _report(context: Context, receipt: RequestReceipt) -> None:
    for uri, reason in receipt.ignored.items():
        context.output.note(text.escape(f"Ignored: {uri}: {reason}."))
    jobs = ", ".join(receipt.targets)
    context.output.print(
        f"Requested {jobs} for {text.format_count(receipt.files, 'file')}: {receipt.request}"
    )
