"""``segue failures``: list failures by job and kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segue.model.location import parse_prefix
from segue.reports.failures import FailedJob, find_failures, select_kinds
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.hints import find_hint
from segue_cli.parameters import Jobs, Kinds, Prefix
from segue_cli.views import text

if TYPE_CHECKING:
    from rich.text import Text

EXAMPLES = 3

Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=0,
        help=f"At most N files per job and kind.  [default: {EXAMPLES}; with --json: all]",
    ),
]


@command(
    settings=("graph", "ledger"),
    examples=(
        "segue failures",
        "segue failures --job beats --kind timeout --limit 20",
        "segue failures --prefix gs://acme-audio/masters/ --json",
    ),
)
def failures(
    context: Context,
    jobs: Jobs = None,
    kinds: Kinds = None,
    prefix: Prefix = None,
    limit: Limit = None,
) -> None:
    """List failures by job and kind, with examples and hints.

    Jobs that are only blocked by a failed parent are not listed; 'segue status' counts them.
    """
    chosen = context.graph.select(jobs)
    with context.open() as stack:
        found = find_failures(
            stack.ledger,
            stack.graph,
            jobs=chosen,
            kinds=select_kinds(kinds),
            prefix=parse_prefix(prefix) if prefix else "",
        )
        groups = FailureGroups(limit if limit is not None or context.output.as_json else EXAMPLES)
        if context.output.as_json:
            items = (_to_json(f) for f in groups.count(found))
            context.output.write_json_stream("failures", items, groups.to_json)
            return
        for failure in groups.count(found):
            groups.keep(failure)
    context.output.print(*_render(groups))


class FailureGroups:
    """Failures counted by job and kind, with the first few of each group."""

    def __init__(self, limit: int | None) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.stale: Counter[tuple[str, str]] = Counter()
        self.kept: dict[tuple[str, str], list[FailedJob]] = {}
        self._limit = limit

    def count(self, found: Iterable[FailedJob]) -> Iterator[FailedJob]:
        """Count all failures, and yield those within the limit of their group."""
        for failure in found:
            key = (failure.job, failure.error.kind)
            self.counts[key] += 1
            self.stale[key] += failure.stale
            if self._limit is None or self.counts[key] <= self._limit:
                yield failure

    def keep(self, failure: FailedJob) -> None:
        """Keep a failure, to show it in its group."""
        self.kept.setdefault((failure.job, failure.error.kind), []).append(failure)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "groups": [
                {"job": job, "kind": kind, "files": n, "stale": self.stale[job, kind]}
                for (job, kind), n in self.counts.most_common()
            ],
            "total": self.counts.total(),
        }


def _to_json(failure: FailedJob) -> dict[str, Any]:
    entry = failure.entry
    return {
        "uri": failure.uri,
        "generation": failure.generation,
        "job": failure.job,
        "kind": failure.error.kind,
        "type": failure.error.type,
        "message": failure.error.message,
        "remedy": find_hint(failure.error.kind) or None,
        "attempts": entry.attempts,
        "fingerprint": entry.fingerprint,
        "stale": failure.stale,
        "started_at": entry.started_at.isoformat() if entry.started_at else None,
        "seconds": entry.seconds,
    }


def _render(groups: FailureGroups) -> Iterator[Text]:
    from rich.text import Text

    for (job, kind), files in groups.counts.most_common():
        yield Text.assemble(
            (job, "bold"), "  ", (kind, "bold red"), "  ", text.format_count(files, "file")
        )
        if stale := groups.stale[job, kind]:
            retried = "the next backfill runs the current version"
            yield Text(f"  {stale:,} with an older version of the job: {retried}", style="yellow")
        if hint := find_hint(kind):
            yield Text(f"  → {hint}", style="cyan")
        shown = groups.kept.get((job, kind), [])
        for failure in shown:
            uri = text.escape(failure.uri)
            yield Text(f"  {uri}")
            message = text.escape(failure.error.message).removeprefix(f"{uri}: ")
            yield Text(f"    {message}", style="dim")
        if files > len(shown):
            yield Text(f"  … and {files - len(shown):,} more", style="dim")
        yield Text()
    total = groups.counts.total()
    if total:
        yield Text(f"{text.format_count(total, 'failure')}. To retry them: segue retry")
    else:
        yield Text("There are no failures.", style="green")
