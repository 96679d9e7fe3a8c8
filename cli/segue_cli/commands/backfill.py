"""``segue backfill``: compute what files are missing for some jobs, and nothing else."""

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
from segue_cli.views.run_summary import failed_share, show, to_json

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

    from segue.model.outcome import Tally
    from segue_pipelines.backfill import Backfill


@command(
    settings=("graph", "catalogue", "artifacts", "ledger"),
    examples=(
        "segue backfill --prefix ~/Music --job beats",
        "segue backfill --prefix gs://acme/masters/ --all --tolerate 1% --json",
        "segue backfill --job energy --runner DataflowRunner --project acme --region europe-west1",
    ),
    takes_more=True,
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
            help="The share of the files that may fail without this command failing, such as 1%.",
        ),
    ] = "0%",
    processes: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Child processes a worker. By default, one a core."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done; compute nothing.")
    ] = False,
) -> ExitCode:
    """Compute what files are missing for some jobs: parents first, never a sibling, never what is
    there already.

    What fails is recorded with its cause, and does not stop the rest. Interrupted in any way, it is
    run again and goes on. Options that are not its own are Beam's, such as --runner or
    --direct_num_workers.
    """
    from segue.model.job_code import check
    from segue_pipelines.options import pipeline_options

    tolerated = select.share_of(tolerate, "--tolerate")
    options = pipeline_options(ctx.args, [o for p in ctx.command.params for o in p.opts])
    graph = context.graph
    run = select.run_of(
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
    check(graph)
    try:
        tally = run_with_progress(context, run, options)
    except KeyboardInterrupt:
        context.output.note("What was finished is recorded. Run the same command again to go on.")
        raise
    failed = failed_share(tally)
    if context.output.as_json:
        context.output.json(to_json(tally, dry_run=dry_run))
    else:
        show(context.output, tally)
    if failed > tolerated:
        return ExitCode.FAILURES
    return ExitCode.UNFINISHED if tally.unfinished else ExitCode.OK


def run_with_progress(context: Context, run: Backfill, options: PipelineOptions) -> Tally:
    """Run a backfill, with a bar in a terminal where the work is done on this machine."""
    from segue_pipelines.backfill import execute
    from segue_pipelines.options import is_local

    if not is_local(options):
        # What a remote runner says of its job, its address and state, is all there is to see.
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        return execute(run, options)
    # Beam's warnings are about its own options, and its errors are told by us.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    if not context.output.talk.is_terminal:
        return execute(run, options)
    with (
        tempfile.TemporaryDirectory(prefix="segue-progress-") as folder,
        _bar(context, run, folder),
    ):
        return execute(replace(run, progress=folder), options)


@contextlib.contextmanager
def _bar(context: Context, run: Backfill, folder: str) -> Iterator[None]:
    """Draw how many files are done, how fast, and when all will be."""
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
        console=context.output.talk,
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

    def size_up() -> None:
        """Count the files on the side; a bar without a total is better than no run."""
        from segue_pipelines.sources import count_files

        with contextlib.suppress(Exception):
            total = count_files(run.selection, run.ledger, stop=done.is_set)
            progress.update(task, total=total)

    threads = [threading.Thread(target=t, daemon=True) for t in (follow, size_up)]
    with progress:
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            threads[0].join()
