"""``segue retry``: let what failed be tried again."""

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
from segue.maintenance.dead_letter_replay import Chosen, Exhumation, Exhumed
from segue.maintenance.retry import Choice, Replay, Replayed
from segue.model.location import prefix_uri
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.parameters import Jobs, Kinds, Prefix, Yes, known_jobs, known_kinds
from segue_cli.views import text
from segue_cli.views.table import table

if TYPE_CHECKING:
    from segue.model.queue import Queue
    from segue.stack import Stack

EXAMPLES = 3

DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count; change nothing.")]
Publish = Annotated[
    bool | None,
    typer.Option(
        "--publish/--no-publish",
        help="Tell the streaming pipelines, too.  [default: where there is a queue]",
        show_default=False,
    ),
]
DeadLetters = Annotated[
    bool,
    typer.Option(
        "--dead-letters",
        help="Take the dead letters of the jobs, and send them on their way again.",
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
    """Let what failed be tried again, together with what it blocks.

    Failures are forgotten, not their files: the next backfill computes them, and the streaming
    pipelines are told where there are any. A job that is named and blocked brings the failed job
    above it along. Counts are shown first, and confirmed.
    """
    if dead_letters:
        _exhume(context, jobs, kinds, prefix, dry_run=dry_run, yes=yes)
        return
    choice = Choice(
        jobs=known_jobs(context.graph, jobs),
        kinds=known_kinds(kinds),
        prefix=prefix_uri(prefix) if prefix else "",
    )
    # A queue is made like a ledger, at its first use; none means that nothing streams here.
    publish = ledger_exists(context.settings.queue) if publish is None else publish
    with context.open() as stack, _queue(context, publish and not dry_run) as queue:
        replay = Replay(graph=stack.graph, ledger=stack.ledger, choice=choice, queue=queue)
        counted = replay.count()
        ask = counted.jobs > 0 and not dry_run
        if ask and not yes:
            _confirm(context, counted)
        if ask:
            counted = replay.run()
    following = None if publish else _following(context, counted, prefix)
    if context.output.as_json:
        context.output.json(_document(counted, following, dry_run=dry_run, published=publish))
        return
    if counted.jobs == 0:
        context.output.print("Nothing that failed is chosen.")
        return
    done = "Would be tried again" if dry_run else "To be tried again"
    context.output.print(f"{done}: {_words(counted)}.")
    if publish and not dry_run:
        context.output.print("The streaming pipelines have been told.")
    elif not dry_run:
        context.output.print(f"Next: {following}")


@contextlib.contextmanager
def _queue(context: Context, wanted: bool) -> Iterator[Queue | None]:
    if not wanted:
        yield None
        return
    queue = connect_queue(context.settings.queue)
    try:
        yield queue
    finally:
        queue.close()


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


def _document(
    counted: Replayed, following: str | None, *, dry_run: bool, published: bool
) -> dict[str, Any]:
    jobs = sorted(counted.failed | counted.blocked)
    return {
        "dry_run": dry_run,
        "published": published and not dry_run,
        "files": counted.files,
        "jobs": {
            job: {"failed": counted.failed[job], "blocked": counted.blocked[job]} for job in jobs
        },
        "next": following,
    }


def _exhume(
    context: Context,
    jobs: list[str] | None,
    kinds: list[str] | None,
    prefix: str | None,
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    """Count the dead letters, and send them again once that is confirmed."""
    chosen = Chosen(
        jobs=known_jobs(context.graph, jobs),
        kinds=known_kinds(kinds),
        prefix=prefix_uri(prefix) if prefix else "",
    )
    if not ledger_exists(context.settings.queue):
        found = Exhumed()
    else:
        with context.open() as stack, _queue(context, wanted=True) as queue:
            assert queue is not None
            found = _exhumed(context, stack, queue, chosen, dry_run=dry_run, yes=yes)
    if context.output.as_json:
        context.output.json(_dead_document(found, dry_run=dry_run))
    elif not found.total:
        context.output.print("There are no such dead letters.")
    else:
        done = "Would be sent again" if dry_run else "Sent again"
        context.output.print(f"{done}: {text.count(found.total, 'dead letter')}.")


def _exhumed(
    context: Context, stack: Stack, queue: Queue, chosen: Chosen, *, dry_run: bool, yes: bool
) -> Exhumed:
    exhumation = Exhumation(graph=stack.graph, ledger=stack.ledger, queue=queue, chosen=chosen)
    found = exhumation.run(dry_run=True)
    if not context.output.as_json:
        _show(context, found)
    if dry_run or not found.total:
        return found
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(
                f"{text.count(found.total, 'dead letter')} would be sent again, and there is no "
                "terminal to confirm it in; say --yes"
            )
        typer.confirm("Send them again?", abort=True, err=True)
    return exhumation.run(dry_run=False, only=found.ids)


def _show(context: Context, found: Exhumed) -> None:
    if found.total:
        rows = table("job", "stage", "kind", ">dead letters")
        for (job, stage, kind), n in sorted(found.found.items()):
            rows.add_row(job, stage, kind, f"{n:,}")
        context.output.print(rows)
    for dead in found.examples[:EXAMPLES]:
        error = dead.error.removeprefix(f"{dead.uri}: ")
        told = f"{dead.job}: {dead.uri or 'unreadable'}: {dead.kind}: {error}"
        context.output.print(text.printable(told))
    if found.unreadable:
        unreadable = text.count(found.unreadable, "message")
        context.output.note(f"{unreadable} on these topics is not one of Segue's; left alone.")


def _dead_document(found: Exhumed, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "dead_letters": [
            {"job": job, "stage": stage, "kind": kind, "count": n}
            for (job, stage, kind), n in sorted(found.found.items())
        ],
        "total": found.total,
        "unreadable": found.unreadable,
    }
