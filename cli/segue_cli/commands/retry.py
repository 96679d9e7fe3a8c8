"""``segue retry``: retry failed jobs."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segue.adapters.connect import connect_queue
from segue.adapters.empty_ledger import ledger_exists
from segue.errors import ConfigurationError
from segue.maintenance.dead_letter_replay import (
    DeadLetterReplay,
    DeadLetterSelection,
    ReplayedLetters,
)
from segue.maintenance.retry import JobRetry, RetryCounts, RetrySelection
from segue.model.location import parse_prefix
from segue.reports.failures import select_kinds
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.parameters import Jobs, Kinds, Prefix, Yes
from segue_cli.views import text
from segue_cli.views.table import build_table

if TYPE_CHECKING:
    from segue.model.queue import Queue
    from segue.stack import Stack

EXAMPLES = 3

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be retried; change nothing.")
]
Publish = Annotated[
    bool | None,
    typer.Option(
        "--publish/--no-publish",
        help="Also notify the streaming pipelines.  [default: if there is a queue]",
        show_default=False,
    ),
]
DeadLetters = Annotated[
    bool,
    typer.Option(
        "--dead-letters",
        help="Republish the dead letters of the jobs instead.",
    ),
]


@command(
    settings=("graph", "ledger", "queue"),
    examples=(
        "segue retry --dry-run",
        "segue retry --job beats --kind timeout",
        "segue retry --prefix ~/Music --yes",
        "segue retry --dead-letters --job beats --dry-run",
    ),
)
def retry(
    context: Context,
    jobs: Jobs = None,
    kinds: Kinds = None,
    prefix: Prefix = None,
    dead_letters: DeadLetters = False,
    publish: Publish = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Retry failed jobs, and the jobs that they block.

    The failures are cleared from the ledger, so that the next backfill computes the jobs; streaming
    pipelines are notified and compute them right away. If a named job is blocked, the failed job
    that blocks it is retried as well. The command shows the counts and asks for confirmation.
    """
    if dead_letters:
        _replay_dead_letters(context, jobs, kinds, prefix, dry_run=dry_run, yes=yes)
        return
    selection = RetrySelection(
        jobs=context.graph.select(jobs),
        kinds=select_kinds(kinds),
        prefix=parse_prefix(prefix) if prefix else "",
    )
    # Like a ledger, a queue is created at its first use; without one, no pipeline is streaming.
    publish = ledger_exists(context.settings.queue) if publish is None else publish
    with context.open() as stack, _open_queue(context, publish and not dry_run) as queue:
        replay = JobRetry(graph=stack.graph, ledger=stack.ledger, selection=selection, queue=queue)
        counts = replay.count()
        ask = counts.jobs > 0 and not dry_run
        if ask and not yes:
            _confirm(context, counts)
        if ask:
            counts = replay.run()
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


@contextlib.contextmanager
def _open_queue(context: Context, is_needed: bool) -> Iterator[Queue | None]:
    if not is_needed:
        yield None
        return
    queue = connect_queue(context.settings.queue)
    try:
        yield queue
    finally:
        queue.close()


def _confirm(context: Context, counts: RetryCounts) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"cannot ask for confirmation to retry {_format_counts(counts)}: standard input is "
            "not a terminal; use --yes"
        )
    context.output.note(f"{_format_counts(counts)}:")
    for job in sorted(counts.failed | counts.blocked):
        failed, blocked = counts.failed[job], counts.blocked[job]
        context.output.note(f"  {job}: {failed:,} failed, {blocked:,} blocked")
    typer.confirm("Retry them?", abort=True, err=True)


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
    words = ["segue", "backfill", "--from-ledger", "all"]
    for job in context.graph.jobs:
        words += ["--job", job] if job in jobs else []
    return shlex.join([*words, *(["--prefix", prefix] if prefix else [])])


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
    context: Context,
    jobs: list[str] | None,
    kinds: list[str] | None,
    prefix: str | None,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Count the dead letters, and republish them after confirmation."""
    selection = DeadLetterSelection(
        jobs=context.graph.select(jobs),
        kinds=select_kinds(kinds),
        prefix=parse_prefix(prefix) if prefix else "",
    )
    if not ledger_exists(context.settings.queue):
        found = ReplayedLetters()
    else:
        with context.open() as stack, _open_queue(context, is_needed=True) as queue:
            assert queue is not None
            found = _confirm_and_replay(context, stack, queue, selection, dry_run=dry_run, yes=yes)
    if context.output.as_json:
        context.output.write_json(_dead_letters_to_json(found, dry_run=dry_run))
    elif not found.total:
        context.output.print("No dead letters match.")
    else:
        done = "Would republish" if dry_run else "Republished"
        context.output.print(f"{done}: {text.format_count(found.total, 'dead letter')}.")


def _confirm_and_replay(
    context: Context,
    stack: Stack,
    queue: Queue,
    selection: DeadLetterSelection,
    *,
    dry_run: bool,
    yes: bool,
) -> ReplayedLetters:
    replay = DeadLetterReplay(
        graph=stack.graph, ledger=stack.ledger, queue=queue, selection=selection
    )
    found = replay.run(dry_run=True)
    if not context.output.as_json:
        _print_dead_letters(context, found)
    if dry_run or not found.total:
        return found
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(
                "cannot ask for confirmation to republish "
                f"{text.format_count(found.total, 'dead letter')}: standard input is not a "
                "terminal; use --yes"
            )
        typer.confirm("Republish them?", abort=True, err=True)
    return replay.run(dry_run=False, only=found.ids)


def _print_dead_letters(context: Context, found: ReplayedLetters) -> None:
    if found.total:
        rows = build_table("job", "stage", "kind", ">dead letters")
        for (job, stage, kind), n in sorted(found.found.items()):
            rows.add_row(job, stage, kind, f"{n:,}")
        context.output.print(rows)
    for dead in found.examples[:EXAMPLES]:
        error = dead.error.removeprefix(f"{dead.uri}: ")
        line = f"{dead.job}: {dead.uri or 'unreadable'}: {dead.kind}: {error}"
        context.output.print(text.escape(line))
    if found.unreadable:
        unreadable = text.format_count(found.unreadable, "message")
        context.output.note(f"Left alone: {unreadable} that Segue cannot read.")


def _dead_letters_to_json(found: ReplayedLetters, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "dead_letters": [
            {"job": job, "stage": stage, "kind": kind, "count": n}
            for (job, stage, kind), n in sorted(found.found.items())
        ],
        "total": found.total,
        "unreadable": found.unreadable,
    }
