"""``segue watch``: follow a request or a file until it is done."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from segue import text
from segue.clock import utc_now
from segue.errors import ConfigurationError, MissingInput
from segue.ingest.requests import load_request
from segue.model.media_file import list_file_uris
from segue.model.object_store import ObjectStore
from segue.model.run import RunKind, RunRecord, RunSelection, RunState
from segue.printable import escape
from segue.reports.request_progress import RequestProgress, RequestWatcher
from segue_cli.command import Context, command, complete_path
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import job_option, timeout_option
from segue_cli.views.output import Output, build_table, draw_bar

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segue.stack import Stack

POLL_S = 0.2
SLOWEST_POLL_S = 2.0
EXAMPLES = 5
STATES = (
    "not_applicable",
    "failed",
    "blocked",
    "deleted",
    "running",
    "queued",
    "waiting",
    "unknown",
)
STYLES = {"failed": "red", "blocked": "magenta", "running": "cyan"}
REQUEST = re.compile(r"\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{8}")


@command(
    settings=("graph", "catalogue", "artifacts", "ledger"),
    examples=(
        "segue watch 20261122T101500.000000Z-0a1b2c3d",
        "segue watch song.flac --job energy --timeout 5m",
    ),
)
@click.argument(
    "what",
    metavar="REQUEST|FILE",
    help="The id that 'segue request' printed, or a path, a URI, or a path relative to the "
    "catalogue.  [required]",
    shell_complete=complete_path,
)
@job_option
@timeout_option
def watch(context: Context, what: str, jobs: tuple[str, ...], timeout: float | None) -> ExitCode:
    """Follow a request or a file until it is done.

    If the file is not in the ledger yet, the command waits for it. The exit code is 0 if everything
    that is for the file was computed, 3 if something failed or the file was deleted, and 4 on
    timeout.
    """
    with context.open(create=True) as stack:
        if REQUEST.fullmatch(what):
            request = _find_request(stack.artifacts, what)
        else:
            uris = list_file_uris(what, stack.graph.catalogue)
            found = zip(uris, stack.ledger.read(uris), strict=True)
            known = [uri for uri, one in found if one.record is not None or one.damage is not None]
            request = RunRecord(
                id="",
                kind=RunKind.REQUEST,
                state=RunState.ACCEPTED,
                started_at=utc_now(),
                selection=RunSelection(files=tuple((known or uris)[:1])),
                jobs=stack.graph.select(jobs),
            )
        return follow(context, stack, request, timeout)


def _find_request(artifacts: ObjectStore, request: str) -> RunRecord:
    try:
        return load_request(artifacts, request)
    except MissingInput as error:
        raise ConfigurationError(
            f"there is no request {request} in {artifacts.location}; set the right artifacts with "
            "--artifacts, or send the request again"
        ) from error


def follow(context: Context, stack: Stack, request: RunRecord, timeout_s: float | None) -> ExitCode:
    """Poll until everything is done or the timeout is over; show the progress, then the result."""
    watcher = RequestWatcher(graph=stack.graph, ledger=stack.ledger, request=request)
    progress = _poll(context.output, watcher, timeout_s)
    if context.output.as_json:
        context.output.write_json(_to_json(request.id, progress))
    else:
        context.output.print(*_render_end(progress, timeout_s))
    if not progress.is_over:
        return ExitCode.UNFINISHED
    # A file that was asked for by name has no result; below a prefix it is gone like its result.
    is_missing = progress.deleted > 0 and request.selection.prefix is None
    return ExitCode.FAILURES if progress.failures or is_missing else ExitCode.OK


def _poll(output: Output, watcher: RequestWatcher, timeout_s: float | None) -> RequestProgress:
    from rich.live import Live

    console = output.stderr
    started_s = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            polled_s = time.monotonic()
            progress = watcher.read_progress()
            if console.is_terminal:
                live.update(_render(progress), refresh=True)
            now_s = time.monotonic()
            if progress.is_over or (timeout_s is not None and now_s - started_s >= timeout_s):
                return progress
            # The more a poll costs, the less often it is done.
            time.sleep(min(max(POLL_S, 4 * (now_s - polled_s)), SLOWEST_POLL_S))


def _render(progress: RequestProgress) -> RenderableType:
    """Build a table with one row per job."""
    from rich.text import Text

    columns = [s for s in STATES if any(c[s] for c in progress.jobs.values())]
    rows = build_table("job", ">done", "", *(f">{c}" for c in columns))
    for job, states in progress.jobs.items():
        cells = [Text(f"{states[c]:,}", style=STYLES.get(c, "")) for c in columns]
        bar = draw_bar(states["done"], progress.files - states["not_applicable"])
        rows.add_row(job, f"{states['done']:,}", bar, *cells)
    return rows


def _render_end(progress: RequestProgress, timeout_s: float | None) -> list[RenderableType]:
    from rich.text import Text

    parts: list[RenderableType] = [_render(progress)]
    for one in progress.failed[:EXAMPLES]:
        line = f"{one.job} {one.state} on {one.uri}: {one.kind}: {one.message}"
        parts.append(Text(escape(line), style="red"))
    if progress.is_over:
        summary = f"Done: {text.format_count(progress.files, 'file')}"
        if progress.failures:
            summary += f", {text.format_count(progress.failures, 'result')} failed or blocked"
        if progress.deleted:
            summary += f", {text.format_count(progress.deleted, 'result')} of deleted files"
        parts.append(Text(f"{summary}."))
    elif progress.files == 0:
        parts.append(Text("The file is not in the ledger.", style="yellow"))
    elif all(states["unknown"] == progress.files for states in progress.jobs.values()):
        parts.append(
            Text(
                f"Not in the ledger after {timeout_s:g} s. Check the name. 'segue up' finds the "
                "file if it is in its folder; 'segue reconcile' finds it if its event was lost.",
                style="yellow",
            )
        )
    else:
        left = progress.files - progress.finished
        parts.append(
            Text(
                f"Not finished after {timeout_s:g} s: {text.format_count(left, 'file')} of "
                f"{progress.files:,} left. Is a pipeline running? Start one with 'segue up' or "
                "'segue stream --all'.",
                style="yellow",
            )
        )
    return parts


def _to_json(request: str, progress: RequestProgress) -> dict[str, Any]:
    return {
        "request": request or None,
        "over": progress.is_over,
        "files": progress.files,
        "finished": progress.finished,
        "jobs": {job: dict(states) for job, states in progress.jobs.items()},
        "failed": [asdict(one) for one in progress.failed],
    }
