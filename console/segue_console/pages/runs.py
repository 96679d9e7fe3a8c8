"""Runs: what was started, by whom, how far it is, and how it ended."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from segue.clock import utc_now
from segue.errors import ConfigurationError
from segue.maintenance.cancellation import mark_cancelled, stop_backfill
from segue.model.criteria import Criteria
from segue.model.ledger import Query
from segue.model.media_file import parse_prefix
from segue.model.run import RunKind, RunRecord, RunSelection, RunState, save_run
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
    finished, files = _measure_progress(namespace, run, progress)
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
            "finished": finished,
            "files": files,
            "eta_s": _estimate_rest_s(run, finished, files),
            "is_stopping": run.state is RunState.RUNNING
            and run.id in namespace.stack.ledger.read_controls().cancelled,
            "is_going_on": run.state is RunState.RUNNING
            or (progress is not None and not progress.is_over),
            "now": utc_now(),
        },
    )


async def cancel(request: Request) -> Response:
    """Have a run stop."""
    await read_form(request)
    namespace = find_namespace(request)
    run = await run_in_threadpool(_cancel, namespace.stack, request.path_params["run"])
    return RedirectResponse(f"/{namespace.name}/runs/{run.id}", status_code=303)


def _cancel(stack: Stack, name: str) -> RunRecord:
    run = find_run(stack.artifacts, name)
    if not _can_cancel(run):
        raise ConfigurationError("Only a backfill that is running can be cancelled.")
    stop_backfill(stack, run)
    if run.runner is not None or run.runner_job is not None:
        save_run(stack.artifacts, mark_cancelled(run), replace=True)
    return run


def _can_cancel(run: RunRecord) -> bool:
    is_running = run.state is RunState.RUNNING and not run.is_lost(utc_now())
    return run.kind is RunKind.BACKFILL and is_running


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
        "can_cancel": _can_cancel(run),
    }


def _measure_progress(
    namespace: Namespace, run: RunRecord, progress: RequestProgress | None
) -> tuple[int, int]:
    """Return how many files of a run are finished, and how many there are; 0: unknown."""
    if progress is not None:
        return progress.finished, progress.files
    if run.state is RunState.RUNNING:
        return run.counts.files, _count_selected(namespace, run.selection)
    return run.counts.files, 0


def _estimate_rest_s(run: RunRecord, finished: int, files: int) -> float | None:
    """Return how long a run goes on, if its files take as long as those before; None: unknown."""
    so_far_s = (utc_now() - run.started_at).total_seconds()
    return so_far_s / finished * (files - finished) if 0 < finished < files else None


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
