"""``segue status``: show the progress of each job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import click
import msgspec

from segue import text
from segue.errors import ConfigurationError
from segue.model.media_file import parse_prefix
from segue.printable import escape
from segue.reports.artifact_sample import ArtifactSample, look_at_artifacts
from segue.reports.job_states import ForeignRequests, JobCounts, count_jobs, count_requests
from segue_cli.command import Context, check_prefix, command
from segue_cli.parameters import prefix_option
from segue_cli.views.output import Output, build_table, draw_bar
from segue_cli.views.paused import list_paused

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from segue.model.graph import Graph
    from segue.stack import Stack

STYLES = {"failed": "red", "blocked": "magenta", "running": "cyan", "stale": "yellow"}
COLUMNS = ("not_applicable", "failed", "blocked", "running", "queued", "missing", "stale")


@command(
    settings=("graph", "artifacts", "ledger"),
    examples=(
        "segue status",
        "segue status --prefix gs://acme-audio/masters/2024/ --json",
        "segue status --watch 5",
    ),
)
@prefix_option
@click.option(
    "--watch",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Refresh at this interval until Ctrl-C; in a pipe, print the table each time.",
)
def status(context: Context, prefix: str | None, watch: float | None) -> None:
    """Show the progress of each job.

    A result is done if it was computed by the present version of the job, or an equivalent one,
    from the present version of the file; not applicable if the job is not for the file; and missing
    if it has not been requested yet. The states of a job add up to all files. Beside them, stale
    counts the files that have a result of an earlier version of the job only. --prefix reads every
    matching record; without it, the ledger returns its counts at once. Below the table are the
    namespaces that have requested results and wait for them, and the jobs that are paused. If
    artifacts of a few files, which are looked at, are gone, that is said, and what to do.
    """
    if watch is not None and context.output.as_json:
        raise ConfigurationError("--watch and --json exclude each other; leave one out")
    within = parse_prefix(prefix) if prefix else ""
    with context.open() as stack:
        check_prefix(stack.ledger, within)
        if watch is not None:
            _watch(context.output, stack, within, watch)
        found = count_jobs(stack.ledger, stack.graph, within)
        requests = count_requests(stack.ledger, within)
        controls = stack.ledger.read_controls()
        sample = look_at_artifacts(stack.ledger, stack.artifacts, stack.graph, within)
    if context.output.as_json:
        context.output.write_json(
            {
                "ledger": context.settings.ledger,
                "prefix": within or None,
                "files": found.files,
                "deleted": found.deleted,
                "jobs": found.jobs,
                "requests": requests.files,
                "requests_complete": requests.is_complete,
                "paused": msgspec.to_builtins(controls.paused),
                "artifacts_looked_at": sample.artifacts,
                "artifacts_gone": sample.artifacts_gone,
            }
        )
    else:
        context.output.print(
            _render(found, requests, within, context.output.stdout),
            *list_paused(controls, format_command=context.format_command),
        )
        context.output.print(*_describe_losses(sample, context.graph))


def _describe_losses(sample: ArtifactSample, graph: Graph) -> Iterator[str]:
    """Say which of the results that were looked at have lost their artifact, and what to do."""
    if sample.artifacts_gone:
        yield (
            f"{sample.artifacts_gone} of {sample.artifacts} artifacts that were looked at are not "
            f"in {graph.artifacts}. If they were moved, name their place with --artifacts; else "
            "compute them again with 'segue backfill --all --force'."
        )
    if sample.files and sample.files_gone == sample.files:
        yield (
            f"No file exists of the {sample.files} that were looked at. The ledger knows files "
            "by their paths: move their folder back, or its files are new ones where they are now."
        )


def _watch(output: Output, stack: Stack, within: str, pause_s: float) -> NoReturn:
    """Show the table again and again: in a terminal in one place, in a pipe one after another."""
    from rich.console import Group
    from rich.live import Live

    console = output.stdout
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = count_jobs(stack.ledger, stack.graph, within)
            requests = count_requests(stack.ledger, within)
            paused = list_paused(stack.ledger.read_controls())
            table = Group(_render(found, requests, within, console), *paused)
            if console.is_terminal:
                live.update(table, refresh=True)
            else:
                output.print(table, "")
                console.file.flush()
            time.sleep(pause_s)


def _render(
    found: JobCounts, requests: ForeignRequests, within: str, console: Console
) -> RenderableType:
    """Build the table: with bars and no empty columns in a terminal, always the same in a pipe."""
    from rich.console import Group
    from rich.text import Text

    columns = [
        c
        for c in COLUMNS
        if not console.is_terminal or any(states[c] for states in found.jobs.values())
    ]
    needed = max(map(len, found.jobs), default=0) + 32 + sum(2 + max(8, len(c)) for c in columns)
    has_room = console.is_terminal and console.width >= needed
    bar = [""] if has_room else []
    rows = build_table("job", ">done", *bar, ">", *(f">{c}" for c in columns))
    for job, states in found.jobs.items():
        done, wanted = states["done"], found.files - states["not_applicable"]
        rows.add_row(
            job,
            f"{done:,}",
            *(draw_bar(done, wanted) for _ in bar),
            text.format_percent(done, wanted),
            *(
                Text(f"{states[c]:,}", style=STYLES.get(c, "") if states[c] else "dim")
                for c in columns
            ),
        )
    total = text.format_count(found.files, "file")
    total += f" below {escape(within)}" if within else ""
    if found.deleted:
        total += f", and {text.format_count(found.deleted, 'tombstone')} of deleted files"
    parts: list[RenderableType] = [Text(total, style="bold"), Text(""), rows]
    if requests.files:
        waiting = [
            f"{namespace} for {text.format_count(n, 'file')}"
            for namespace, n in requests.files.items()
        ]
        more = "" if requests.is_complete else ", and there are more"
        parts.append(Text(f"other namespaces wait: {', '.join(waiting)}{more}"))
    return Group(*parts)
