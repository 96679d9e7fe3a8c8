"""``segue status``: how far each job has come."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from segue.errors import ConfigurationError
from segue.model.location import prefix_uri
from segue.reports.job_counts import Standing, standing
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.parameters import Prefix
from segue_cli.views import text
from segue_cli.views.table import bar, table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

STYLES = {"stale": "yellow", "failed": "red", "blocked": "magenta", "running": "cyan"}
BAR, SHORTEST_BAR = 24, 6
COLUMNS = ("stale", "failed", "blocked", "running", "queued", "missing")

Watch = Annotated[
    float | None,
    typer.Option(
        "--watch", metavar="SECONDS", min=0.1, help="Show it again and again, until Ctrl-C."
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
    """Show how far each job has come.

    A result is done if it was made by the present graph from the present generation of the file,
    and stale if the job, or one above it, has changed since. Missing are the files that a job has
    never been asked for. With a prefix every record below it is read; without, the ledger's own
    counts answer at once.
    """
    if watch is not None and context.output.as_json:
        raise ConfigurationError("--watch draws in a terminal; leave it or --json out")
    within = prefix_uri(prefix) if prefix else ""
    with context.open() as stack:

        def look() -> Standing:
            return standing(stack.ledger, stack.graph, within)

        if watch is not None:
            _watch(context, look, within, watch)
        elif context.output.as_json:
            context.output.json(_document(look(), context.settings.ledger, within))
        else:
            context.output.print(_drawn(look(), within, context.output.results))


def _document(found: Standing, ledger: str, within: str) -> dict[str, object]:
    return {
        "ledger": ledger,
        "prefix": within or None,
        "files": found.files,
        "deleted": found.deleted,
        "jobs": found.jobs,
    }


def _watch(context: Context, look: Callable[[], Standing], within: str, pause_s: float) -> None:
    from rich.live import Live

    console = context.output.results
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_drawn(look(), within, console), refresh=True)
            time.sleep(pause_s)


def _drawn(found: Standing, within: str, console: "Console") -> "RenderableType":
    """A table: with bars and no columns of zeros in a terminal, always the same in a pipe."""
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
    rows = table(
        "job", ">done", *([""] if width >= SHORTEST_BAR else []), ">", *(f">{c}" for c in columns)
    )
    for job, states in found.jobs.items():
        drawn = width >= SHORTEST_BAR
        done = [bar(states["done"], found.files, width=width)] if drawn else []
        done.append(Text(text.percent(states["done"], found.files)))
        cells = [
            Text(numbers[job][c], style=STYLES.get(c, "") if states[c] else "dim") for c in columns
        ]
        rows.add_row(job, numbers[job]["done"], *done, *cells)
    total = text.count(found.files, "file") + (f" below {text.printable(within)}" if within else "")
    if found.deleted:
        total += f", and {text.count(found.deleted, 'tombstone')} of deleted ones"
    return Group(Text(total, style="bold"), Text(""), rows)
