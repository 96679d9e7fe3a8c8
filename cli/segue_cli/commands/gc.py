"""``segue gc``: delete artifacts that are no longer needed."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from segue import text
from segue.adapters.connect import ledger_exists
from segue.clock import utc_now
from segue.errors import ConfigurationError
from segue.execution.recorded_run import record_run
from segue.maintenance.garbage import Garbage, GarbageCollector, GarbageReason
from segue.maintenance.old_runs import find_old_runs, remove_old_runs
from segue.model.media_file import parse_location
from segue.model.run import RunKind
from segue.registry.publication import find_pins
from segue_cli.command import Context, command
from segue_cli.parameters import parse_duration
from segue_cli.views.output import build_table

if TYPE_CHECKING:
    from rich.console import RenderableType

MEANINGS = {
    GarbageReason.OLD_FINGERPRINT: "older version of the job",
    GarbageReason.REMOVED_JOB: "job is not in the graph",
    GarbageReason.OLD_VERSION: "file was overwritten",
    GarbageReason.DELETED_FILE: "file was deleted",
    GarbageReason.LEFTOVER: "leftover of a killed run",
    GarbageReason.UNKNOWN_FILE: "file is not in this ledger",
}


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "registry"),
    examples=(
        "segue gc",
        "segue gc --older-than 2w --names",
        "segue gc --delete",
    ),
)
@click.option(
    "--older-than",
    default="1d",
    metavar="DURATION",
    callback=parse_duration,
    help="Keep artifacts younger than this, such as 90m, 12h, 1d or 2w.",
)
@click.option("--delete", is_flag=True, help="Delete the artifacts instead of only counting them.")
@click.option("--names", is_flag=True, help="Also print the name of each artifact.")
@click.option(
    "--unknown-files",
    is_flag=True,
    help="Include artifacts of files that are not in this ledger. Safe only if no other ledger "
    "shares the artifacts.",
)
def gc(context: Context, older_than: float, delete: bool, names: bool, unknown_files: bool) -> None:
    """Delete artifacts that are no longer needed.

    These are results of older versions of a job and of jobs that were renamed or removed, results
    of files that were overwritten or deleted, and leftovers of killed runs. They are only counted
    unless --delete is given; a rollback to an older version of a job then computes them again.
    Results that the graph accepts are kept, as are those that other namespaces are locked to by the
    registry, and everything of a file that is being processed;
    other objects are never touched, except records of backfills and requests that are older than a
    year. It is safe to run during a backfill. With --delete, the ledger also forgets failures of
    older versions of a job.

    Results of other graphs that share the ledger count as older versions. No other ledger may share
    the artifacts, unless it knows other files: what it refers to would be taken for leftovers.
    """
    if not ledger_exists(context.settings.ledger):
        raise ConfigurationError(
            f"there is no ledger {context.settings.ledger}, so it is unknown which artifacts are "
            "needed; set the right one with --ledger or SEGUE_LEDGER"
        )
    from rich.live import Live
    from rich.spinner import Spinner

    _check_artifacts(parse_location(context.graph.artifacts))
    spinner = Spinner("dots", style="green")
    with (
        context.open() as stack,
        _record(context, delete=delete) as record,
        # Standard output is for the result, even while a terminal shows the progress.
        Live(spinner, console=context.output.stderr, transient=True, redirect_stdout=False),
    ):
        collector = GarbageCollector(
            graph=stack.graph,
            ledger=stack.ledger,
            artifacts=stack.artifacts,
            before=utc_now() - timedelta(seconds=older_than),
            pinned=find_pins(stack.graph.registry, stack.graph.namespace),
        )
        counts = GarbageCounts(include_unknown=unknown_files)

        def report(artifacts: int) -> None:
            counts.examined += artifacts
            spinner.update(text=f"{text.format_count(counts.examined, 'artifact')} examined")

        found = counts.select(collector.find(report, forget=delete))
        removed = counts.count(collector.collect(found) if delete else found)

        def count_all() -> dict[str, Any]:
            if delete:
                counts.old_runs = remove_old_runs(stack.artifacts, utc_now())
                record(
                    {
                        "artifacts_deleted": counts.artifacts.total(),
                        "bytes_deleted": counts.size_bytes.total(),
                    }
                )
            else:
                counts.old_runs = sum(1 for _ in find_old_runs(stack.artifacts, utc_now()))
            return counts.to_json(deleted=delete)

        if context.output.as_json:
            context.output.write_json_stream("artifacts", map(_to_json, removed), count_all)
            return
        for one in removed:
            if names:
                context.output.print(one.artifact.object.name)
        count_all()
    again = None if delete else shlex.join(["segue", "gc", *context.arguments, "--delete"])
    context.output.print(*_render(counts, again))


def _record(
    context: Context, *, delete: bool
) -> AbstractContextManager[Callable[[Mapping[str, int]], None]]:
    """Record the run if it deletes something."""
    if delete:
        return record_run(context.graph, RunKind.GC)
    return contextlib.nullcontext(lambda _actions: None)


def _check_artifacts(location: str) -> None:
    """Raise an error if there is no such folder, which would pass for one without artifacts."""
    if location.startswith("file://") and not os.path.isdir(location.removeprefix("file://")):
        raise ConfigurationError(
            f"there is no folder {location}, so there are no artifacts; set the right one with "
            "--artifacts or SEGUE_ARTIFACTS"
        )


class GarbageCounts:
    """How many artifacts were examined, are garbage, or were kept because they may be needed."""

    def __init__(self, *, include_unknown: bool) -> None:
        self.examined = 0
        self.kept_unknown = 0
        self.old_runs = 0
        self.artifacts: Counter[tuple[str, GarbageReason]] = Counter()
        self.size_bytes: Counter[tuple[str, GarbageReason]] = Counter()
        self._include_unknown = include_unknown

    def select(self, found: Iterable[Garbage]) -> Iterator[Garbage]:
        """Skip the artifacts that may belong to another ledger."""
        for one in found:
            if one.reason is GarbageReason.UNKNOWN_FILE and not self._include_unknown:
                self.kept_unknown += 1
            else:
                yield one

    def count(self, found: Iterable[Garbage]) -> Iterator[Garbage]:
        """Count by job and reason."""
        for one in found:
            key = (one.artifact.name.job, one.reason)
            self.artifacts[key] += 1
            self.size_bytes[key] += one.artifact.object.size_bytes
            yield one

    def to_json(self, *, deleted: bool) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "deleted": deleted,
            "looked_at": self.examined,
            "kept_of_unknown_files": self.kept_unknown,
            "old_runs": self.old_runs,
            "groups": [
                {"job": job, "reason": why, "artifacts": n, "size_bytes": self.size_bytes[job, why]}
                for (job, why), n in sorted(self.artifacts.items())
            ],
            "total": {
                "artifacts": self.artifacts.total(),
                "size_bytes": self.size_bytes.total(),
            },
        }


def _to_json(garbage: Garbage) -> dict[str, Any]:
    return {
        "name": garbage.artifact.object.name,
        "job": garbage.artifact.name.job,
        "uri": garbage.artifact.uri,
        "reason": garbage.reason,
        "size_bytes": garbage.artifact.object.size_bytes,
    }


def _render(counts: GarbageCounts, again: str | None) -> Iterator[RenderableType]:
    """Render the counts; ``again`` is the command that deletes what was only counted."""
    from rich.text import Text

    if counts.artifacts:
        rows = build_table("job", "reason", ">artifacts", ">size")
        for (job, why), n in sorted(counts.artifacts.items()):
            rows.add_row(
                job, MEANINGS[why], f"{n:,}", text.format_size(counts.size_bytes[job, why])
            )
        yield rows
        yield Text()
    if counts.kept_unknown:
        yield Text(
            f"Kept: {text.format_count(counts.kept_unknown, 'artifact')} of files that are not in "
            "this ledger; --unknown-files includes them.",
            style="yellow",
        )
    if counts.old_runs:
        records = text.format_count(counts.old_runs, "record")
        what = "To be deleted" if again else "Deleted"
        yield Text(f"{what}: {records} of runs that are older than a year.")
    total = counts.artifacts.total()
    what = f"{text.format_count(total, 'artifact')} of {counts.examined:,}"
    size = text.format_size(counts.size_bytes.total())
    if not total:
        artifacts = text.format_count(counts.examined, "artifact")
        yield Text(f"Nothing to delete: {artifacts} examined.")
    elif again:
        yield Text(f"{what} can be deleted ({size}). To delete them: {again}")
    else:
        yield Text(f"Deleted {what} ({size}).")
