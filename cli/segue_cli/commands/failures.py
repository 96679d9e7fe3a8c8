"""``segue failures``: what failed, by job and kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segue.model.location import prefix_uri
from segue.reports.failures import FailedJob
from segue.reports.failures import failures as failed_jobs
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.hints import remedy
from segue_cli.parameters import Jobs, Kinds, Prefix, known_jobs, known_kinds
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
        help=f"At most N files of each job and kind.  [default: {EXAMPLES}; with --json: all]",
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
    """Show what failed, by job and kind, with examples and what to do about it.

    What is only blocked by a failure above it is not listed; 'segue status' counts it.
    """
    chosen = known_jobs(context.graph, jobs)
    with context.open() as stack:
        found = failed_jobs(
            stack.ledger,
            stack.graph,
            jobs=chosen,
            kinds=known_kinds(kinds),
            prefix=prefix_uri(prefix) if prefix else "",
        )
        groups = Groups(limit if limit is not None or context.output.as_json else EXAMPLES)
        if context.output.as_json:
            items = (_item(f) for f in groups.sift(found))
            context.output.json_stream("failures", items, groups.document)
            return
        for failure in groups.sift(found):
            groups.keep(failure)
    context.output.print(*_drawn(groups))


class Groups:
    """Counts failures by job and kind, and passes the first few of each on."""

    def __init__(self, limit: int | None) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.stale: Counter[tuple[str, str]] = Counter()
        self.kept: dict[tuple[str, str], list[FailedJob]] = {}
        self._limit = limit

    def sift(self, found: Iterable[FailedJob]) -> Iterator[FailedJob]:
        """Count all, and yield those that are to be shown."""
        for failure in found:
            key = (failure.job, failure.error.kind)
            self.counts[key] += 1
            self.stale[key] += failure.stale
            if self._limit is None or self.counts[key] <= self._limit:
                yield failure

    def keep(self, failure: FailedJob) -> None:
        """Hold one to be shown in its group."""
        self.kept.setdefault((failure.job, failure.error.kind), []).append(failure)

    def document(self) -> dict[str, Any]:
        """The counts, for programs."""
        return {
            "groups": [
                {"job": job, "kind": kind, "files": n, "stale": self.stale[job, kind]}
                for (job, kind), n in self.counts.most_common()
            ],
            "total": self.counts.total(),
        }


def _item(failure: FailedJob) -> dict[str, Any]:
    entry = failure.entry
    return {
        "uri": failure.uri,
        "generation": failure.generation,
        "job": failure.job,
        "kind": failure.error.kind,
        "type": failure.error.type,
        "message": failure.error.message,
        "remedy": remedy(failure.error.kind) or None,
        "attempts": entry.attempts,
        "fingerprint": entry.fingerprint,
        "stale": failure.stale,
        "started_at": entry.started_at.isoformat() if entry.started_at else None,
        "seconds": entry.seconds,
    }


def _drawn(groups: Groups) -> Iterator[Text]:
    from rich.text import Text

    for (job, kind), files in groups.counts.most_common():
        yield Text.assemble(
            (job, "bold"), "  ", (kind, "bold red"), "  ", text.count(files, "file")
        )
        if stale := groups.stale[job, kind]:
            again = "the next backfill tries the present one"
            yield Text(f"  {stale:,} by an older version of the job: {again}", style="yellow")
        if advice := remedy(kind):
            yield Text(f"  → {advice}", style="cyan")
        shown = groups.kept.get((job, kind), [])
        for failure in shown:
            uri = text.printable(failure.uri)
            yield Text(f"  {uri}")
            message = text.printable(failure.error.message).removeprefix(f"{uri}: ")
            yield Text(f"    {message}", style="dim")
        if files > len(shown):
            yield Text(f"  … and {files - len(shown):,} more", style="dim")
        yield Text()
    total = groups.counts.total()
    if total:
        yield Text(f"{text.count(total, 'failure')}. 'segue retry' lets them be tried again.")
    else:
        yield Text("Nothing has failed.", style="green")
