"""How ``segue up`` looks in a terminal."""

from __future__ import annotations

import os
from enum import Enum, auto
from typing import TYPE_CHECKING

from segue_cli.local.supervisor import State
from segue_cli.views import text
from segue_cli.views.table import table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from segue_cli.local.look import JobLook, Look
    from segue_cli.local.supervisor import Standing


class Phase(Enum):
    """Where in its life the system is."""

    RUNNING = auto()
    STOPPING = auto()
    STOPPED = auto()


ALWAYS = ("queued", "running", "done", "failed")
SOMETIMES = ("stale", "blocked")  # shown once there is something to show
RATE = "rate"
DISPENSABLE = (RATE, "stale", "blocked", "running", "queued")  # in a narrow terminal, in this order
STYLES = {"running": "cyan", "failed": "red", "blocked": "magenta", "stale": "yellow"}
MARKS = {
    State.STARTING: ("○", "yellow"),
    State.UP: ("●", "green"),
    State.RESTARTING: ("○", "red"),
    State.STOPPING: ("○", "yellow"),
    State.STOPPED: ("·", "dim"),
    State.FAILED: ("✗", "red"),
}
GAP = "   "  # between programs
LEAST_FOR_NAMES = 14  # columns of a terminal


WAYS_OUT = {
    Phase.RUNNING: "Ctrl-C stops; what is left is worked on at the next start.",
    Phase.STOPPING: "Stopping: what runs may finish. Ctrl-C again ends it at once.",
}


def drawn(look: Look, *, width: int, phase: Phase = Phase.RUNNING) -> RenderableType:
    """A page: what is watched, which programs are up, a row a job, and what went wrong last."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [
        _headline(look, width),
        *_programs(look.programs, width),
        Text(""),
    ]
    parts.append(_jobs(look, width))
    if look.troubles:
        parts += [Text(""), Text("Last failures", style="bold")]
        parts += [
            _line(
                f"{text.moment(t.at)[-8:]}  {t.job}  {t.kind}  {relative(t.uri, look.folder)}",
                "red",
            )
            for t in look.troubles
        ]
    letters = look.counted.dead_letters
    if letters:
        told = text.count(letters, "dead letter")
        parts += [
            Text(""),
            _line(f"{told}; 'segue retry --dead-letters --dry-run' tells why", "red"),
        ]
    if look.notes:
        parts += [Text(""), *(Text(text.printable(note), style="yellow") for note in look.notes)]
    if phase in WAYS_OUT:
        parts += [Text(""), _line(WAYS_OUT[phase], "dim")]
    return Group(*parts)


def _headline(look: Look, width: int) -> Text:
    from rich.text import Text

    counted = look.counted
    told = text.count(counted.files, "file")
    if counted.deleted:
        told += f", {counted.deleted:,} deleted"
    if look.events:
        told += f", {text.count(look.events, 'event')} under way"
    folder = text.printable(home(look.folder))
    if look.is_lost:
        return _line(f"{folder} is gone; it is watched again once it is back", "bold red")
    line = Text.assemble(
        (told, "bold"), " in ", (shortened(folder, width - len(told) - len(" in ")), "cyan")
    )
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def _programs(programs: tuple[Standing, ...], width: int) -> list[Text]:
    """Lines of programs; none is torn apart between two lines."""
    from rich.text import Text

    lines: list[Text] = []
    for program in programs:
        mark, style = MARKS[program.state]
        made = Text(f"{mark} ", no_wrap=True, overflow="ellipsis")
        made.stylize(style)
        made.append(program.name)
        if program.state is not State.UP:
            made.append(f" {program.state}", style)
        if program.restarts:
            made.append(f" (started {text.count(program.restarts + 1, 'time')})", "yellow")
        if lines and lines[-1].cell_len + len(GAP) + made.cell_len <= width:
            lines[-1].append(GAP).append_text(made)
        else:
            lines.append(made)
    return lines


def _jobs(look: Look, width: int) -> RenderableType:
    """A row a job, with the columns for which there is room beside the job's name."""
    from rich.text import Text

    jobs = look.counted.jobs
    shown = [*ALWAYS, *(c for c in SOMETIMES if any(_number(job, c) for job in jobs)), RATE]
    cells = {c: [_cell(job, c) for job in jobs] for c in shown}
    widths = {c: max([len(c), *(len(cell) for cell in cells[c])]) + 2 for c in shown}
    least = min(max((len(job.name) for job in jobs), default=0), LEAST_FOR_NAMES)
    for column in DISPENSABLE:
        if least + sum(widths[c] for c in shown) > width and column in shown:
            shown.remove(column)
    room = max(width - sum(widths[c] for c in shown), 1)
    rows = table("job", *(f">{c}" for c in shown))
    for number, job in enumerate(jobs):
        name = Text(job.name, no_wrap=True)
        name.truncate(room, overflow="ellipsis")
        rows.add_row(name, *(cells[c][number] for c in shown))
    return rows


def _number(job: JobLook, column: str) -> int | None:
    return job.queued if column == "queued" else job.states.get(column, 0)


def _cell(job: JobLook, column: str) -> Text:
    from rich.text import Text

    if column == RATE:
        return Text(f"{text.figure(job.rate)}/s" if job.rate else "·", style="dim")
    number = _number(job, column)
    if number is None:
        return Text("?", style="dim")
    return Text(f"{number:,}", style=STYLES.get(column, "")) if number else Text("·", style="dim")


def _line(told: str, style: str) -> Text:
    """One line, cut where the terminal ends: a page that wraps does not stay in its place."""
    from rich.text import Text

    return Text(text.printable(told), style=style, no_wrap=True, overflow="ellipsis")


def relative(uri: str, folder: str) -> str:
    """Name a file from its catalogue on."""
    path = uri.removeprefix("file://")
    return path.removeprefix(folder.rstrip("/") + "/")


def home(path: str) -> str:
    """Write a path as it is typed."""
    at_home = os.path.expanduser("~")
    return "~" + path[len(at_home) :] if path.startswith(at_home + "/") else path


def shortened(path: str, width: int) -> str:
    """Leave out the beginning of a path that is too long: its end says more."""
    from rich.cells import cell_len

    if cell_len(path) <= width:
        return path
    left = path
    while left and cell_len(left) > max(width - 1, 8):
        left = left[1:]
    return "…" + left
