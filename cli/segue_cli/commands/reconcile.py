"""``segue reconcile``: compare the catalogue with the ledger and repair missed events."""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segue.clock import utc_now
from segue.errors import ConfigurationError
from segue.ingest.media_filter import build_media_filter
from segue.maintenance.discrepancy import DiscrepancyKind
from segue.model.location import resolve_prefix
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.parameters import Yes, parse_duration
from segue_cli.selection import Prefix
from segue_cli.views import text
from segue_cli.views.table import build_table

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions
    from rich.console import RenderableType

    from segue_pipelines.reconcile.pipeline import ReconcileRun
    from segue_pipelines.reconcile.totals import ReconcileTotals

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

OlderThan = Annotated[
    str,
    typer.Option(
        "--older-than",
        metavar="DURATION",
        help="Repair unprocessed files only if they were recorded this long ago, such as 90m, 12h "
        "or 1d.",
        show_default=True,
    ),
]
Apply = Annotated[
    bool, typer.Option("--apply", help="Repair the differences instead of only counting them.")
]
AllowEmpty = Annotated[
    bool,
    typer.Option(
        "--allow-empty",
        help="Accept an empty catalogue: mark all files of the ledger as deleted.",
    ),
]


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
def reconcile(
    context: Context,
    ctx: typer.Context,
    prefix: Prefix = None,
    older_than: OlderThan = "1h",
    apply: Apply = False,
    yes: Yes = False,
    allow_empty: AllowEmpty = False,
) -> None:
    """Compare the catalogue with the ledger and repair missed events.

    New and overwritten files are recorded and their jobs notified, as on arrival. Jobs of files
    that were recorded but never processed are notified again. Missing files are marked as deleted;
    'segue gc' then deletes their artifacts. Nothing is changed without --apply, which shows the
    counts and asks for confirmation. Unknown options are passed to Beam, such as --runner.
    """
    from segue_pipelines.options import parse_pipeline_options

    grace = timedelta(seconds=parse_duration(older_than, "--older-than"))
    options = parse_pipeline_options(ctx.args, [o for p in ctx.command.params for o in p.opts])
    if apply and not yes and not sys.stdin.isatty():
        raise ConfigurationError(
            "--apply asks for confirmation, but standard input is not a terminal; use --yes"
        )
    run = _build_run(context, prefix, grace=grace, allow_empty=allow_empty)
    repaired = apply and yes
    found = _run_with_progress(context, replace(run, dry_run=not repaired), options)
    if apply and not yes and found.files:
        for part in _render_counts(found, MEANINGS):
            context.output.stderr.print(part)
        typer.confirm("Repair these files?", abort=True, err=True)
        found = _run_with_progress(context, replace(run, dry_run=False), options)
        repaired = True
    if context.output.as_json:
        context.output.write_json(_to_json(found, dry_run=not repaired))
    else:
        context.output.print(*_render(found, repaired=repaired))


def _build_run(
    context: Context, prefix: str | None, *, grace: timedelta, allow_empty: bool
) -> ReconcileRun:
    from segue_pipelines.reconcile.pipeline import ReconcileRun

    graph = context.graph
    root = prefix or graph.catalogue
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


def _run_with_progress(
    context: Context, run: ReconcileRun, options: PipelineOptions
) -> ReconcileTotals:
    """Run the pipeline; show progress if it runs on this machine and in a terminal.

    A remote runner logs its own progress.
    """
    from segue_pipelines.options import is_local
    from segue_pipelines.reconcile.pipeline import execute

    if not is_local(options):
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        return execute(run, options)
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # Segue reports its errors itself
    if not context.output.stderr.is_terminal:
        return execute(run, options)
    with (
        tempfile.TemporaryDirectory(prefix="segue-progress-") as folder,
        _show_progress(context, folder),
    ):
        return execute(replace(run, progress=folder), options)


@contextlib.contextmanager
def _show_progress(context: Context, folder: str) -> Iterator[None]:
    """Show how many files have been compared."""
    from segue_pipelines.progress import read_progress

    done = threading.Event()
    with context.output.stderr.status("") as status:

        def follow() -> None:
            while not done.wait(0.25):
                status.update(f"{text.format_count(read_progress(folder).files, 'file')} compared")

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _render_counts(
    found: ReconcileTotals, meanings: dict[DiscrepancyKind, str]
) -> Iterator[RenderableType]:
    """Show the number of files of each kind, with some examples."""
    from rich.text import Text

    rows = build_table(">files", "difference", "examples")
    for kind in DiscrepancyKind:
        if n := found.files[kind]:
            first, *more = found.samples.get(kind) or [""]
            rows.add_row(f"{n:,}", meanings[kind], text.escape(first))
            for uri in more:
                rows.add_row("", "", text.escape(uri))
    yield rows
    yield Text()


def _render(found: ReconcileTotals, *, repaired: bool) -> Iterator[RenderableType]:
    from rich.text import Text

    examined = f"{text.format_count(found.listed, 'file')} listed, {found.recorded:,} recorded"
    if found.left_out:
        names = text.format_count(found.left_out, "file")
        yield Text(f"Skipped: {names} whose names are not valid UTF-8.", style="yellow")
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
        "kinds": {
            kind: {"files": found.files[kind], "samples": found.samples.get(kind, [])}
            for kind in DiscrepancyKind
        },
        "total": found.files.total(),
    }
