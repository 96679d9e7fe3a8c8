"""``segue runs``: list what was started, by whom, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from segue import text
from segue.adapters.connect import connect_store
from segue.clock import utc_now
from segue.model.outcome import Status
from segue.model.run import RunRecord, RunState
from segue.printable import escape
from segue.reports.run_history import (
    LOST_STATE,
    RunHistory,
    describe_state,
    find_run,
    list_runs,
    measure_duration_s,
    shorten_id,
    sum_vcpu_hours,
)
from segue_cli.command import Context, command
from segue_cli.exit_code import ExitCode
from segue_cli.run_names import complete_run
from segue_cli.views.output import build_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

STYLES = {
    RunState.DONE: "green",
    RunState.RUNNING: "cyan",
    RunState.FAILED: "red",
    RunState.INTERRUPTED: "yellow",
    RunState.CANCELLED: "yellow",
    LOST_STATE: "red",
}
ORDER = {str(status): n for n, status in enumerate(Status)}
LIMIT = 20
MANY = 3  # files or jobs that are named


@command(
    settings=("graph", "artifacts", "price"),
    examples=("segue runs", "segue runs --limit 100 --json", "segue runs 0a1b2c3d"),
)
@click.argument(
    "run",
    required=False,
    metavar="[RUN]",
    help="Show one run: its id, or the last 8 characters of it.",
    shell_complete=complete_run,
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=LIMIT,
    metavar="N",
    help="List the newest N runs.",
)
def runs(context: Context, run: str | None, limit: int) -> ExitCode | None:
    """List what was started, by whom, and how it ended; the newest runs first.

    A run is a backfill, a request, or a command that changes what is there: retry, reconcile
    --apply, gc --delete, erase. Their records are beside the artifacts. A run is lost if its
    process was killed. What has become of a request, 'segue watch' tells. The cost is that of the
    processors, at the price of --price.
    """
    with closing(connect_store(context.graph.artifacts)) as artifacts:
        if run is not None:
            found = RunHistory(runs=(find_run(artifacts, run),), total=1)
        else:
            found = list_runs(artifacts, limit)
    now, price = utc_now(), context.settings.price
    for problem in found.unreadable:
        context.output.note(problem)
    if context.output.as_json:
        listed = [_to_json(one, now, price) for one in found.runs]
        context.output.write_json(
            listed[0] if run is not None else {"runs": listed, "total": found.total}
        )
    elif run is not None:
        context.output.print(_render_one(found.runs[0], now, price))
    else:
        context.output.print(*_render_list(found, now, price))
    return ExitCode.FAILURES if found.unreadable else None


def _to_json(run: RunRecord, now: datetime, price: float) -> dict[str, Any]:
    hours = sum_vcpu_hours(run)
    return {
        **msgspec.to_builtins(run),
        "state": describe_state(run, now),
        "counts": msgspec.to_builtins(run.counts),
        "duration_s": measure_duration_s(run, now),
        "vcpu_hours": round(hours, 6),
        "cost": round(hours * price, 4),
    }


def _render_list(found: RunHistory, now: datetime, price: float) -> Iterator[RenderableType]:
    """Render lines for each run: how far it is, what it has done, and who started it for what."""
    from rich.text import Text

    if not found.runs:
        yield Text("No runs are recorded here.")
        return
    for run in found.runs:
        state, duration_s = describe_state(run, now), measure_duration_s(run, now)
        took = text.format_duration(duration_s) if duration_s is not None else ""
        yield Text.assemble(
            (shorten_id(run.id), "bold"),
            f"  {text.format_time(run.started_at)[:16]}  {run.kind:<9}  ",
            (f"{state:<11}", STYLES.get(state, "")),
            f"  {took}",
        )
        if done := ", ".join([*_list_counts(run), *_list_cost(run, price)]):
            yield Text(f"{' ' * 10}{done}")
        yield Text(f"{' ' * 10}{escape(_describe_origin(run))}", style="dim")
    if found.total > len(found.runs):
        yield Text(f"\nThese are the newest of {found.total:,}; to see more: --limit")


def _describe_origin(run: RunRecord) -> str:
    parts = [run.who or "", f": {_list_some(run.jobs)}" if run.jobs else "", _describe_files(run)]
    return "".join(parts).removeprefix(": ") or "nobody is recorded"


def _describe_files(run: RunRecord) -> str:
    selection = run.selection
    where = selection.prefix or selection.uris or _list_some(selection.files)
    return f" of {where}" if where else ""


def _list_some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MANY:,} more" if len(names) > MANY else ""
    return f"{', '.join(names[:MANY])}{more}"


def _list_counts(run: RunRecord) -> Iterator[str]:
    counts = run.counts
    if counts.files:
        yield text.format_count(counts.files, "file")
    if counts.failed_files:
        yield f"{counts.failed_files:,} failed"
    if counts.not_started:
        yield f"{counts.not_started:,} not started"
    for action, n in counts.actions.items():
        yield f"{n:,} {action.replace('_', ' ')}"


def _list_cost(run: RunRecord, price: float) -> Iterator[str]:
    if hours := sum_vcpu_hours(run):
        yield f"{text.format_duration(3600 * hours)} of CPU"
        yield f"cost {text.format_cost(hours * price)}"


def _render_one(run: RunRecord, now: datetime, price: float) -> RenderableType:
    """Render all that is recorded of a run, but for what has its default."""
    from rich.console import Group

    rows = build_table("", "")
    rows.show_header = False
    for name, value in _list_fields(run, now, price):
        rows.add_row(name, value)
    if not run.counts.jobs:
        return Group(rows)
    recorded = dict.fromkeys(s for found in run.counts.jobs.values() for s in found)
    statuses = sorted(recorded, key=lambda s: ORDER.get(s, len(ORDER)))  # and later versions' last
    table = build_table("job", *(f">{s.replace('_', ' ')}" for s in statuses))
    for job, found in run.counts.jobs.items():
        table.add_row(job, *(f"{found[s]:,}" if found.get(s) else "·" for s in statuses))
    return Group(rows, "", table)


def _list_fields(run: RunRecord, now: datetime, price: float) -> Iterator[tuple[str, Text | str]]:
    from rich.text import Text

    state, duration_s = describe_state(run, now), measure_duration_s(run, now)
    yield "run", Text(run.id, style="bold")
    yield "command", str(run.kind)
    yield "state", Text(state, style=STYLES.get(state, ""))
    if run.error is not None:
        yield "error", escape(run.error)
    if run.cancelled_by is not None:
        yield "cancelled by", escape(run.cancelled_by)
    yield "started by", escape(run.who or "nobody is recorded")
    yield "started", text.format_time(run.started_at)
    if run.ended_at is not None:
        yield "ended", text.format_time(run.ended_at)
    elif state == LOST_STATE and run.updated_at is not None:
        yield "last heard of", text.format_time(run.updated_at)
    if duration_s is not None:
        yield "took", text.format_duration(duration_s)
    for name, value in (("runner", run.runner), ("its job", run.runner_job)):
        if value is not None:
            yield name, value
    yield "jobs", ", ".join(run.jobs) or "·"
    for name, value in msgspec.to_builtins(run.selection).items():
        yield name.replace("_", " "), escape(_format_value(value))
    if options := [o for o in ("force", "retry", "ping") if getattr(run, o)]:
        yield "options", ", ".join(options)
    yield from _list_totals(run, price)


def _list_totals(run: RunRecord, price: float) -> Iterator[tuple[str, str]]:
    if counts := ", ".join(_list_counts(run)):
        yield "counts", counts
    left_out = ", ".join(f"{n:,} {reason}" for reason, n in run.counts.left_out.items())
    failures = ", ".join(
        f"{job} {kind} {n:,}" for job, of in run.counts.failures.items() for kind, n in of.items()
    )
    for name, value in (("left out", left_out), ("failures", failures)):
        if value:
            yield name, value
    if cost := ", ".join(_list_cost(run, price)):
        yield "cost", cost


def _format_value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
