"""Renders the page of ``segue up`` in a terminal."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING

from segue import text
from segue.clock import utc_now
from segue.printable import escape
from segue_cli.local.status import RECENT
from segue_cli.local.supervisor import ProgramState
from segue_cli.views.output import build_table
from segue_cli.views.paused import list_paused
from segue_cli.views.running import render_progress

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from segue.worker.running_job import RunningJob
    from segue_cli.local.status import JobActivity, SystemStatus


class RunPhase(Enum):
    """The phases of a run of the system."""

    RUNNING = auto()
    STOPPING = auto()
    STOPPED = auto()


ALWAYS = ("running", "done", "failed")
SOMETIMES = ("stale", "blocked", "not_applicable")  # shown if not zero
RATE = "rate"
# Dropped in this order if the page is too wide.
DISPENSABLE = (RATE, "not_applicable", "stale", "blocked", "running")
STYLES = {"running": "cyan", "failed": "red", "blocked": "magenta", "stale": "yellow"}
MARKS = {
    ProgramState.STARTING: ("○", "yellow"),
    ProgramState.UP: ("●", "green"),
    ProgramState.RESTARTING: ("○", "red"),
    ProgramState.STOPPING: ("○", "yellow"),
    ProgramState.STOPPED: ("·", "dim"),
    ProgramState.FAILED: ("✗", "red"),
}
MOST_RUNNING = 8  # lines
LONG_S = 10.0
GAP = "   "  # between programs
LEAST_FOR_NAMES = 14  # characters


STOP_HINTS = {
    RunPhase.RUNNING: "Press Ctrl-C to stop; remaining work continues at the next start.",
    RunPhase.STOPPING: "Stopping after the running jobs. Press Ctrl-C again to stop at once.",
}


def render_page(
    statuses: Sequence[SystemStatus], *, width: int, phase: RunPhase = RunPhase.RUNNING
) -> RenderableType:
    """Render the page: for each graph the folder, the programs and one row per job; the failures.

    If there are several graphs, their namespaces are in front of the names.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [
        *(_render_headline(status, width, _name(statuses, status)) for status in statuses),
        *_render_programs(statuses, width),
        Text(""),
        _render_jobs(statuses, width),
    ]
    sections = (
        [
            line
            for status in statuses
            for line in list_paused(status.counts.controls, _name(statuses, status, "/"))
        ],
        _render_running_jobs(statuses),
        _render_failures(statuses),
        [line for status in statuses for line in _render_letters(status, _name(statuses, status))],
        [
            Text(escape(f"{_name(statuses, status)}{note}"), style="yellow")
            for status in statuses
            for note in status.notes
        ],
        [_build_line(STOP_HINTS[phase], "dim")] if phase in STOP_HINTS else [],
    )
    for section in filter(None, sections):
        parts += [Text(""), *section]
    return Group(*parts)


def _name(statuses: Sequence[SystemStatus], status: SystemStatus, separator: str = " ") -> str:
    """Return what stands in front of the names of a graph: nothing if it is the only one."""
    return f"{status.namespace}{separator}" if len(statuses) > 1 else ""


def _render_running_jobs(statuses: Sequence[SystemStatus]) -> list[Text]:
    """Render the jobs that say how far they are, and those that have been running for long."""
    from rich.text import Text

    now = utc_now()
    lines = [
        line
        for status in statuses
        for line in render_progress(
            [job for job in status.running if job.fraction is not None or _is_long(job, now)],
            now,
            limit=MOST_RUNNING,
            prefix=_name(statuses, status, "/"),
        )
    ]
    return [Text("Running", style="bold"), *lines[:MOST_RUNNING]] if lines else []


def _is_long(job: RunningJob, now: datetime) -> bool:
    return (now - job.since).total_seconds() >= LONG_S


def _render_failures(statuses: Sequence[SystemStatus]) -> list[Text]:
    from rich.text import Text

    failures = [(failure, status) for status in statuses for failure in status.failures]
    failures.sort(key=lambda one: one[0].at, reverse=True)
    somewhere = next((status.folder for status in statuses if status.folder), "")
    lines = [
        _build_line(
            f"{text.format_time(f.at)[-8:]}  {_name(statuses, status, '/')}{f.job}  {f.kind}  "
            f"{strip_folder(f.uri, status.folder or somewhere)}",
            "red",
        )
        for f, status in failures[:RECENT]
    ]
    return [Text("Last failures", style="bold"), *lines] if lines else []


def _render_letters(status: SystemStatus, name: str) -> list[Text]:
    if not status.counts.dead_letters:
        return []
    count = text.format_count(status.counts.dead_letters, "dead letter")
    hint = f"segue retry --dead-letters --dry-run{' --graph FILE' if name else ''}"
    return [_build_line(f"{name}{count}; for details: {hint}", "red")]


def _render_headline(status: SystemStatus, width: int, name: str) -> Text:
    from rich.text import Text

    counts = status.counts
    files = text.format_count(counts.files, "file")
    if counts.deleted:
        files += f", {counts.deleted:,} deleted"
    if status.events:
        files += f", {text.format_count(status.events, 'event')} pending"
    if status.folder is None:
        return _build_line(f"{name}{files}; no folder is watched", "bold")
    folder = escape(abbreviate_home(status.folder))
    if status.is_lost:
        return _build_line(
            f"{name}{folder} is missing; it is watched again once it is back", "bold red"
        )
    files = f"{name}{files}"
    line = Text.assemble(
        (files, "bold"), " in ", (shorten(folder, width - len(files) - len(" in ")), "cyan")
    )
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _render_programs(statuses: Sequence[SystemStatus], width: int) -> list[Text]:
    """Render the programs, and what is queued for them; keep each of them on one line."""
    from rich.text import Text

    lines: list[Text] = []
    for status, program in [(s, program) for s in statuses for program in s.programs]:
        mark, style = MARKS[program.state]
        made = Text(f"{mark} ", no_wrap=True, overflow="ellipsis")
        made.stylize(style)
        made.append(f"{_name(statuses, status)}{program.name}")
        if program.state is not ProgramState.UP:
            made.append(f" {program.state}", style)
        if queued := status.counts.queued.get(program.name.rpartition(" ")[2]):
            made.append(f" {queued:,} queued", "cyan")
        if program.restarts:
            made.append(f" (started {text.format_count(program.restarts + 1, 'time')})", "yellow")
        if lines and lines[-1].cell_len + len(GAP) + made.cell_len <= width:
            lines[-1].append(GAP).append_text(made)
        else:
            lines.append(made)
    return lines


def _render_jobs(statuses: Sequence[SystemStatus], width: int) -> RenderableType:
    """Build the table of jobs, with the columns that fit beside the names."""
    from rich.text import Text

    jobs = [
        dataclasses.replace(job, name=f"{_name(statuses, status, '/')}{job.name}")
        for status in statuses
        for job in status.counts.jobs
    ]
    shown = [*ALWAYS, *(c for c in SOMETIMES if any(job.states.get(c) for job in jobs)), RATE]
    cells = {c: [_build_cell(job, c) for job in jobs] for c in shown}
    widths = {c: max([len(c), *(len(cell) for cell in cells[c])]) + 2 for c in shown}
    least = min(max((len(job.name) for job in jobs), default=0), LEAST_FOR_NAMES)
    for column in DISPENSABLE:
        if least + sum(widths[c] for c in shown) > width and column in shown:
            shown.remove(column)
    room = max(width - sum(widths[c] for c in shown), 1)
    rows = build_table("job", *(f">{c.replace('_', ' ')}" for c in shown))
    for number, job in enumerate(jobs):
        name = Text(job.name, no_wrap=True)
        name.truncate(room, overflow="ellipsis")
        rows.add_row(name, *(cells[c][number] for c in shown))
    return rows


def _build_cell(job: JobActivity, column: str) -> Text:
    from rich.text import Text

    if column == RATE:
        return Text(f"{text.format_number(job.rate)}/s" if job.rate else "·", style="dim")
    number = job.states.get(column)
    return Text(f"{number:,}", style=STYLES.get(column, "")) if number else Text("·", style="dim")


def _build_line(line: str, style: str) -> Text:
    """Build a line, truncated at the edge of the terminal: a page that wraps would scroll."""
    from rich.text import Text

    return Text(escape(line), style=style, no_wrap=True, overflow="ellipsis")


def strip_folder(uri: str, folder: str) -> str:
    """Return the name of a file relative to its folder, if there is one."""
    path = uri.removeprefix("file://")
    return path.removeprefix(folder.rstrip("/") + "/") if folder else path


def abbreviate_home(path: str) -> str:
    """Replace the home folder in a path by ``~``."""
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if path.startswith(home + "/") else path


def shorten(path: str, width: int) -> str:
    """Drop the beginning of a path that is too long, because its end says more."""
    from rich.cells import cell_len

    if cell_len(path) <= width:
        return path
    left = path
    while left and cell_len(left) > max(width - 1, 8):
        left = left[1:]
    return "…" + left
