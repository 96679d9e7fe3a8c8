"""``segue gc``: remove artifacts that nothing refers to any more."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from segue.adapters.empty_ledger import ledger_exists
from segue.errors import ConfigurationError
from segue.maintenance.garbage import Collector, Garbage, Reason
from segue.model.lease_owner import is_lost
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.parameters import seconds_of
from segue_cli.views import text
from segue_cli.views.table import table

if TYPE_CHECKING:
    from rich.console import RenderableType

MEANINGS = {
    Reason.OLD_FINGERPRINT: "of an older version of the job",
    Reason.OLD_GENERATION: "of a file that was overwritten",
    Reason.DELETED_FILE: "of a file that was deleted",
    Reason.LEFTOVER: "of a run that was killed",
    Reason.UNKNOWN_FILE: "of a file not in this ledger",
}

OlderThan = Annotated[
    str,
    typer.Option(
        "--older-than",
        metavar="SPAN",
        help="Leave alone what is younger, such as 90m, 12h, 1d or 2w.",
        show_default=True,
    ),
]
Delete = Annotated[
    bool, typer.Option("--delete", help="Remove them; without, they are only counted.")
]
Names = Annotated[bool, typer.Option("--names", help="Tell each one's name, too.")]
UnknownFiles = Annotated[
    bool,
    typer.Option(
        "--unknown-files",
        help="Take those of files that this ledger has never heard of, too: right only if no other "
        "ledger shares the artifacts.",
    ),
]


@command(
    settings=("graph", "catalogue", "artifacts", "ledger"),
    examples=(
        "segue gc",
        "segue gc --older-than 2w --names",
        "segue gc --delete",
    ),
)
def gc(
    context: Context,
    older_than: OlderThan = "1d",
    delete: Delete = False,
    names: Names = False,
    unknown_files: UnknownFiles = False,
) -> None:
    """Remove artifacts that nothing refers to any more.

    These are results of older versions of a job, of files that were overwritten or deleted, and
    what killed runs left behind. They are only counted, unless --delete is given. What the ledger
    names is kept, whatever made it; objects that are no artifacts are never touched. It may run
    beside a backfill.
    """
    if not ledger_exists(context.settings.ledger):
        raise ConfigurationError(
            f"there is no ledger {context.settings.ledger}, so that nothing says which artifacts "
            "are needed; name the right one with --ledger or SEGUE_LEDGER"
        )
    now = datetime.now(UTC)
    with context.open() as stack:
        collector = Collector(
            graph=stack.graph,
            ledger=stack.ledger,
            artifacts=stack.artifacts,
            before=now - timedelta(seconds=seconds_of(older_than, "--older-than")),
            clock=lambda: datetime.now(UTC),
            lost=is_lost,
        )
        counts = Counts(take_unknown=unknown_files)
        with _progress(context, counts):
            found = counts.sift(collector.find(counts.look))
            removed = counts.count(collector.collect(found) if delete else found)
            if context.output.as_json:
                context.output.json_stream(
                    "artifacts", map(_item, removed), lambda: counts.document(deleted=delete)
                )
                return
            for one in removed:
                if names:
                    context.output.print(text.printable(one.artifact.name))
    context.output.print(*_drawn(counts, deleted=delete))


class Counts:
    """What was looked at, what is garbage, and what of it is kept for want of certainty."""

    def __init__(self, *, take_unknown: bool) -> None:
        self.looked_at = 0
        self.kept_unknown = 0
        self.artifacts: Counter[tuple[str, Reason]] = Counter()
        self.size_bytes: Counter[tuple[str, Reason]] = Counter()
        self._take_unknown = take_unknown

    def look(self, artifacts: int) -> None:
        """Count what is looked at."""
        self.looked_at += artifacts

    def sift(self, found: Iterable[Garbage]) -> Iterator[Garbage]:
        """Hold back what may be another ledger's."""
        for one in found:
            if one.reason is Reason.UNKNOWN_FILE and not self._take_unknown:
                self.kept_unknown += 1
            else:
                yield one

    def count(self, found: Iterable[Garbage]) -> Iterator[Garbage]:
        """Count by job and reason."""
        for one in found:
            key = (one.artifact.lineage.job, one.reason)
            self.artifacts[key] += 1
            self.size_bytes[key] += one.artifact.size_bytes
            yield one

    def document(self, *, deleted: bool) -> dict[str, Any]:
        """The counts, for programs."""
        return {
            "deleted": deleted,
            "looked_at": self.looked_at,
            "kept_of_unknown_files": self.kept_unknown,
            "groups": [
                {"job": job, "reason": why, "artifacts": n, "size_bytes": self.size_bytes[job, why]}
                for (job, why), n in sorted(self.artifacts.items())
            ],
            "total": {
                "artifacts": self.artifacts.total(),
                "size_bytes": self.size_bytes.total(),
            },
        }


def _item(garbage: Garbage) -> dict[str, Any]:
    artifact = garbage.artifact
    return {
        "name": artifact.name,
        "job": artifact.lineage.job,
        "uri": artifact.lineage.uri,
        "reason": garbage.reason,
        "size_bytes": artifact.size_bytes,
    }


@contextlib.contextmanager
def _progress(context: Context, counts: Counts) -> Iterator[None]:
    """Say in a terminal how many artifacts have been looked at."""
    if not context.output.talk.is_terminal:
        yield
        return
    with context.output.talk.status("") as status:
        look = counts.look

        def tell(artifacts: int) -> None:
            look(artifacts)
            status.update(f"{text.count(counts.looked_at, 'artifact')} looked at")

        counts.look = tell  # type: ignore[method-assign]
        yield


def _drawn(counts: Counts, *, deleted: bool) -> Iterator[RenderableType]:
    from rich.text import Text

    if counts.artifacts:
        rows = table("job", "why", ">artifacts", ">size")
        for (job, why), n in sorted(counts.artifacts.items()):
            rows.add_row(job, MEANINGS[why], f"{n:,}", text.size(counts.size_bytes[job, why]))
        yield rows
        yield Text()
    if counts.kept_unknown:
        unknown = (
            f"Kept: {text.count(counts.kept_unknown, 'artifact')} of files that are not in this"
        )
        yield Text(f"{unknown} ledger; --unknown-files takes them, too.", style="yellow")
    total = counts.artifacts.total()
    what = f"{text.count(total, 'artifact')} of {counts.looked_at:,}"
    size = text.size(counts.size_bytes.total())
    if not total:
        yield Text(f"Nothing to remove: all is needed, of {counts.looked_at:,} looked at.")
    elif deleted:
        yield Text(f"Removed {what}, {size}.")
    else:
        yield Text(f"{what} could go, {size}. To remove them: segue gc --delete")
