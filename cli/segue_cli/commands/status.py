"""``segue status``: show the progress of each job."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from segue.errors import ConfigurationError
from segue.model.location import parse_prefix
from segue.reports.job_counts import JobCounts, count_jobs
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.parameters import Prefix
from segue_cli.views import text
from segue_cli.views.table import build_table, draw_bar

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

STYLES = {"stale": "yellow", "failed": "red", "blocked": "magenta", "running": "cyan"}
BAR, SHORTEST_BAR = 24, 6
COLUMNS = ("stale", "failed", "blocked", "running", "queued", "missing")

Watch = Annotated[
    float | None,
    typer.Option(
        "--watch", metavar="SECONDS", min=0.1, help="Refresh at this interval until Ctrl-C."
    ),
]


@command(
    settings=("graph", "ledger"),
    examples=(
        "segue status",
        "segue status --prefix gs://acme-audio/masters/2024/ --json",
        "segue status --watch 5",
    ),
)
def status(context: Context, prefix: Prefix = None, watch: Watch = None) -> None:
    """Show the progress of each job.

    A result is done if it was computed by the current version of the job from the current version
    of the file, and stale if the job, or one it depends on, has changed since. It is missing if the
    job has never been requested for the file. --prefix reads every matching record; without it, the
    ledger returns its counts at once.
    """
    if watch is not None and context.output.as_json:
        raise ConfigurationError("--watch and --json exclude each other; leave one out")
    within = parse_prefix(prefix) if prefix else ""
    with context.open() as stack:

        def read_counts() -> JobCounts:
            return count_jobs(stack.ledger, stack.graph, within)

        if watch is not None:
            _watch(context, read_counts, within, watch)
        elif context.output.as_json:
            context.output.write_json(_to_json(read_counts(), context.settings.ledger, within))
        else:
            context.output.print(_render(read_counts(), within, context.output.stdout))


def _to_json(found: JobCounts, ledger: str, within: str) -> dict[str, object]:
    return {
        "ledger": ledger,
        "prefix": within or None,
        "files": found.files,
        "deleted": found.deleted,
        "jobs": found.jobs,
    }


def _watch(
    context: Context, read_counts: Callable[[], JobCounts], within: str, pause_s: float
) -> None:
    from rich.live import Live

    console = context.output.stdout
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_render(read_counts(), within, console), refresh=True)
            time.sleep(pause_s)


def _render(found: JobCounts, within: str, console: "Console") -> "RenderableType":
    """Build the table: with bars and no empty columns in a terminal, always the same in a pipe."""
    from rich.console import Group
    from rich.text import Text

    pipe = not console.is_terminal
    columns = [c for c in COLUMNS if pipe or any(states[c] for states in found.jobs.values())]
    numbers = {
        job: {c: f"{states[c]:,}" for c in ("done", *columns)} for job, states in found.jobs.items()
    }
    widths = [max(map(len, (c, *(n[c] for n in numbers.values())))) for c in ("done", *columns)]
    room = (
        console.width
        - max(map(len, found.jobs))
        - sum(widths)
        - 2 * len(widths)
        - len("99.9 %")
        - 6
    )
    width = 0 if pipe else min(room, BAR)
    rows = build_table(
        "job", ">done", *([""] if width >= SHORTEST_BAR else []), ">", *(f">{c}" for c in columns)
    )
    for job, states in found.jobs.items():
        has_bar = width >= SHORTEST_BAR
        done = [draw_bar(states["done"], found.files, width=width)] if has_bar else []
        done.append(Text(text.format_percent(states["done"], found.files)))
        cells = [
            Text(numbers[job][c], style=STYLES.get(c, "") if states[c] else "dim") for c in columns
        ]
        rows.add_row(job, numbers[job]["done"], *done, *cells)
    total = text.format_count(found.files, "file") + (
        f" below {text.escape(within)}" if within else ""
    )
    if found.deleted:
        total += f", and {text.format_count(found.deleted, 'tombstone')} of deleted files"
    return Group(Text(total, style="bold"), Text(""), rows)
