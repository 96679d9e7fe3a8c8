"""``segue compare``: show how a new version of a job differs from an old one, on a sample."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click
import msgspec

from segue import text
from segue.extras import require
from segue.model.media_file import parse_prefix
from segue.printable import escape
from segue.reports.value_text import format_value
from segue_cli.command import Context, command
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import complete_job, prefix_option, processes_option
from segue_cli.views.output import build_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from segue.reports.comparison import Comparison

SAMPLE = 200
ROWS = 5


@command(
    settings=("graph", "artifacts", "models", "ledger"),
    examples=(
        "segue compare beats",
        "segue compare beats --from 1 --sample 50",
        "segue compare beats --from 4f0c9a11d2e7 --prefix gs://acme-audio/masters/ --json",
    ),
)
@click.argument("job", help="A job of the graph.  [required]", shell_complete=complete_job)
@click.option(
    "--from",
    "version",
    metavar="FINGERPRINT|VERSION",
    help="The old version: a fingerprint, as 'segue explain' shows it, or its beginning; or the "
    "number of a version in jobs.yaml, with all else as it is now.  [default: the one that most "
    "files have]",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=SAMPLE,
    metavar="N",
    help="Compare at most N files, the same ones each time.",
)
@prefix_option
@processes_option
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=ROWS,
    metavar="N",
    help="How many files to name for a field, those that differ most.",
)
def compare(
    context: Context,
    job: str,
    version: str | None,
    sample: int,
    prefix: str | None,
    processes: int | None,
    rows: int,
) -> ExitCode:
    """Show how a new version of a job differs from an old one, on a sample.

    Use it after you have changed a job, before a large backfill. The job and all that it depends on
    are computed anew for files that have a result of the old version, and nothing is recorded. For
    each field of the result: how many files changed, the means, how far the values are apart
    (median, 95 % of the files, the largest), and the files that differ most. And what it costs.
    Files that lack a result of another namespace are left out, and named.
    """
    from segue.reports.comparison import compare_versions

    require("comparing results", "audio")
    (name,) = context.graph.select([job])
    with context.open() as stack, _show_progress(context) as note:
        found = compare_versions(
            stack.graph,
            stack.ledger,
            name,
            version=version,
            sample=sample,
            prefix=parse_prefix(prefix) if prefix else "",
            processes=processes,
            note=note,
        )
    if context.output.as_json:
        context.output.write_json(
            {**msgspec.to_builtins(found), "changed": found.changed}  # a property
        )
    else:
        context.output.print(*_render(context, found, rows))
    return ExitCode.FAILURES if found.failed or found.unreadable else ExitCode.OK


@contextlib.contextmanager
def _show_progress(context: Context) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error, if that is a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = context.output.stderr
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        bar = progress.add_task("comparing", total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _render(context: Context, found: Comparison, rows: int) -> Iterator[RenderableType]:
    files = text.format_count(len(found.files), "file")
    whole = f"{found.available:,} with the old one"
    yield f"{found.job}: {found.old} → {found.new}, on {files} of {whole}"
    yield (
        f"{found.changed:,} of them changed "
        f"({text.format_percent(found.changed, len(found.files))})"
    )
    yield ""
    table = build_table(
        "field", ">changed", ">old mean", ">new mean", ">median", ">95 %", ">largest"
    )
    for field in found.fields:
        numbers = (field.old_mean, field.new_mean, field.median, field.p95, field.largest)
        table.add_row(
            field.field,
            f"{field.changed:,} of {field.files:,}",
            *("·" if number is None else f"{number:.4g}" for number in numbers),
        )
    yield table
    for field in found.fields:
        if field.changed:
            yield from _render_largest(found, field.field, rows)
    yield ""
    yield from _render_rest(context, found)


def _render_largest(found: Comparison, field: str, rows: int) -> Iterator[RenderableType]:
    """Name the files in which a field differs most."""
    from rich.text import Text

    differing = [
        (difference, file.uri)
        for file in found.files
        for difference in file.differences
        if difference.field == field and difference.is_changed
    ]
    differing.sort(key=lambda item: (-(item[0].amount or 0.0), item[1]))
    yield ""
    yield Text(field, "bold")
    table = build_table("  old", "new", "file")
    for difference, uri in differing[:rows]:
        table.add_row(
            f"  {format_value(difference.old)}", format_value(difference.new), escape(uri)
        )
    yield table


def _render_rest(context: Context, found: Comparison) -> Iterator[RenderableType]:
    costs = [
        "unknown" if seconds is None else text.format_duration(seconds)
        for seconds in (found.old_cpu_s, found.new_cpu_s)
    ]
    plan = context.format_command("plan", "--job", found.job)
    yield f"CPU per file: {costs[0]}, now {costs[1]}. To sum it up: {plan}"
    for what, errors in (
        ("failed", found.failed),
        ("old result unreadable", found.unreadable),
        ("left out", found.left_out),
    ):
        for uri, error in errors.items():
            yield f"{what}: {escape(uri)}: {error}"
