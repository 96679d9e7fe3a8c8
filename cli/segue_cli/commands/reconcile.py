"""``segue reconcile``: compare the catalogue with the ledger and repair missed events."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from segue import text
from segue.clock import utc_now
from segue.errors import ConfigurationError
from segue.execution.recorded_run import record_run
from segue.ingest.catalogue import build_media_filter
from segue.ingest.exclusions import describe_passed_over, to_json
from segue.maintenance.reconcile import DiscrepancyKind
from segue.model.media_file import format_name, resolve_prefix
from segue.model.run import RunKind, RunSelection
from segue_cli.command import Context, command
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import (
    catalogue_prefix_option,
    parse_beam_options,
    parse_duration,
    yes_option,
)
from segue_cli.pipeline_progress import run_with_progress
from segue_cli.views.output import build_table

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from rich.console import RenderableType

    from segue_pipelines.reconcile import ReconcileRun, ReconcileTotals

MEANINGS = {
    DiscrepancyKind.UNRECORDED: "exists, but was never recorded",
    DiscrepancyKind.OVERWRITTEN: "was overwritten after it was recorded",
    DiscrepancyKind.UNSTARTED: "was recorded, but never processed",
    DiscrepancyKind.GONE: "was recorded, but no longer exists",
}
REPAIRED = {
    DiscrepancyKind.UNRECORDED: "recorded, and its jobs notified",
    DiscrepancyKind.OVERWRITTEN: "recorded again, and its jobs notified",
    DiscrepancyKind.UNSTARTED: "its jobs notified again",
    DiscrepancyKind.GONE: "marked as deleted",
}


@command(
    requires=("pipelines",),
    settings=("graph", "catalogue", "artifacts", "ledger", "queue"),
    examples=(
        "segue reconcile",
        "segue reconcile --prefix gs://acme/masters/ --apply",
        "segue reconcile --apply --yes --runner DataflowRunner --project acme",
    ),
    extra_options=True,
)
@catalogue_prefix_option
@click.option(
    "--older-than",
    default="1h",
    metavar="DURATION",
    callback=parse_duration,
    help="Repair unprocessed files only if they were recorded this long ago, such as 90m, 12h or "
    "1d.",
)
@click.option("--apply", is_flag=True, help="Repair the differences instead of only counting them.")
@yes_option
@click.option(
    "--allow-empty",
    is_flag=True,
    help="Mark files as deleted even if the catalogue is empty, or their disk is not mounted.",
)
def reconcile(
    context: Context,
    prefix: str | None,
    older_than: float,
    apply: bool,
    yes: bool,
    allow_empty: bool,
) -> ExitCode:
    """Compare the catalogue with the ledger and repair missed events.

    New and overwritten files are recorded and their jobs notified, as on arrival. Jobs of files
    that were recorded but never processed are notified again. Missing files are marked as deleted;
    'segue gc' then deletes their artifacts. Nothing is changed without --apply, which shows the
    counts and asks for confirmation. Unknown options are passed to Beam, such as --runner.
    """
    options = parse_beam_options()
    if apply and not yes and not sys.stdin.isatty():
        raise ConfigurationError(
            "--apply asks for confirmation, but standard input is not a terminal; use --yes"
        )
    run = _build_run(context, prefix, grace=timedelta(seconds=older_than), allow_empty=allow_empty)
    repaired = apply and yes
    found = _execute(context, replace(run, dry_run=not repaired), options)
    if apply and not yes and found.files:
        for part in _render_counts(found, MEANINGS):
            context.output.stderr.print(part)
        context.output.confirm("Repair these files?", "repair them")
        found = _execute(context, replace(run, dry_run=False), options)
        repaired = True
    if context.output.as_json:
        context.output.write_json(_to_json(found, dry_run=not repaired))
    else:
        context.output.print(*_render(found, repaired=repaired))
    is_nothing_included = not found.listed and found.passed_over.is_nothing_included
    return ExitCode.FAILURES if found.left_out or is_nothing_included else ExitCode.OK


def _build_run(
    context: Context, prefix: str | None, *, grace: timedelta, allow_empty: bool
) -> ReconcileRun:
    from segue_pipelines.reconcile import ReconcileRun

    graph = context.graph
    catalogue = f"{graph.catalogue.rstrip('/')}/" if graph.catalogue else None
    root = prefix or catalogue
    if root is None:
        raise ConfigurationError(
            "no files are selected; set a folder or gs:// prefix with --prefix, or a catalogue "
            "with SEGUE_CATALOGUE"
        )
    return ReconcileRun(
        graph=graph,
        prefix=resolve_prefix(root),
        media_filter=build_media_filter(graph, context.settings, anywhere=True),
        ledger=context.settings.ledger,
        queue=context.settings.queue,
        started_at=utc_now(),
        grace=grace,
        allow_empty=allow_empty,
    )


def _execute(context: Context, run: ReconcileRun, options: PipelineOptions) -> ReconcileTotals:
    from segue_pipelines.options import find_remote_runner
    from segue_pipelines.reconcile import execute

    def compare() -> ReconcileTotals:
        return run_with_progress(
            context.output,
            options,
            "comparing",
            lambda folder: execute(replace(run, progress=folder), options),
        )

    if run.dry_run:
        return compare()
    within, runner = RunSelection(prefix=format_name(run.prefix)), find_remote_runner(options)
    with record_run(context.graph, RunKind.RECONCILE, selection=within, runner=runner) as report:
        found = compare()
        report({str(kind): n for kind, n in found.files.items()})
    return found


def _render_counts(
    found: ReconcileTotals, meanings: dict[DiscrepancyKind, str]
) -> Iterator[RenderableType]:
    """Show the number of files of each kind, with some examples."""
    from rich.text import Text

    rows = build_table(">files", "difference", "examples")
    for kind in DiscrepancyKind:
        if n := found.files[kind]:
            first, *more = found.samples.get(kind) or [""]
            rows.add_row(f"{n:,}", meanings[kind], first)
            for uri in more:
                rows.add_row("", "", uri)
    yield rows
    yield Text()


def _render(found: ReconcileTotals, *, repaired: bool) -> Iterator[RenderableType]:
    from rich.text import Text

    examined = f"{text.format_count(found.listed, 'file')} listed, {found.recorded:,} recorded"
    if found.left_out:
        kinds = ", ".join(f"{n:,} {reason}" for reason, n in found.left_out.items())
        yield Text(f"Left out: {kinds}; the log names each.", style="yellow")
    for line in describe_passed_over(found.passed_over):
        yield Text(line, style="yellow")
    if not found.files:
        yield Text(f"Nothing to repair: {examined}.")
        return
    yield from _render_counts(found, REPAIRED if repaired else MEANINGS)
    total = text.format_count(found.files.total(), "file")
    if repaired:
        yield Text(f"Repaired {total}; {examined}.")
    else:
        yield Text(f"{total} to repair; {examined}. Use --apply to repair them.")


def _to_json(found: ReconcileTotals, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "listed": found.listed,
        "recorded": found.recorded,
        "left_out": found.left_out,
        "left_out_names": found.left_out_names,
        **to_json(found.passed_over),
        "kinds": {
            kind: {"files": found.files[kind], "samples": found.samples.get(kind, [])}
            for kind in DiscrepancyKind
        },
        "total": found.files.total(),
    }
