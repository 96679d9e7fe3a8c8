"""Shows how far something that was asked for is, until it is done."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from segue_cli.exit_code import ExitCode
from segue_cli.views import text
from segue_cli.views.table import bar, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segue.reports.request_progress import Course, Follower
    from segue_cli.context import Context

POLL_S = 0.2
SLOWEST_POLL_S = 2.0
EXAMPLES = 5
STATES = ("failed", "blocked", "deleted", "running", "queued", "waiting", "unknown")
STYLES = {"failed": "red", "blocked": "magenta", "running": "cyan"}


def follow(context: Context, follower: Follower, *, timeout_s: float | None) -> ExitCode:
    """Look until it is over or the time is up; show the course in a terminal, then the end."""
    course = _watched(context, follower, timeout_s)
    if context.output.as_json:
        context.output.json(document(follower.asked.request, course))
    else:
        context.output.print(*_ending(course, timeout_s))
    if not course.is_over:
        return ExitCode.UNFINISHED
    return ExitCode.FAILURES if course.failures else ExitCode.OK


def _watched(context: Context, follower: Follower, timeout_s: float | None) -> Course:
    from rich.live import Live

    console = context.output.talk
    began_s = time.monotonic()
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            looked_s = time.monotonic()
            course = follower.look()
            if console.is_terminal:
                live.update(drawn(course), refresh=True)
            now_s = time.monotonic()
            if course.is_over or (timeout_s is not None and now_s - began_s >= timeout_s):
                return course
            # A look that costs much is taken less often.
            pause_s = min(max(POLL_S, 4 * (now_s - looked_s)), SLOWEST_POLL_S)
            time.sleep(pause_s)


def drawn(course: Course) -> RenderableType:
    """A table, a row a job."""
    from rich.text import Text

    columns = [s for s in STATES if any(c[s] for c in course.jobs.values())]
    rows = table("job", ">done", "", *(f">{c}" for c in columns))
    for job, states in course.jobs.items():
        cells = [Text(f"{states[c]:,}", style=STYLES.get(c, "")) for c in columns]
        rows.add_row(job, f"{states['done']:,}", bar(states["done"], course.files), *cells)
    return rows


def _ending(course: Course, timeout_s: float | None) -> list[RenderableType]:
    from rich.text import Text

    parts: list[RenderableType] = [drawn(course)]
    for one in course.failed[:EXAMPLES]:
        told = f"{one.job} {one.state} on {one.uri}: {one.kind}: {one.message}"
        parts.append(Text(text.printable(told), style="red"))
    if course.is_over:
        said = f"Done: {text.count(course.files, 'file')}"
        if course.failures:
            said += f", {text.count(course.failures, 'result')} failed or blocked"
        parts.append(Text(f"{said}."))
    elif course.files == 0:
        parts.append(Text("The ledger knows no such file.", style="yellow"))
    elif all(states["unknown"] == course.files for states in course.jobs.values()):
        parts.append(
            Text(
                f"Nothing came of it within {timeout_s:g} s. Look at its name; 'segue up' finds it "
                "if it is below the folder, and 'segue reconcile' if its event was lost.",
                style="yellow",
            )
        )
    else:
        left = course.files - course.finished
        parts.append(
            Text(
                f"Not finished after {timeout_s:g} s: {text.count(left, 'file')} of "
                f"{course.files:,}. Is a pipeline running? 'segue up' or 'segue stream' runs one.",
                style="yellow",
            )
        )
    return parts


def document(request: str, course: Course) -> dict[str, Any]:
    """The course, for programs."""
    return {
        "request": request or None,
        "over": course.is_over,
        "files": course.files,
        "finished": course.finished,
        "jobs": {job: dict(states) for job, states in course.jobs.items()},
        "failed": [
            {
                "uri": one.uri,
                "job": one.job,
                "state": one.state,
                "kind": one.kind,
                "message": one.message,
            }
            for one in course.failed
        ],
    }
