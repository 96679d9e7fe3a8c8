"""``segue explain``: show everything about one file, and what would be computed next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
import msgspec

from segue import text
from segue.ingest.catalogue import EXCLUDED, NOT_INCLUDED
from segue.ingest.exclusions import OTHER, find_suffix
from segue.model.artifact import build_references
from segue.model.planner import Verdict
from segue.model.record import EVERYONE, NOBODY, UNFINISHED, Entry, Record, State
from segue.printable import escape, escape_lines
from segue.reports import explanation as reports
from segue.reports.explanation import (
    ArtifactStat,
    Explanation,
    JobExplanation,
    JobResult,
    Standing,
    format_holder,
)
from segue.reports.failure_hints import HINTS
from segue_cli.command import Context, command
from segue_cli.parameters import add_job_option, file_argument

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from segue.reports.upstream import Upstream

STYLES = {
    "done": "green",
    "stale": "yellow",
    "failed": "red",
    "blocked": "magenta",
    "running": "cyan",
    "queued": "cyan",
    "not_applicable": "dim",
    "missing": "dim",
    "unknown": "yellow",
}
SKIPPED = {
    Verdict.HELD: "held by other workers",
    Verdict.PAUSED: "paused (run 'segue resume' to go on)",
    Verdict.WAITING: "waiting for a job that is paused, or held by other workers",
    Verdict.FOREIGN: "waiting for a result of another namespace",
    Verdict.FAILED: "failed before (run 'segue retry' to retry)",
    Verdict.BLOCKED: "blocked by a failed job",
    Verdict.NOT_APPLICABLE: "not for this file",
    Verdict.IDLE: "not needed for the named jobs",
}
COUNTS = "✓"
INDENT = 6  # of what is said about a result


@command(
    settings=("graph", "catalogue", "ledger", "registry"),
    examples=(
        "segue explain music/song.flac",
        "segue explain gs://acme-audio/masters/song.flac --job energy --json",
    ),
)
@file_argument
@add_job_option("Say what a backfill of this job would compute. May be repeated.  [default: all]")
@click.option(
    "--verbose",
    "-v",
    is_flag=True,
    help="Also show what each result was triggered by, all URIs, and the tracebacks of earlier "
    "versions of a job.",
)
def explain(context: Context, file: str, jobs: tuple[str, ...], verbose: bool) -> None:
    """Show everything about one file, and what would be computed next.

    For each job: its state, why it is not current, and all its results in the ledger, by
    fingerprint. ✓ marks the one that counts. A result is of the present version of the job, of an
    equivalent one, or of an earlier one, which is kept for a rollback until 'segue gc' removes it;
    or of content that the file no longer has. Then the lineage of the artifacts, and what a
    backfill of the named jobs (default: all) would compute.

    If the graph needs jobs of other namespaces, their states are shown, too, as these namespaces'
    ledgers have them. With a registry, so are those of what these namespaces are locked to in
    turn, up to the first. A ledger that cannot be read is named.
    """
    targets = context.graph.select(jobs)
    with context.open() as stack:
        found = reports.explain(stack, file, targets)
    if context.output.as_json:
        context.output.write_json(_to_json(found))
    else:
        context.output.print(*_render(found, verbose=verbose))


def _to_json(explanation: Explanation) -> dict[str, Any]:
    record, media = explanation.record, explanation.look.media
    return {
        "uri": explanation.uri,
        "in_ledger": record is not None,
        "exists": None if explanation.look.error else not explanation.look.is_gone,
        "version": media.version if media is not None else None,
        "record": _to_builtins(record) if record is not None else None,
        "jobs": [_job_to_json(explanation, job) for job in explanation.jobs],
        "removed_jobs": [_result_to_json(explanation, r) for r in explanation.others],
        "foreign": {
            reference: _to_builtins(result) for reference, result in explanation.foreign.items()
        },
        **_upstream_to_json(explanation.upstream),
        "artifacts": {
            name: {
                "uri": found.uri,
                "exists": None if found.error else found.exists,
                "size_bytes": found.size_bytes,
                "lineage": msgspec.to_builtins(found.lineage),
            }
            for name, found in explanation.artifacts.items()
        },
        "ignored": explanation.ignored,
        "backfill": {"targets": explanation.targets, "run": explanation.run},
    }


def _to_builtins(value: object) -> Any:
    """Return a record, or a part of one, as JSON values.

    An order, which may be a bucket's generation, is a text: readers that know only doubles would
    change a number beyond 2**53.
    """
    return _write_orders(msgspec.to_builtins(value))


def _write_orders(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: str(each) if key == "order" and isinstance(each, int) else _write_orders(each)
            for key, each in value.items()
        }
    return [_write_orders(each) for each in value] if isinstance(value, list) else value


def _upstream_to_json(upstream: Upstream) -> dict[str, Any]:
    return {
        "registry": upstream.registry,
        "registry_problem": upstream.problem or None,
        "namespaces": [
            {
                "namespace": each.namespace,
                "contact": each.contact or None,
                "ledger": each.ledger,
                "source": each.is_source,
                "note": each.note or None,
                "problem": each.problem or None,
                "jobs": [asdict(job) for job in each.jobs],
            }
            for each in upstream.namespaces
        ],
    }


def _job_to_json(explanation: Explanation, job: JobExplanation) -> dict[str, Any]:
    return {
        "job": job.job,
        "state": job.state,
        "current": job.current,
        "reason": job.reason or None,
        "next": job.verdict,
        "running": msgspec.to_builtins(job.running),
        "fingerprint": job.fingerprint,
        "results": [_result_to_json(explanation, result) for result in job.results],
    }


def _result_to_json(explanation: Explanation, result: JobResult) -> dict[str, Any]:
    entry = result.entry
    return {
        "fingerprint": result.fingerprint,
        "standing": result.standing,
        "counts": result.counts,
        **_to_builtins(entry),
        "artifacts": [
            {"name": found.name, "uri": found.uri, "exists": found.exists}
            for found in (explanation.artifacts[name] for name in result.artifacts)
        ],
        "holder": format_holder(entry.lease) if entry.lease is not None else None,
        "remedy": HINTS.get(entry.error.kind) if entry.error is not None else None,
    }


def _render(explanation: Explanation, *, verbose: bool) -> Iterator[RenderableType]:
    """Render the file, its jobs, the lineage of its artifacts, and what would be computed next."""
    from rich.text import Text

    yield Text(escape(explanation.uri), style="bold")
    yield from _describe_file(explanation)
    for job in explanation.jobs:
        yield Text()
        yield Text.assemble(
            (job.job, "bold"), "  ", (job.state, STYLES.get(job.state, "")), "  ", job.reason
        )
        yield from _render_results(explanation, job.results, verbose=verbose)
    if explanation.others:
        yield Text("\nOf jobs that are not in the graph", style="bold")
        yield from _render_results(explanation, explanation.others, verbose=verbose)
    yield from _render_upstream(explanation.upstream)
    if any(result.counts for job in explanation.jobs for result in job.results):
        yield Text("\nLineage", style="bold")
        yield from _render_lineage(explanation)
    yield Text()
    yield from _describe_next(explanation)


def _render_upstream(upstream: Upstream) -> Iterator[Text]:
    """Render a section for each namespace above this one, with the jobs that are needed of it."""
    from rich.text import Text

    jobs = [job for each in upstream.namespaces for job in each.jobs]
    name_width = max((len(job.job) for job in jobs), default=0)
    state_width = max((len(job.state) for job in jobs), default=0)
    for each in upstream.namespaces:
        yield Text.assemble("\n", (f"Of {each.namespace}", "bold"), f"  {escape(each.contact)}")
        if each.is_source:
            yield Text("  files arrive in its catalogue", style="dim")
        for line in filter(None, (each.note, each.problem)):
            yield Text(f"  {escape(line)}", style="yellow")
        for job in each.jobs:
            yield Text.assemble(
                f"  {job.job:<{name_width}}  ",
                (job.fingerprint, "cyan"),
                "  ",
                (f"{job.state:<{state_width}}", STYLES.get(job.state, "")),
                f"  for {', '.join(job.needed_by)}",
            )
    if upstream.problem:
        yield Text(f"\nThe registry cannot be read: {escape(upstream.problem)}", style="yellow")
    elif upstream.namespaces and upstream.registry is None:
        hint = "What they need in turn is in the registry: set SEGUE_REGISTRY or --registry."
        yield Text(f"\n{hint}", style="dim")


def _describe_file(explanation: Explanation) -> Iterator[str]:
    record, media = explanation.record, explanation.look.media
    shown = media if media is not None else record.media if record is not None else None
    if shown is not None:
        kind = f" · {shown.content_type}" if shown.content_type else ""
        yield f"version {shown.version} · {text.format_size(shown.size_bytes)}{kind}"
    yield _describe_arrival(record)
    if explanation.look.error is not None:
        yield f"the file cannot be read: {explanation.look.error}"
    elif explanation.look.other:
        yield f"left out: {explanation.look.other}"
    elif explanation.look.is_gone:
        yield "the file is gone"
    elif record is not None and media is not None and record.version != media.version:
        yield f"the ledger has version {record.version}; the file was overwritten since then"
    for version, results in record.earlier.items() if record is not None else ():
        jobs = dict.fromkeys(entry.job for entry in results.values())
        yield f"earlier content {version}: {', '.join(jobs)}, kept in case it comes back"


def _describe_arrival(record: Record | None) -> str:
    if record is None:
        return "not in the ledger yet"
    if record.erased and record.deleted_at is not None:
        return f"erased {text.format_time(record.deleted_at)}; nothing is computed for it again"
    if record.deleted_at is not None:
        return f"deleted {text.format_time(record.deleted_at)}; the ledger keeps a tombstone"
    return f"arrived {text.format_time(record.arrived_at)}"


def _render_results(
    explanation: Explanation, results: tuple[JobResult, ...], *, verbose: bool
) -> Iterator[RenderableType]:
    """Render a line for each result, with what is to be said about it below."""
    from rich.padding import Padding
    from rich.text import Text

    every = [*(r for job in explanation.jobs for r in job.results), *explanation.others]
    standing_width = max((len(r.standing) for r in every), default=0)
    state_width = max((len(r.entry.state) for r in every), default=0)
    is_known = {job.job for job in explanation.jobs}
    for result in results:
        entry = result.entry
        finished = text.format_time(entry.finished_at) if entry.finished_at else ""
        yield Text.assemble(
            (f"  {COUNTS if result.counts else ' '} ", "green"),
            (result.fingerprint, "cyan"),
            f"  {result.standing:<{standing_width}}  ",
            (f"{entry.state:<{state_width}}", STYLES.get(entry.state, "")),
            f"  {finished:<19}",
            f"  {text.format_duration(entry.seconds)}" if entry.seconds else "",
            "" if entry.job in is_known else f"  {entry.job}",
        )
        for line in _describe_result(explanation, result, verbose=verbose):
            yield Padding(Text(line, style="dim"), (0, 0, 0, INDENT))


def _describe_result(
    explanation: Explanation, result: JobResult, *, verbose: bool
) -> Iterator[str]:
    entry, error = result.entry, result.entry.error
    if details := "; ".join(_list_details(entry, verbose=verbose)):
        yield details
    if error is not None and entry.state is State.FAILED:
        yield f"{error.kind}: {escape_lines(error.message)}"
        if error.traceback is not None and (verbose or result.standing is Standing.PRESENT):
            yield escape_lines(error.traceback.rstrip())
        if result.standing is Standing.PRESENT and (hint := HINTS.get(error.kind)):
            yield f"→ {hint}"
    for name in result.artifacts:
        found = explanation.artifacts[name]
        if found.exists:
            yield found.uri if result.counts or verbose else name
        else:
            remedy = "; recompute it with --force" if result.counts else ""
            yield f"{name}  (this object is gone{remedy})"


def _list_details(entry: Entry, *, verbose: bool) -> Iterator[str]:
    if entry.attempts > 1:
        yield f"attempt {entry.attempts}"
    if entry.seconds and entry.cpu_seconds:
        yield f"{text.format_duration(entry.cpu_seconds)} of CPU"
    if entry.notify:
        since = f" since {text.format_time(entry.notify_at)}" if entry.notify_at else ""
        yield f"wanted{since}{_describe_notify(entry.notify)}"
    if verbose or entry.state in UNFINISHED:
        if entry.triggered_by == EVERYONE:
            yield "for no event; all who depend on it were notified"
        elif entry.triggered_by is not None:
            yield f"for the event of {entry.triggered_by.partition('@')[0]}"
        if entry.requests:
            yield f"requested by {entry.requests[-1]}"


def _describe_notify(notify: tuple[str, ...]) -> str:
    """Tell who is notified once a result is finished."""
    whom = [
        "all who depend on it" if one == EVERYONE else f"namespace {one}"
        for one in notify
        if one != NOBODY
    ]
    return f", then notifies {' and '.join(whom)}" if whom else ""


def _render_lineage(explanation: Explanation) -> Iterator[Text]:
    """Render trees from the final artifacts up to the source; show each artifact once."""
    current = {
        name: reference
        for job in explanation.jobs
        for result in job.results
        if result.counts
        for reference, name, _ in build_references(job.job, dict.fromkeys(result.artifacts, ""))
    }
    artifacts = explanation.artifacts
    above = {
        parent
        for name in current
        if (lineage := artifacts[name].lineage) is not None
        for parent in lineage.parents.values()
    }
    shown: set[str] = set()
    for name, job in current.items():
        if name not in above:
            yield from _render_branch(job, name, artifacts, current, shown, "  ", "  ")


def _render_branch(
    job: str,
    name: str,
    artifacts: Mapping[str, ArtifactStat],
    current: Mapping[str, str],
    shown: set[str],
    guide: str,
    below: str,
) -> Iterator[Text]:
    from rich.text import Text

    found = artifacts[name]
    line = Text.assemble((guide, "dim"), (job, "bold"))
    if name in shown:
        yield line.append("  ↑ above", style="dim")
        return
    shown.add(name)
    if found.lineage is not None:
        line.append(f"  {found.lineage.fingerprint}", style="cyan")
    for note, holds in (
        ("gone", not found.exists and found.error is None),
        (f"cannot be read: {escape(found.error or '')}", found.error is not None),
        ("no lineage recorded", found.exists and found.lineage is None),
        ("not the current one", job in current.values() and name not in current),
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
        source = f"source, version {found.lineage.version}"
        yield Text.assemble((below + "└─ ", "dim"), source)


def _describe_next(explanation: Explanation) -> Iterator[Text]:
    from rich.text import Text

    if explanation.record is not None and explanation.record.erased:
        yield Text("A backfill would do nothing: the file was erased.")
        return
    if explanation.gone:
        yield Text("A backfill would do nothing: the file is gone.")
        return
    if explanation.look.error is not None:
        yield Text("A backfill would leave the file out: it cannot be read.")
        return
    if explanation.ignored is not None:
        yield Text(f"A backfill would pass it over: {_explain_ignored(explanation)}.")
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


def _explain_ignored(explanation: reports.Explanation) -> str:
    """Return why the file is no media of the graph, and what to write for it to be."""
    text = f"it is {explanation.ignored}"
    suffix = find_suffix(explanation.uri)
    if explanation.ignored == NOT_INCLUDED:
        pattern = "a pattern for its name" if suffix == OTHER else f'"*{suffix}"'
        text += f"; to process it, add to 'include' of the graph: {pattern}"
    elif explanation.ignored == EXCLUDED:
        text += "; to process it, change 'exclude' of the graph"
    return text
