"""``segue failures``: list failures by job and kind."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from segue import text
from segue.model.media_file import parse_prefix
from segue.printable import escape, escape_lines
from segue.reports.failure_hints import HINTS
from segue.reports.job_states import FailedJob, find_failures, select_kinds
from segue_cli.command import Context, check_prefix, command
from segue_cli.parameters import job_option, kind_option, prefix_option

if TYPE_CHECKING:
    from rich.text import Text

EXAMPLES = 3


@command(
    settings=("graph", "ledger"),
    examples=(
        "segue failures",
        "segue failures --job beats --kind timeout --limit 20",
        "segue failures --prefix gs://acme-audio/masters/ --json",
    ),
)
@job_option
@kind_option
@prefix_option
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"At most N files per job and kind.  [default: {EXAMPLES}; with --json: all]",
)
@click.option("-v", "--verbose", is_flag=True, help="Also show the tracebacks of jobs' own code.")
def failures(
    context: Context,
    jobs: tuple[str, ...],
    kinds: tuple[str, ...],
    prefix: str | None,
    limit: int | None,
    verbose: bool,
) -> None:
    """List failures by job and kind, with examples and hints.

    Failures of earlier versions of a job are not listed: the next backfill runs the present one.
    Nor are jobs that are only blocked by a failed parent; 'segue status' counts them.
    """
    chosen = context.graph.select(jobs)
    within = parse_prefix(prefix) if prefix else ""
    with context.open() as stack:
        check_prefix(stack.ledger, within)
        found = find_failures(
            stack.ledger,
            stack.graph,
            jobs=chosen,
            kinds=select_kinds(kinds),
            prefix=within,
        )
        groups = FailureGroups(limit if limit is not None or context.output.as_json else EXAMPLES)
        if context.output.as_json:
            items = (_to_json(f) for f in groups.count(found))
            context.output.write_json_stream("failures", items, groups.to_json)
            return
        for failure in groups.count(found):
            groups.keep(failure)
    context.output.print(*_render(groups, verbose=verbose))


class FailureGroups:
    """Failures counted by job and kind, with the first few of each group."""

    def __init__(self, limit: int | None) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.kept: dict[tuple[str, str], list[FailedJob]] = {}
        self._limit = limit

    def count(self, found: Iterable[FailedJob]) -> Iterator[FailedJob]:
        """Count all failures, and yield those within the limit of their group."""
        for failure in found:
            key = (failure.job, failure.error.kind)
            self.counts[key] += 1
            if self._limit is None or self.counts[key] <= self._limit:
                yield failure

    def keep(self, failure: FailedJob) -> None:
        """Keep a failure, to show it in its group."""
        self.kept.setdefault((failure.job, failure.error.kind), []).append(failure)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "groups": [
                {"job": job, "kind": kind, "files": n}
                for (job, kind), n in self.counts.most_common()
            ],
            "total": self.counts.total(),
        }


def _to_json(failure: FailedJob) -> dict[str, Any]:
    entry = failure.entry
    return {
        "uri": failure.uri,
        "version": failure.version,
        "job": failure.job,
        "kind": failure.error.kind,
        "type": failure.error.type,
        "message": failure.error.message,
        "traceback": failure.error.traceback,
        "remedy": HINTS.get(failure.error.kind),
        "attempts": entry.attempts,
        "fingerprint": failure.fingerprint,
        "started_at": entry.started_at.isoformat() if entry.started_at else None,
        "finished_at": entry.finished_at.isoformat() if entry.finished_at else None,
        "seconds": entry.seconds,
    }


def _render(groups: FailureGroups, *, verbose: bool) -> Iterator[Text]:
    from rich.text import Text

    for (job, kind), files in groups.counts.most_common():
        yield Text.assemble(
            (job, "bold"), "  ", (kind, "bold red"), "  ", text.format_count(files, "file")
        )
        if hint := HINTS.get(kind):
            yield Text(f"  → {hint}", style="cyan")
        shown = groups.kept.get((job, kind), [])
        for failure in shown:
            uri = escape(failure.uri)
            yield Text(f"  {uri}")
            message = escape(failure.error.message).removeprefix(f"{uri}: ")
            yield Text(f"    {message}", style="dim")
            if verbose and failure.error.traceback is not None:
                trace = escape_lines(failure.error.traceback.rstrip())
                yield Text(textwrap.indent(trace, "      "), style="dim")
        if files > len(shown):
            yield Text(f"  … and {files - len(shown):,} more", style="dim")
        yield Text()
    total = groups.counts.total()
    if not verbose and any(f.error.traceback for kept in groups.kept.values() for f in kept):
        yield Text("For tracebacks: segue failures -v")
    if total:
        yield Text(f"{text.format_count(total, 'failure')}. To retry them: segue retry")
    else:
        yield Text("There are no failures.", style="green")
