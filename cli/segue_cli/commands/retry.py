"""``segue retry``: retry failed jobs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import click

from segue import text
from segue.adapters.connect import connect_queue, ledger_exists
from segue.execution.recorded_run import record_run
from segue.maintenance.retry import (
    DeadLetterReplay,
    JobRetry,
    ReplayedLetters,
    RetryCounts,
    RetrySelection,
)
from segue.model.media_file import parse_prefix
from segue.model.run import RunKind, RunSelection
from segue.reports.job_states import select_kinds
from segue_cli.command import Context, check_prefix, command
from segue_cli.parameters import job_option, kind_option, prefix_option, yes_option
from segue_cli.views.output import build_table

EXAMPLES = 3


@command(
    settings=("graph", "ledger", "queue"),
    examples=(
        "segue retry --dry-run",
        "segue retry --job beats --kind timeout",
        "segue retry --prefix ~/Music --yes",
        "segue retry --dead-letters --job beats --dry-run",
    ),
)
@job_option
@kind_option
@prefix_option
@click.option(
    "--dead-letters", is_flag=True, help="Republish the dead letters of the jobs instead."
)
@click.option(
    "--publish/--no-publish",
    default=None,
    help="Also notify the streaming pipelines.  [default: if there is a queue]",
)
@click.option("--dry-run", is_flag=True, help="Show what would be retried; change nothing.")
@yes_option
def retry(
    context: Context,
    jobs: tuple[str, ...],
    kinds: tuple[str, ...],
    prefix: str | None,
    dead_letters: bool,
    publish: bool | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Retry failed jobs, and the jobs that they block.

    The failures are cleared from the ledger, so that the next backfill computes the jobs; streaming
    pipelines are notified and compute them right away. If a named job is blocked, the failed job
    that blocks it is retried as well. The command shows the counts and asks for confirmation.
    """
    selection = RetrySelection(
        jobs=context.graph.select(jobs),
        kinds=select_kinds(kinds),
        prefix=parse_prefix(prefix) if prefix else "",
    )
    if dead_letters:
        _replay_dead_letters(context, selection, dry_run=dry_run, yes=yes)
        return
    # Like a ledger, a queue is created at its first use; without one, no pipeline is streaming.
    publish = ledger_exists(context.settings.queue) if publish is None else publish
    with context.open() as stack, contextlib.ExitStack() as opened:
        check_prefix(stack.ledger, selection.prefix)
        queue = None
        if publish and not dry_run:
            queue = opened.enter_context(
                contextlib.closing(connect_queue(context.settings.queue, context.graph))
            )
        replay = JobRetry(graph=stack.graph, ledger=stack.ledger, selection=selection, queue=queue)
        counts = replay.count()
        if counts.jobs > 0 and not dry_run:
            if not yes:
                _confirm(context, counts)
            with _record(context, selection) as report:
                counts = replay.run()
                report({"failed": counts.failed.total(), "blocked": counts.blocked.total()})
    next_command = None if publish else _build_next_command(context, counts, prefix)
    if context.output.as_json:
        context.output.write_json(
            _to_json(counts, next_command, dry_run=dry_run, published=publish)
        )
        return
    if counts.jobs == 0:
        context.output.print("No failures match.")
        return
    done = "Would retry" if dry_run else "Queued again"
    context.output.print(f"{done}: {_format_counts(counts)}.")
    if publish and not dry_run:
        context.output.print("The streaming pipelines have been notified.")
    elif not dry_run:
        context.output.print(f"Next: {next_command}")


def _record(
    context: Context, selection: RetrySelection
) -> AbstractContextManager[Callable[[Mapping[str, int]], None]]:
    within = RunSelection(prefix=selection.prefix or None)
    return record_run(context.graph, RunKind.RETRY, jobs=selection.jobs, selection=within)


def _confirm(context: Context, counts: RetryCounts) -> None:
    context.output.note(f"{_format_counts(counts)}:")
    for job in sorted(counts.failed | counts.blocked):
        failed, blocked = counts.failed[job], counts.blocked[job]
        context.output.note(f"  {job}: {failed:,} failed, {blocked:,} blocked")
    context.output.confirm("Retry them?", f"retry {_format_counts(counts)}")


def _format_counts(counts: RetryCounts) -> str:
    failed, blocked = counts.failed.total(), counts.blocked.total()
    also = f" and {text.format_count(blocked, 'blocked job')}" if blocked else ""
    files = text.format_count(counts.files, "file")
    return f"{text.format_count(failed, 'failed job')}{also} on {files}"


def _build_next_command(context: Context, counts: RetryCounts, prefix: str | None) -> str | None:
    """Return the command that computes the queued jobs."""
    jobs = counts.failed | counts.blocked
    if not jobs:
        return None
    words = ["--from-ledger", "all"]
    for job in context.graph.jobs:
        words += ["--job", job] if job in jobs else []
    return context.format_command("backfill", *words, *(["--prefix", prefix] if prefix else []))


def _to_json(
    counts: RetryCounts, next_command: str | None, *, dry_run: bool, published: bool
) -> dict[str, Any]:
    jobs = sorted(counts.failed | counts.blocked)
    return {
        "dry_run": dry_run,
        "published": published and not dry_run,
        "files": counts.files,
        "jobs": {
            job: {"failed": counts.failed[job], "blocked": counts.blocked[job]} for job in jobs
        },
        "next": next_command,
    }


def _replay_dead_letters(
    context: Context, selection: RetrySelection, *, dry_run: bool, yes: bool
) -> None:
    """Count the dead letters, and republish them after confirmation."""
    found = ReplayedLetters()
    if ledger_exists(context.settings.queue):
        with (
            context.open() as stack,
            contextlib.closing(connect_queue(context.settings.queue, context.graph)) as queue,
        ):
            replay = DeadLetterReplay(
                graph=stack.graph, ledger=stack.ledger, queue=queue, selection=selection
            )
            found = replay.run(dry_run=True)
            if not context.output.as_json:
                _print_dead_letters(context, found)
            if (found.total or found.obsolete) and not dry_run:
                if found.total and not yes:
                    letters = text.format_count(found.total, "dead letter")
                    context.output.confirm("Republish them?", f"republish {letters}")
                with _record(context, selection) as report:
                    found = replay.run(dry_run=False, only=found.ids)
                    report({"dead_letters": found.total})
    if context.output.as_json:
        context.output.write_json(
            {
                "dry_run": dry_run,
                "dead_letters": [
                    {
                        "pipeline": pipeline,
                        "job": job or None,
                        "stage": stage,
                        "kind": kind,
                        "count": n,
                    }
                    for (pipeline, job, stage, kind), n in sorted(found.found.items())
                ],
                "total": found.total,
                "unreadable": found.unreadable,
                "obsolete": found.obsolete,
            }
        )
    elif not found.total:
        context.output.print("No dead letters match.")
    else:
        done = "Would republish" if dry_run else "Republished"
        context.output.print(f"{done}: {text.format_count(found.total, 'dead letter')}.")


def _print_dead_letters(context: Context, found: ReplayedLetters) -> None:
    if found.total:
        rows = build_table("pipeline", "job", "stage", "kind", ">dead letters")
        for (pipeline, job, stage, kind), n in sorted(found.found.items()):
            rows.add_row(pipeline, job, stage, kind, f"{n:,}")
        context.output.print(rows)
    for dead in found.examples[:EXAMPLES]:
        error = dead.error.removeprefix(f"{dead.uri}: ")
        where = dead.job or dead.pipeline
        context.output.print(f"{where}: {dead.uri or 'unreadable'}: {dead.kind}: {error}")
    if found.obsolete:
        obsolete = text.format_count(found.obsolete, "dead letter")
        why = "as their files have been overwritten or deleted since"
        context.output.note(f"Obsolete: {obsolete}, {why}; without --dry-run they are removed.")
    if found.unreadable:
        unreadable = text.format_count(found.unreadable, "message")
        context.output.note(f"Left alone: {unreadable} that Segue cannot read.")
