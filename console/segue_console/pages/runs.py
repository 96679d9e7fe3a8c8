"""Runs: what was started, by whom, how far it is, and how it ended."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from segue.adapters.dataflow_jobs import cancel_job
from segue.clock import utc_now
from segue.errors import ConfigurationError
from segue.model.controls import cancel_run
from segue.model.criteria import Criteria
from segue.model.ledger import Query
from segue.model.media_file import parse_prefix
from segue.model.run import RunKind, RunRecord, RunSelection, RunState, find_user
from segue.reports.request_progress import RequestProgress, RequestWatcher
from segue.reports.run_history import (
    describe_state,
    find_run,
    list_runs,
    measure_duration_s,
    shorten_id,
    sum_vcpu_hours,
)
from segue.stack import Stack
from segue_console.lookup import find_namespace
from segue_console.namespace import Namespace
from segue_console.security import read_form
from segue_console.templates import render

LISTED, MAX_LISTED = 50, 1000
MAX_FOLLOWED = 2_000  # files of a request, each of which is read for each look


def show_runs(request: Request) -> Response:
    """Show the newest runs."""
    namespace = find_namespace(request)
    limit = _parse_limit(request.query_params.get("limit", ""))
    history = list_runs(namespace.stack.artifacts, limit)
    return render(
        request,
        "runs.html",
        {
            "namespace": namespace,
            "page": "runs",
            "runs": [_describe(namespace, run) for run in history.runs],
            "total": history.total,
            "problems": history.unreadable,
            "limit": limit,
        },
    )


def show_run(request: Request) -> Response:
    """Show one run, or the part of its page that changes while it runs."""
    namespace = find_namespace(request)
    run = find_run(namespace.stack.artifacts, request.path_params["run"])
    progress = _read_progress(namespace.stack, run) if run.kind is RunKind.REQUEST else None
    return render(
        request,
        "run_progress.html" if request.headers.get("hx-request") else "run.html",
        {
            "namespace": namespace,
            "page": "runs",
            "run": _describe(namespace, run),
            "record": run,
            "selection": msgspec.to_builtins(run.selection),
            "statuses": list(dict.fromkeys(s for n in run.counts.jobs.values() for s in n)),
            "progress": progress,
            "eta_s": _estimate_rest_s(namespace, run, progress),
            "is_going_on": run.state is RunState.RUNNING
            or (progress is not None and not progress.is_over),
            "now": utc_now(),
        },
    )


async def cancel(request: Request) -> Response:
    """Have a run stop."""
    await read_form(request)
    namespace = find_namespace(request)
    run = find_run(namespace.stack.artifacts, request.path_params["run"])
    if run.kind is not RunKind.BACKFILL or run.state is not RunState.RUNNING:
        raise ConfigurationError("Only a backfill that is running can be cancelled.")
    if run.runner_job is not None:
        cancel_job(run.runner_job)
    else:
        namespace.stack.ledger.change_controls(
            lambda controls: cancel_run(controls, run.id, by=find_user(), now=utc_now())
        )
    return RedirectResponse(f"/{namespace.name}/runs/{run.id}", status_code=303)


def _parse_limit(text: str) -> int:
    """Return how many runs are to be shown, for a number in an address that anybody may write."""
    is_number = text.isascii() and text.isdecimal() and len(text) < 10
    return min(max(int(text), 1), MAX_LISTED) if is_number else LISTED


def _describe(namespace: Namespace, run: RunRecord) -> dict[str, Any]:
    now = utc_now()
    duration_s = measure_duration_s(run, now)
    hours = sum_vcpu_hours(run)
    files = run.counts.files
    return {
        "id": run.id,
        "short": shorten_id(run.id),
        "kind": str(run.kind),
        "state": describe_state(run, now),
        "who": run.who,
        "jobs": run.jobs,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "duration_s": duration_s,
        "files": files,
        "failed_files": run.counts.failed_files,
        "rate": files / duration_s if duration_s and files else None,
        "cpu_s": hours * 3600,
        "cost": hours * namespace.settings.price,
        "where": run.selection.prefix or run.selection.uris or ", ".join(run.selection.files[:3]),
        "can_cancel": run.kind is RunKind.BACKFILL
        and run.state is RunState.RUNNING
        and not run.is_lost(now),
    }


def _estimate_rest_s(
    namespace: Namespace, run: RunRecord, progress: RequestProgress | None
) -> float | None:
    """Return how long a run goes on, if its files take as long as those before; None: unknown."""
    so_far_s = (utc_now() - run.started_at).total_seconds()
    if progress is not None:
        done, total = progress.finished, progress.files
    elif run.state is RunState.RUNNING:
        done, total = run.counts.files, _count_selected(namespace, run.selection)
    else:
        return None
    return so_far_s / done * (total - done) if 0 < done < total else None


def _count_selected(namespace: Namespace, selection: RunSelection) -> int:
    """Return how many files a backfill is for, as far as the ledger knows; 0: unknown."""
    counted = namespace.live.watch()
    catalogue = namespace.graph.catalogue
    is_part = selection.files or selection.uris or selection.limit or selection.sample
    if counted is None or is_part or selection.criteria != Criteria():
        return 0
    is_whole = selection.prefix is None or (
        catalogue is not None
        and selection.prefix.rstrip("/") == parse_prefix(catalogue).rstrip("/")
    )
    return counted.counts.files if is_whole else 0


def _read_progress(stack: Stack, run: RunRecord) -> RequestProgress | None:
    """Read how far a request is; None if it is for so many files that this would take long."""
    prefix = run.selection.prefix
    if prefix is not None:
        found = stack.ledger.find(Query(prefix=prefix), limit=MAX_FOLLOWED + 1)
        if len(found) > MAX_FOLLOWED:
            return None
    elif len(run.selection.files) > MAX_FOLLOWED:
        return None
    return RequestWatcher(graph=stack.graph, ledger=stack.ledger, request=run).read_progress()


ROUTES = [
    Route("/runs", show_runs, name="runs"),
    Route("/runs/{run}", show_run, name="run"),
    Route("/runs/{run}/cancel", cancel, methods=["POST"], name="cancel"),
]
