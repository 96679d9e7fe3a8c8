"""``segue plan``: what a backfill would do, and what that takes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import typer

from segue_cli import selection as select
from segue_cli.command import command
from segue_cli.commands.backfill import run_with_progress
from segue_cli.context import Context
from segue_cli.views.run_summary import show, to_json
from segue_cli.views.table import table
from segue_cli.views.text import duration, figure

if TYPE_CHECKING:
    from segue.reports.estimate import Estimate


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "price", "vcpus"),
    examples=(
        "segue plan --prefix ~/Music --job energy",
        "segue plan --prefix gs://acme/masters/ --all --sample 1% --vcpus 400 --json",
    ),
    takes_more=True,
)
def plan(
    context: Context,
    ctx: typer.Context,
    prefix: select.Prefix = None,
    uris: select.Uris = None,
    from_ledger: select.FromLedger = None,
    jobs: select.Jobs = None,
    everything: select.All = False,
    force: select.Force = False,
    retry_failed: select.RetryFailed = False,
    limit: select.Limit = None,
    sample: select.Sample = None,
) -> None:
    """Count what a backfill would compute, by job and reason, and estimate vCPU-hours, cost and
    time.

    It is the same pipeline without the work: nothing is written. The estimate is the mean CPU time
    of results in the ledger; for a job that was never run, run a few files first: segue backfill
    --limit 20.
    """
    from segue.reports.estimate import estimate
    from segue_pipelines.options import pipeline_options

    options = pipeline_options(ctx.args, [o for p in ctx.command.params for o in p.opts])
    graph = context.graph
    run = select.run_of(
        context,
        prefix=prefix,
        uris=uris,
        from_ledger=from_ledger,
        jobs=jobs,
        everything=everything,
        force=force,
        retry_failed=retry_failed,
        limit=limit,
        sample=sample,
        dry_run=True,
    )
    tally = run_with_progress(context, run, options)
    with context.open() as stack:
        found = estimate(
            graph,
            stack.ledger,
            tally,
            vcpus=context.settings.vcpus or os.cpu_count() or 1,
            price=context.settings.price,
        )
    if context.output.as_json:
        context.output.json({**to_json(tally, dry_run=True), "estimate": _estimate_json(found)})
        return
    show(context.output, tally)
    _show_estimate(context, found)


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
        context.output.print("Nothing is to do.")
        return
    rows = table("job", ">to do", ">CPU a file", ">measured on", ">vCPU-hours")
    for job in busy:
        known = job.cpu_seconds is not None
        rows.add_row(
            job.job,
            f"{job.todo:,}",
            duration(job.cpu_seconds) if job.cpu_seconds is not None else "unknown",
            f"{job.measured_on:,}" if known else "·",
            figure(job.vcpu_hours) if job.vcpu_hours is not None else "unknown",
        )
    context.output.print("")
    context.output.print(rows)
    context.output.print("")
    least = "" if found.complete else "at least "
    if any(job.vcpu_hours is not None for job in busy):
        context.output.print(
            f"{least}{found.vcpu_hours:,.3f} vCPU-hours, "
            f"{found.cost:,.2f} at {found.price:g} each, "
            f"{duration(found.eta_s)} on {found.vcpus} vCPUs"
        )
    if not found.complete:
        context.output.print(
            "Some jobs were never measured; 'segue backfill' with --limit 20 measures them."
        )
