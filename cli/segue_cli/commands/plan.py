"""``segue plan``: show what a backfill would compute, and estimate its cost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from segue.model.media_file import parse_prefix
from segue.text import format_cost, format_duration, format_number
from segue_cli.command import Context, command
from segue_cli.commands.backfill import (
    build_backfill,
    execute_backfill,
    print_summary,
    to_json,
)
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import add_selection_options, parse_beam_options
from segue_cli.views.output import build_table

if TYPE_CHECKING:
    from segue.reports.estimate import Estimate


@command(
    requires=("pipelines",),
    settings=("graph", "catalogue", "artifacts", "ledger", "price", "vcpus"),
    examples=(
        "segue plan --prefix ~/Music --job energy",
        "segue plan --prefix gs://acme/masters/ --all --sample 1% --vcpus 400 --json",
    ),
    extra_options=True,
)
@add_selection_options
def plan(context: Context, **selected: Any) -> ExitCode:
    """Show what a backfill would compute, and estimate its cost.

    The results are counted by job and state, without computing or writing anything. The estimate of
    vCPU-hours, cost and time is based on the CPU time of the results in the ledger, and on the
    sizes of their files and of those that are left. It is best if the ledger has some of both short
    and long files. For a job that has never run, run the backfill with --limit 20 first.
    """
    from segue.reports.estimate import estimate

    options = parse_beam_options()
    run = build_backfill(context, dry_run=True, **selected)
    totals, _ = execute_backfill(context, run, options)
    with context.open() as stack:
        found = estimate(
            context.graph,
            stack.ledger,
            totals,
            vcpus=context.settings.vcpus or os.cpu_count() or 1,
            price=context.settings.price,
            prefix=parse_prefix(selected["prefix"]) if selected["prefix"] else "",
        )
    if context.output.as_json:
        context.output.write_json(
            {**to_json(totals, dry_run=True), "estimate": _estimate_json(found)}
        )
    else:
        print_summary(context, totals)
        _show_estimate(context, found)
    is_incomplete = totals.left_out or totals.passed_over.without_probe
    return ExitCode.FAILURES if is_incomplete or totals.is_nothing_included else ExitCode.OK


def _estimate_json(found: Estimate) -> dict[str, object]:
    return {
        "complete": found.complete,
        "vcpu_hours": round(found.vcpu_hours, 6),
        "cost": round(found.cost, 4),
        "eta_s": round(found.eta_s, 3),
        "vcpus": found.vcpus,
        "price_per_vcpu_hour": found.price,
        "jobs": {
            j.job: {
                "todo": j.todo,
                "measured_on": j.measured_on,
                "cpu_seconds": j.cpu_seconds,
                "vcpu_hours": j.vcpu_hours,
            }
            for j in found.jobs
        },
    }


def _show_estimate(context: Context, found: Estimate) -> None:
    busy = [j for j in found.jobs if j.todo]
    if not busy:
        context.output.print("Nothing to do.")
        return
    rows = build_table("job", ">to do", ">CPU per file", ">measured files", ">vCPU-hours")
    for job in busy:
        is_measured = job.cpu_seconds is not None
        rows.add_row(
            job.job,
            f"{job.todo:,}",
            format_duration(job.cpu_seconds) if job.cpu_seconds is not None else "unknown",
            f"{job.measured_on:,}" if is_measured else "·",
            format_number(job.vcpu_hours) if job.vcpu_hours is not None else "unknown",
        )
    context.output.print("")
    context.output.print(rows)
    context.output.print("")
    least = "" if found.complete else "at least "
    if any(job.vcpu_hours is not None for job in busy):
        context.output.print(
            f"Estimate: {least}{found.vcpu_hours:,.3f} vCPU-hours, "
            f"cost {format_cost(found.cost)} at {found.price:g} per vCPU-hour, "
            f"{format_duration(found.eta_s)} on {found.vcpus} vCPUs"
        )
    if not found.complete:
        context.output.print(
            "Some jobs have not been measured; to measure them, run the backfill with --limit 20."
        )
