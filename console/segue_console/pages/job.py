"""A job: its versions, failures, throughput, slowest files, and the numbers that it writes."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from segue import text
from segue.reports.failure_hints import HINTS
from segue.reports.job_states import find_failures
from segue.stack import Stack
from segue_console.job_sample import sample_job
from segue_console.lookup import find_namespace
from segue_console.state_bar import STATES, describe_states, format_share, split_states
from segue_console.templates import render

MAX_FAILURES = 2_000  # that are counted by kind


def show_job(request: Request) -> Response:
    """Show one job."""
    namespace = find_namespace(request)
    version = namespace.version
    stack = namespace.stack
    name = _find_job(request, stack)
    job = stack.graph.jobs[name]
    counted = namespace.live.watch()
    states = counted.counts.jobs.get(name) if counted is not None else None
    kinds, is_complete = _count_failures(stack, name)
    cost = namespace.measure_costs().get(name)
    return render(
        request,
        "job.html",
        {
            "namespace": namespace,
            "page": "catalogue",
            "version": version,
            "job": job,
            "fingerprint": stack.graph.fingerprints[name],
            "parts": [(s, split_states(states)[s] if states else 0) for s, _ in STATES],
            "label": describe_states(states) if states else "not counted yet",
            "share": format_share(states, counted.counts.files) if states and counted else "",
            "children": stack.graph.children[name],
            "kinds": kinds.most_common(),
            "hints": HINTS,
            "kinds_are_complete": is_complete,
            "cost": text.format_duration(cost) if cost is not None else None,
            "price": cost / 3600 * namespace.settings.price * 1000 if cost is not None else None,
        },
    )


def show_sample(request: Request) -> Response:
    """Show what a sample of files says of a job, as a part of its page."""
    namespace = find_namespace(request)
    stack = namespace.stack
    name = _find_job(request, stack)
    sample = sample_job(stack, name)
    return render(
        request, "job_sample.html", {"namespace": namespace, "sample": sample, "job": name}
    )


def show_throughput(request: Request) -> Response:
    """Return how many results a job has had since the console was started, as JSON."""
    namespace = find_namespace(request)
    name = _find_job(request, namespace.stack)
    namespace.live.watch()
    history = namespace.live.list_history()
    points: dict[str, Any] = {
        "times": [one.at for one in history],
        "rates": [one.rates.get(name, 0.0) for one in history],
    }
    return Response(msgspec.json.encode(points), media_type="application/json")


def _find_job(request: Request, stack: Stack) -> str:
    name: str = request.path_params["job"]
    if name not in stack.graph.jobs:
        raise HTTPException(404, f"The graph has no job {name!r}.")
    return name


def _count_failures(stack: Stack, job: str) -> tuple[Counter[tuple[str, str]], bool]:
    """Count failures by kind and message, and whether that was all of them."""
    found = find_failures(stack.ledger, stack.graph, jobs=[job])
    kinds: Counter[tuple[str, str]] = Counter()
    for failure in islice(found, MAX_FAILURES):
        message = failure.error.message.replace(failure.uri, "…").removeprefix("…: ")
        kinds[failure.error.kind, message[:200]] += 1
    return kinds, kinds.total() < MAX_FAILURES


ROUTES = [
    Route("/jobs/{job}", show_job, name="job"),
    Route("/jobs/{job}/sample", show_sample, name="sample"),
    Route("/jobs/{job}/throughput", show_throughput, name="throughput"),
]
