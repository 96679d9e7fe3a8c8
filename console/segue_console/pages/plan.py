"""A plan: what a backfill of some jobs over a prefix would compute and cost, before it starts."""

from __future__ import annotations

import shlex
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from segue.model.outcome import Status
from segue_console.lookup import find_namespace
from segue_console.namespace import Namespace
from segue_console.templates import render


def show_plan(request: Request) -> Response:
    """Show the form of a plan, and the plan that it asks for."""
    namespace = find_namespace(request)
    is_part = bool(request.headers.get("hx-request"))
    jobs = tuple(job for job in request.query_params.getlist("job") if job)
    prefix = request.query_params.get("prefix", "").strip()
    made = None
    if jobs:
        namespace.graph.select(jobs)
        made = request.app.state.plans.find(namespace.settings, jobs, prefix, retry=not is_part)
    return render(
        request,
        "plan_found.html" if is_part and made is not None else "plan.html",
        {
            "namespace": namespace,
            "page": "plan",
            "graph_jobs": list(namespace.graph.jobs),
            "jobs": jobs,
            "is_asked": "prefix" in request.query_params,
            "prefix": prefix,
            "made": made,
            "rows": _list_rows(made.found) if made is not None and made.found else [],
            "address": str(request.url.replace(scheme="", netloc="")).removeprefix("//"),
            "command": _build_command(namespace, jobs, prefix),
        },
    )


def _list_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for job, statuses in found["jobs"].items():
        todo = statuses.get(str(Status.TODO), 0)
        cpu_s = found["cpu_seconds"].get(job)
        rows.append(
            {
                "job": job,
                "todo": todo,
                "others": {s: n for s, n in statuses.items() if s != Status.TODO},
                "cpu_s": cpu_s,
                "hours": todo * cpu_s / 3600 if cpu_s is not None else None,
            }
        )
    return rows


def _build_command(namespace: Namespace, jobs: tuple[str, ...], prefix: str) -> str:
    words = ["segue", "backfill"]
    for job in jobs:
        words += ["--job", job]
    words += ["--prefix", prefix] if prefix else []
    if namespace.settings.graph is not None:
        words += ["--graph", namespace.settings.graph]
    return shlex.join(words)


ROUTES = [Route("/plan", show_plan, name="plan")]
