"""``segue retry``: let what failed be tried again."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, Any

import typer

from pipelines.cli import text
from pipelines.cli.command import command
from pipelines.cli.context import Context
from pipelines.cli.parameters import Jobs, Kinds, Prefix, Yes, known_jobs, known_kinds
from pipelines.places import prefix_uri
from pipelines.replay import Choice, Replayed, replay
from shared.errors import ConfigurationError

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count; change nothing.")]


@command(
    settings=("graph", "ledger"),
    examples=(
        "segue retry --dry-run",
        "segue retry --job beats --kind timeout",
        "segue retry --prefix ~/Music --yes",
    ),
)
def retry(
    context: Context,
    jobs: Jobs = None,
    kinds: Kinds = None,
    prefix: Prefix = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Let what failed be tried again, together with what it blocks.

    Failures are forgotten, not their files: the next backfill, or the next message, computes them.
    A job that is named and blocked brings the failed job above it along. Counts are shown first,
    and confirmed.
    """
    choice = Choice(
        jobs=known_jobs(context.graph, jobs),
        kinds=known_kinds(kinds),
        prefix=prefix_uri(prefix) if prefix else "",
    )
    with context.open() as stack:
        counted = replay(stack.ledger, choice, dry_run=True)
        ask = counted.jobs > 0 and not dry_run
        if ask and not yes:
            _confirm(context, counted)
        if ask:
            counted = replay(stack.ledger, choice, dry_run=False)
    following = _following(context, counted, prefix)
    if context.output.as_json:
        context.output.json(_document(counted, following, dry_run=dry_run))
        return
    if counted.jobs == 0:
        context.output.print("Nothing that failed is chosen.")
        return
    done = "Would be tried again" if dry_run else "To be tried again"
    context.output.print(f"{done}: {_words(counted)}.")
    if not dry_run:
        context.output.print(f"Next: {following}")


def _confirm(context: Context, counted: Replayed) -> None:
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"{_words(counted)} would be tried again, and there is no terminal to confirm it in; "
            "say --yes"
        )
    context.output.note(f"{_words(counted)}:")
    for job in sorted(counted.failed | counted.blocked):
        failed, blocked = counted.failed[job], counted.blocked[job]
        context.output.note(f"  {job}: {failed:,} failed, {blocked:,} blocked")
    typer.confirm("Try them again?", abort=True, err=True)


def _words(counted: Replayed) -> str:
    failed, blocked = counted.failed.total(), counted.blocked.total()
    also = f" and {text.count(blocked, 'blocked job')}" if blocked else ""
    return f"{text.count(failed, 'failed job')}{also}, on {text.count(counted.files, 'file')}"


def _following(context: Context, counted: Replayed, prefix: str | None) -> str | None:
    """The command that computes what was queued."""
    jobs = counted.failed | counted.blocked
    if not jobs:
        return None
    words = ["segue", "backfill", "--from-ledger", "all"]
    for job in context.graph.jobs:
        words += ["--job", job] if job in jobs else []
    return shlex.join([*words, *(["--prefix", prefix] if prefix else [])])


def _document(counted: Replayed, following: str | None, *, dry_run: bool) -> dict[str, Any]:
    jobs = sorted(counted.failed | counted.blocked)
    return {
        "dry_run": dry_run,
        "files": counted.files,
        "jobs": {
            job: {"failed": counted.failed[job], "blocked": counted.blocked[job]} for job in jobs
        },
        "next": following,
    }
