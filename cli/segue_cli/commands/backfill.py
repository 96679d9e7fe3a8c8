"""``segue backfill``: compute the missing results of a catalogue."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from segue.adapters.notification_target import parse_target
from segue.clock import utc_now
from segue.errors import RunCancelled, TooManyFailures
from segue.ingest.exclusions import describe_passed_over
from segue.ingest.exclusions import to_json as passed_over_to_json
from segue.model.message import build_request_id
from segue.model.outcome import UNFINISHED, RunTotals, Status
from segue.model.passed_over import PassedOver
from segue.text import format_count, format_duration
from segue_cli.command import Context, command
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import (
    add_selection_options,
    parse_beam_options,
    parse_share,
    processes_option,
    select_targets,
)
from segue_cli.pipeline_progress import run_with_progress
from segue_cli.views.output import build_table

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

    from segue_pipelines.backfill import BackfillRun

# In the order of a reader's questions: what was done, what was current, what failed, what is left.
COLUMNS = {
    Status.TODO: "to do",
    Status.DONE: "done",
    Status.CURRENT: "current",
    Status.FAILED: "failed",
    Status.FAILED_BEFORE: "failed before",
    Status.BLOCKED: "blocked",
    Status.NOT_APPLICABLE: "not applicable",
    Status.IDLE: "not needed yet",
    Status.HELD: "held by others",
    Status.PAUSED: "paused",
    Status.WAITING: "waiting",
    Status.DEFERRED: "deferred",
    Status.LOST: "lost",
    Status.SUPERSEDED: "superseded",
    Status.DELETED: "deleted",
    Status.ERASED: "erased",
}

EarlyEnd = TooManyFailures | RunCancelled


@command(
    requires=("pipelines",),
    settings=("graph", "catalogue", "artifacts", "models", "ledger", "queue"),
    examples=(
        "segue backfill --prefix ~/Music --job beats",
        "segue backfill --prefix gs://acme/masters/ --all --tolerate 1% --json",
        "segue backfill --job energy --runner DataflowRunner --project acme --region europe-west1",
    ),
    extra_options=True,
)
@add_selection_options
@click.option(
    "--tolerate",
    default="0%",
    metavar="SHARE",
    callback=parse_share,
    help="Exit with 0 if at most this share of the files fails or is left out, such as 1%. "
    "With 100%, the run also goes on if the first 200 files all fail in the same job.",
)
@click.option(
    "--max-failures",
    metavar="N|N%",
    help="Stop once so many files have failed in this run, or this share of those that were tried, "
    "counted from 100 files on: begin nothing more, and exit with 3.",
)
@click.option(
    "--rate",
    metavar="RATE",
    help="Start at most so many files, such as 2/s, 30/min or 100/h.",
)
@click.option(
    "--notify",
    multiple=True,
    metavar="URL",
    help="Notify https://host/path or pubsub://projects/PROJECT/topics/TOPIC of the first failure, "
    "of --max-failures, and of the end. May be repeated.",
)
@processes_option
@click.option(
    "--request-parents",
    is_flag=True,
    help="Request what is missing in other namespaces there; the streaming pipelines go on "
    "with a file once they respond.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be computed; compute nothing.")
def backfill(
    context: Context, tolerate: float, notify: tuple[str, ...], dry_run: bool, **selected: Any
) -> ExitCode:
    """Compute the missing results of a catalogue.

    The jobs that a named job depends on are computed first; other jobs are left alone, as are
    results that are current. A failure is recorded with its cause and does not stop the rest. An
    interrupted backfill continues when it is run again; SIGTERM interrupts it as Ctrl-C does.
    'segue cancel' stops one from elsewhere: it finishes what it has begun.
    Unknown options are passed to Beam, such as --runner or --direct_num_workers.
    """
    from segue.model.job_code import check_code
    from segue.worker.model_paths import check_models

    options = parse_beam_options()
    for url in notify:
        parse_target(url)
    run = build_backfill(context, dry_run=dry_run, **selected)
    run = replace(run, id=build_request_id(utc_now()))
    if tolerate == 1.0:
        run = replace(run, max_first_failures=None)
    check_code(context.graph)
    if not dry_run:
        check_models(context.graph, context.graph.add_ancestors(run.targets))
    try:
        with _interrupt_at_sigterm():
            totals, stopped = execute_backfill(context, run, options, notify)
    except KeyboardInterrupt:
        context.output.note("Finished results are recorded. Run the same command to continue.")
        raise
    if context.output.as_json:
        known, error = to_json(totals, dry_run=dry_run), str(stopped) if stopped else None
        context.output.write_json({"run": None if dry_run else run.id, **known, "error": error})
    else:
        print_summary(context, totals, has_requested=run.queue is not None)
    if stopped:
        raise stopped
    if totals.failed_share > tolerate or totals.is_nothing_included:
        return ExitCode.FAILURES
    return ExitCode.UNFINISHED if totals.unfinished else ExitCode.OK


@contextlib.contextmanager
def _interrupt_at_sigterm() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does, and a second one end the process at once."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def build_backfill(
    context: Context,
    *,
    jobs: tuple[str, ...],
    everything: bool,
    **options: Any,
) -> BackfillRun:
    """Build the backfill that the options describe; the rest of them go to `build_run`."""
    from segue_pipelines.backfill import build_run

    return build_run(
        context.graph,
        context.settings,
        select_targets(context.graph, jobs, everything=everything),
        **options,
    )


def execute_backfill(
    context: Context, run: BackfillRun, options: PipelineOptions, notify: tuple[str, ...] = ()
) -> tuple[RunTotals, EarlyEnd | None]:
    """Execute a backfill, and show its progress; return the totals and why it stopped early."""
    from segue_pipelines.backfill import execute
    from segue_pipelines.progress import read_progress
    from segue_pipelines.sources import count_files

    def execute_here(folder: str | None) -> tuple[RunTotals, EarlyEnd | None]:
        try:
            return execute(replace(run, progress=folder), options, notify=notify), None
        except (TooManyFailures, RunCancelled) as error:
            if folder is None:
                raise
            return read_progress(folder), error

    what = "planning" if run.dry_run else ", ".join(run.targets)
    return run_with_progress(
        context.output,
        options,
        what if len(what) <= 24 else f"{len(run.targets)} jobs",
        execute_here,
        lambda stop: count_files(run.selection, run.ledger, stop=stop),
    )


def to_json(totals: RunTotals, *, dry_run: bool) -> dict[str, object]:
    """Return all totals of a run as JSON values."""
    return {
        "dry_run": dry_run,
        "files": totals.files,
        "failed_files": totals.failed_files,
        "not_started": totals.not_started,
        "left_out": totals.left_out,
        "left_out_names": totals.left_out_names,
        **passed_over_to_json(totals.passed_over),
        "jobs": {
            job: {
                "statuses": dict(sorted(statuses.items())),
                "failures": dict(sorted(totals.failures.get(job, {}).items())),
                "cpu_seconds": round(totals.cpu_seconds.get(job, 0.0), 6),
            }
            for job, statuses in totals.jobs.items()
        },
    }


def print_summary(context: Context, totals: RunTotals, *, has_requested: bool = False) -> None:
    """Print a table of jobs by status, failures by kind, and what to do next."""
    output = context.output
    if totals.files == 0 and not totals.not_started:
        output.print(_describe_no_files(totals))
    else:
        _print_jobs(context, totals, has_requested=has_requested)
    if totals.not_started:
        output.print(f"not started: {format_count(totals.not_started, 'file')}")
    if totals.left_out:
        kinds = ", ".join(f"{n:,} {reason}" for reason, n in totals.left_out.items())
        output.print(f"left out: {kinds}; the log names each")
    for line in describe_passed_over(totals.passed_over):
        output.print(line)


def _describe_no_files(totals: RunTotals) -> str:
    if totals.is_nothing_included:
        return "No files to process: the graph includes none of those that were found."
    return "No files found." if totals.passed_over == PassedOver() else "No files selected."


def _print_jobs(context: Context, totals: RunTotals, *, has_requested: bool) -> None:
    output = context.output
    used = [s for s in COLUMNS if any(statuses.get(s) for statuses in totals.jobs.values())]
    has_cpu = any(totals.cpu_seconds.values())
    rows = build_table("job", *(f">{COLUMNS[s]}" for s in used), *([">CPU"] if has_cpu else []))
    for job, statuses in totals.jobs.items():
        cells = [f"{statuses[s]:,}" if statuses.get(s) else "·" for s in used]
        cpu_seconds = totals.cpu_seconds.get(job)
        cpu = [format_duration(cpu_seconds) if cpu_seconds else "·"] if has_cpu else []
        rows.add_row(job, *cells, *cpu)
    output.print(rows, "", f"{format_count(totals.files, 'file')} examined")
    kinds = [
        f"{job} {kind} {n:,}"
        for job, failures in totals.failures.items()
        for kind, n in failures.items()
    ]
    if kinds:
        output.print(
            f"failed: {', '.join(kinds)}; for details: {context.format_command('failures')}"
        )
    if failed_before := totals.total(Status.FAILED_BEFORE):
        output.print(f"failed before: {failed_before:,}; to retry them: --retry-failed")
    awaited = {
        job: n for job, of in totals.jobs.items() if "/" in job and (n := of.get(Status.WAITING))
    }
    for job, n in awaited.items():
        how = "is requested there" if has_requested else "its own namespace computes"
        output.print(f"{format_count(n, 'file')} wait for {job}, which {how}")
    if awaited and not has_requested:
        output.print("to request what is missing there: --request-parents")
    if paused := [job for job, of in totals.jobs.items() if of.get(Status.PAUSED)]:
        output.print(f"paused: {', '.join(paused)}; to go on: {context.format_command('resume')}")
    unfinished = UNFINISHED - {Status.PAUSED}
    if totals.total(*unfinished):
        left = ", ".join(COLUMNS[s] for s in COLUMNS if s in unfinished and totals.total(s))
        output.print(f"not finished: {left}; run the same command again")
