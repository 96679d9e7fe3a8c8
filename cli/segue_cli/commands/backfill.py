"""``segue backfill``: compute the missing results of a catalogue."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from segue_cli import selection as select
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.exit_code import ExitCode
from segue_cli.views.run_summary import compute_failed_share, print_summary, to_json

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

    from segue.model.outcome import RunTotals
    from segue_pipelines.backfill import BackfillRun


@command(
    requires=("pipelines",),
    settings=("graph", "catalogue", "artifacts", "ledger"),
    examples=(
        "segue backfill --prefix ~/Music --job beats",
        "segue backfill --prefix gs://acme/masters/ --all --tolerate 1% --json",
        "segue backfill --job energy --runner DataflowRunner --project acme --region europe-west1",
    ),
    extra_options=True,
)
def backfill(
    context: Context,
    ctx: typer.Context,
    prefix: select.Prefix = None,
    uris: select.Uris = None,
    from_ledger: select.FromLedger = None,
    jobs: select.Jobs = None,
    everything: select.All = False,
    force: select.Force = False,
    retry_failed: select.RetryFailed = False,
    limit: select.Limit = None,
    sample: select.Sample = None,
    tolerate: Annotated[
        str,
        typer.Option(
            metavar="SHARE",
            help="Exit with 0 if at most this share of the files fails, such as 1%.",
        ),
    ] = "0%",
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Child processes per worker.  [default: one per core]"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be computed; compute nothing.")
    ] = False,
) -> ExitCode:
    """Compute the missing results of a catalogue.

    The jobs that a named job depends on are computed first; other jobs are left alone, as are
    results that are current. A failure is recorded with its cause and does not stop the rest. An
    interrupted backfill continues when it is run again. Unknown options are passed to Beam, such as
    --runner or --direct_num_workers.
    """
    from segue.model.job_code import check_code
    from segue_pipelines.options import parse_pipeline_options

    tolerated = select.parse_share(tolerate, "--tolerate")
    options = parse_pipeline_options(ctx.args, [o for p in ctx.command.params for o in p.opts])
    graph = context.graph
    run = select.build_backfill(
        context,
        prefix=prefix,
        uris=uris,
        from_ledger=from_ledger,
        jobs=jobs,
        everything=everything,
        force=force,
        retry_failed=retry_failed,
        limit=limit,
        sample=sample,
        dry_run=dry_run,
        processes=processes,
    )
    check_code(graph)
    try:
        tally = run_with_progress(context, run, options)
    except KeyboardInterrupt:
        context.output.note("Finished results are recorded. Run the same command to continue.")
        raise
    failed = compute_failed_share(tally)
    if context.output.as_json:
        context.output.write_json(to_json(tally, dry_run=dry_run))
    else:
        print_summary(context.output, tally)
    if failed > tolerated:
        return ExitCode.FAILURES
    return ExitCode.UNFINISHED if tally.unfinished else ExitCode.OK


def run_with_progress(context: Context, run: BackfillRun, options: PipelineOptions) -> RunTotals:
    """Run a backfill; show a progress bar if it runs on this machine and in a terminal."""
    from segue_pipelines.backfill import execute
    from segue_pipelines.options import is_local

    if not is_local(options):
        # A remote runner logs the address and state of its job; there is no other progress to show.
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        return execute(run, options)
    # Beam's warnings are about its own options, and Segue reports its errors itself.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    if not context.output.stderr.is_terminal:
        return execute(run, options)
    with (
        tempfile.TemporaryDirectory(prefix="segue-progress-") as folder,
        _bar(context, run, folder),
    ):
        return execute(replace(run, progress=folder), options)


@contextlib.contextmanager
def _bar(context: Context, run: BackfillRun, folder: str) -> Iterator[None]:
    """Show how many files are done, at what rate, and the remaining time."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from segue_pipelines.progress import read_progress

    done = threading.Event()
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        console=context.output.stderr,
        transient=True,
        speed_estimate_period=60,
    )
    what = "planning" if run.dry_run else ", ".join(run.targets)
    what = what if len(what) <= 24 else f"{len(run.targets)} jobs"
    task = progress.add_task(what, total=None, rate="")

    def follow() -> None:
        while not done.wait(0.25):
            tally = read_progress(folder)
            seconds = progress.tasks[0].elapsed or 1.0
            rate = f"{tally.files / seconds:,.1f} files/s" if tally.files else "starting"
            progress.update(task, completed=tally.files, rate=rate)

    def count_total() -> None:
        """Count the files in the background; a failure only costs the bar its total."""
        from segue_pipelines.sources import count_files

        with contextlib.suppress(Exception):
            total = count_files(run.selection, run.ledger, stop=done.is_set)
            progress.update(task, total=total)

    threads = [threading.Thread(target=t, daemon=True) for t in (follow, count_total)]
    with progress:
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            threads[0].join()
