"""Follows a request or a file, and shows its progress until it is done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from segue_cli.exit_code import ExitCode
from segue_cli.views import text
from segue_cli.views.table import build_table, draw_bar

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segue.reports.request_progress import RequestProgress, RequestWatcher
    from segue_cli.views.output import Output

POLL_S = 0.2
SLOWEST_POLL_S = 2.0
EXAMPLES = 5
STATES = ("failed", "blocked", "deleted", "running", "queued", "waiting", "unknown")
STYLES = {"failed": "red", "blocked": "magenta", "running": "cyan"}


def follow(output: Output, watcher: RequestWatcher, *, timeout_s: float | None) -> ExitCode:
    """Poll until everything is done or the timeout is over; show the progress, then the result."""
    progress = _poll(output, watcher, timeout_s)
    if output.as_json:
        output.write_json(to_json(watcher.document.request, progress))
    else:
        output.print(*_render_end(progress, timeout_s))
    if not progress.is_over:
        return ExitCode.UNFINISHED
    return ExitCode.FAILURES if progress.failures else ExitCode.OK


def _poll(output: Output, watcher: RequestWatcher, timeout_s: float | None) -> RequestProgress:
    from rich.live import Live

    console = output.stderr
    started_s = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            polled_s = time.monotonic()
            progress = watcher.read_progress()
            if console.is_terminal:
                live.update(render(progress), refresh=True)
            now_s = time.monotonic()
            if progress.is_over or (timeout_s is not None and now_s - started_s >= timeout_s):
                return progress
            # The more a poll costs, the less often it is done.
            pause_s = min(max(POLL_S, 4 * (now_s - polled_s)), SLOWEST_POLL_S)
            time.sleep(pause_s)


def render(progress: RequestProgress) -> RenderableType:
    """Build a table with one row per job."""
    from rich.text import Text

    columns = [s for s in STATES if any(c[s] for c in progress.jobs.values())]
    rows = build_table("job", ">done", "", *(f">{c}" for c in columns))
    for job, states in progress.jobs.items():
        cells = [Text(f"{states[c]:,}", style=STYLES.get(c, "")) for c in columns]
        rows.add_row(job, f"{states['done']:,}", draw_bar(states["done"], progress.files), *cells)
    return rows


def _render_end(progress: RequestProgress, timeout_s: float | None) -> list[RenderableType]:
    from rich.text import Text

    parts: list[RenderableType] = [render(progress)]
    for one in progress.failed[:EXAMPLES]:
        line = f"{one.job} {one.state} on {one.uri}: {one.kind}: {one.message}"
        parts.append(Text(text.escape(line), style="red"))
    if progress.is_over:
        summary = f"Done: {text.format_count(progress.files, 'file')}"
        if progress.failures:
            summary += f", {text.format_count(progress.failures, 'result')} failed or blocked"
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
                "'segue stream'.",
                style="yellow",
            )
        )
    return parts


def to_json(request: str, progress: RequestProgress) -> dict[str, Any]:
    """Return the progress as JSON values."""
    return {
        "request": request or None,
        "over": progress.is_over,
        "files": progress.files,
        "finished": progress.finished,
        "jobs": {job: dict(states) for job, states in progress.jobs.items()},
        "failed": [
            {
                "uri": one.uri,
                "job": one.job,
                "state": one.state,
                "kind": one.kind,
                "message": one.message,
            }
            for one in progress.failed
        ],
    }
