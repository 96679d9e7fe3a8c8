"""``segue explain``: show everything about one file, and what would be computed next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from segue.model.graph import Graph
from segue.model.planner import Verdict
from segue.model.record import Record
from segue.printable import escape
from segue.reports import explanation as reports
from segue.reports.explanation import ArtifactStat, Explanation, JobExplanation, format_holder
from segue_cli.command import Context, command
from segue_cli.commands.failures import HINTS
from segue_cli.parameters import file_argument, job_option
from segue_cli.views import text

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

STYLES = {
    "done": "green",
    "stale": "yellow",
    "failed": "red",
    "blocked": "magenta",
    "running": "cyan",
    "queued": "cyan",
    "missing": "dim",
}
SKIPPED = {
    Verdict.HELD: "held by other workers",
    Verdict.WAITING: "waiting for a job held by other workers",
    Verdict.FAILED: "failed before (run 'segue retry' to retry)",
    Verdict.BLOCKED: "blocked by a failed job",
    Verdict.IDLE: "not needed for the named jobs",
}


@command(
    settings=("graph", "catalogue", "ledger"),
    examples=(
        "segue explain music/song.flac",
        "segue explain gs://acme-audio/masters/song.flac --job energy --json",
    ),
)
@file_argument
@job_option
def explain(context: Context, file: str, jobs: tuple[str, ...]) -> None:
    """Show everything about one file, and what would be computed next.

    For each job: its state, why its result is not current, where the artifact is and whether it
    still exists, how long it took, what failed and what to do about it. Then the lineage of the
    artifacts, and what a backfill of the named jobs (default: all) would compute.
    """
    targets = context.graph.select(jobs)
    with context.open() as stack:
        found = reports.explain(stack, file, targets)
    if context.output.as_json:
        context.output.write_json(_to_json(context.graph, found))
    else:
        context.output.print(*_render(found))


def _to_json(graph: Graph, explanation: Explanation) -> dict[str, Any]:
    record = explanation.record
    return {
        "uri": explanation.uri,
        "in_ledger": record is not None,
        "exists": None if explanation.media_stat.unknown else not explanation.media_stat.gone,
        "generation": explanation.media_stat.media.generation
        if explanation.media_stat.media
        else None,
        "record": msgspec.to_builtins(record) if record is not None else None,
        "jobs": [_job_to_json(graph, explanation, account) for account in explanation.jobs],
        "artifacts": {
            uri: {"exists": found.exists, "lineage": msgspec.to_builtins(found.lineage)}
            for uri, found in explanation.artifacts.items()
        },
        "backfill": {"targets": explanation.targets, "run": explanation.run},
    }


def _job_to_json(graph: Graph, explanation: Explanation, account: JobExplanation) -> dict[str, Any]:
    entry = account.entry
    artifact = entry.artifact if entry is not None else None
    return {
        "job": account.job,
        "state": account.state,
        "current": account.current,
        "reason": account.reason or None,
        "next": account.verdict,
        "fingerprint": graph.fingerprints[account.job],
        "entry": msgspec.to_builtins(entry),
        "artifact_exists": explanation.artifacts[artifact].exists if artifact else None,
        "holder": format_holder(entry.lease) if entry is not None and entry.lease else None,
        "remedy": HINTS.get(entry.error.kind) if entry is not None and entry.error else None,
    }


def _render(explanation: Explanation) -> Iterator[RenderableType]:
    """Render the file, its jobs, the lineage of its artifacts, and what would be computed next."""
    from rich.text import Text

    yield Text(escape(explanation.uri), style="bold")
    yield from _describe_file(explanation)
    if explanation.jobs:
        yield Text()
        yield _render_jobs(explanation)
    if explanation.artifacts:
        yield Text("\nLineage", style="bold")
        yield from _render_lineage(explanation)
    yield Text()
    yield from _describe_next(explanation)


def _describe_file(explanation: Explanation) -> Iterator[str]:
    record, media = explanation.record, explanation.media_stat.media
    shown = media if media is not None else record.media if record is not None else None
    if shown is not None:
        kind = f" · {shown.content_type}" if shown.content_type else ""
        yield f"generation {shown.generation} · {text.format_size(shown.size_bytes)}{kind}"
    yield _describe_arrival(record)
    if explanation.media_stat.unknown:
        yield f"the file cannot be read: {explanation.media_stat.unknown}"
    elif explanation.media_stat.other:
        yield f"left out: {explanation.media_stat.other}"
    elif explanation.media_stat.gone:
        yield "the file is gone"
    elif record is not None and media is not None and record.generation != media.generation:
        yield f"the ledger has generation {record.generation}; the file was overwritten since then"


def _describe_arrival(record: Record | None) -> str:
    if record is None:
        return "not in the ledger yet"
    if record.deleted_at is not None:
        return f"deleted {text.format_time(record.deleted_at)}; the ledger keeps a tombstone"
    return f"arrived {text.format_time(record.arrived_at)}"


def _render_jobs(explanation: Explanation) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2, 0, 0))
    rows.add_column(no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    for account in explanation.jobs:
        first, *more = _describe_job(explanation, account) or [""]
        state = Text(account.state, style=STYLES.get(account.state, ""))
        rows.add_row(Text(account.job, style="bold"), state, first)
        for line in more:
            rows.add_row("", "", Text(line, style="dim"))
    return rows


def _describe_job(explanation: Explanation, account: JobExplanation) -> list[str]:
    entry = account.entry
    lines = [account.reason] if account.reason else []
    if entry is None:
        return lines
    if entry.seconds:
        cpu = f", {text.format_duration(entry.cpu_seconds)} of CPU" if entry.cpu_seconds else ""
        attempt = f", attempt {entry.attempts}" if entry.attempts > 1 else ""
        lines.append(f"took {text.format_duration(entry.seconds)}{cpu}{attempt}")
    if entry.error is not None and entry.error.kind != "blocked":
        lines.append(f"{entry.error.kind}: {entry.error.message}")
        if hint := HINTS.get(entry.error.kind):
            lines.append(f"→ {hint}")
    if entry.artifact is not None:
        found = explanation.artifacts[entry.artifact]
        note = "" if found.exists else "  (this object is gone; recompute it with --force)"
        lines.append(f"{entry.artifact}{note}")
    return lines


def _render_lineage(explanation: Explanation) -> Iterator[Text]:
    """Render trees from the final artifacts up to the source; show each artifact once."""
    assert explanation.record is not None
    parents = {
        uri
        for found in explanation.artifacts.values()
        if found.lineage is not None
        for uri in found.lineage.parents.values()
    }
    current = {
        job: e.artifact for job, e in explanation.record.jobs.items() if e.artifact is not None
    }
    shown: set[str] = set()
    for job, uri in current.items():
        if uri not in parents:
            yield from _render_branch(job, uri, explanation.artifacts, current, shown, "  ", "  ")


def _render_branch(
    job: str,
    uri: str,
    artifacts: Mapping[str, ArtifactStat],
    current: Mapping[str, str],
    shown: set[str],
    guide: str,
    below: str,
) -> Iterator[Text]:
    from rich.text import Text

    found = artifacts[uri]
    line = Text.assemble((guide, "dim"), (job, "bold"))
    if uri in shown:
        yield line.append("  ↑ above", style="dim")
        return
    shown.add(uri)
    if found.lineage is not None:
        line.append(f"  {found.lineage.fingerprint}", style="cyan")
    for note, holds in (
        ("gone", not found.exists),
        ("no lineage recorded", found.exists and found.lineage is None),
        ("not the current one", current.get(job) not in (uri, None)),
    ):
        if holds:
            line.append(f"  {note}", style="yellow")
    yield line
    if found.lineage is None:
        return
    for parent, above in found.lineage.parents.items():
        last = parent == list(found.lineage.parents)[-1]
        tip, rest = ("└─ ", "   ") if last else ("├─ ", "│  ")
        yield from _render_branch(
            parent, above, artifacts, current, shown, below + tip, below + rest
        )
    if not found.lineage.parents:
        source = f"source, generation {found.lineage.generation}"
        yield Text.assemble((below + "└─ ", "dim"), source)


def _describe_next(explanation: Explanation) -> Iterator[Text]:
    from rich.text import Text

    if explanation.gone:
        yield Text("A backfill would do nothing: the file is gone.")
        return
    if explanation.run:
        yield Text.assemble("A backfill would compute ", (", ".join(explanation.run), "bold"), ".")
    elif all(a.current for a in explanation.jobs if a.job in explanation.targets):
        yield Text("A backfill would do nothing: everything is current.", style="green")
    else:
        yield Text("A backfill would compute nothing.")
    for verdict, reason in SKIPPED.items():
        jobs = [a.job for a in explanation.jobs if a.verdict is verdict and not a.current]
        if jobs:
            yield Text(f"It would skip {', '.join(jobs)}: {reason}.")
