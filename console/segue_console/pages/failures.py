"""Failures, grouped by job, kind and message; dead letters; and their retry, after a preview."""

from __future__ import annotations

import contextlib
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from segue.adapters.connect import connect_queue, ledger_exists
from segue.execution.recorded_run import record_run
from segue.maintenance.retry import (
    DeadLetterReplay,
    JobRetry,
    ReplayedLetters,
    RetryCounts,
    RetrySelection,
)
from segue.model.run import RunKind
from segue.reports.failure_hints import HINTS
from segue.reports.job_states import find_failures, select_kinds
from segue_console.lookup import find_namespace
from segue_console.namespace import Namespace
from segue_console.security import read_form
from segue_console.templates import render

MAX_READ = 2_000  # failures
SHOWN = 100  # groups
EXAMPLES = 3
MAX_MESSAGE = 300


@dataclass(slots=True, kw_only=True)
class FailureGroup:
    """Failures of one job with the same kind and message."""

    job: str
    kind: str
    message: str
    files: int = 0
    examples: list[str] = field(default_factory=list)  # URIs


def show_failures(request: Request) -> Response:
    """Show the failures."""
    namespace = find_namespace(request)
    stack = namespace.stack
    groups: dict[tuple[str, str, str], FailureGroup] = {}
    read = 0
    found = find_failures(stack.ledger, stack.graph, jobs=list(stack.graph.jobs))
    for failure in islice(found, MAX_READ):
        read += 1
        message = failure.error.message.replace(failure.uri, "…").removeprefix("…: ")
        key = (failure.job, failure.error.kind, message[:MAX_MESSAGE])
        group = groups.setdefault(key, FailureGroup(job=key[0], kind=key[1], message=key[2]))
        group.files += 1
        if len(group.examples) < EXAMPLES:
            group.examples.append(failure.uri)
    return render(
        request,
        "failures.html",
        {
            "namespace": namespace,
            "page": "failures",
            "groups": sorted(groups.values(), key=lambda group: -group.files)[:SHOWN],
            "more": max(len(groups) - SHOWN, 0),
            "hints": HINTS,
            "read": read,
            "is_complete": read < MAX_READ,
            "has_queue": ledger_exists(namespace.settings.queue),
        },
    )


async def retry(request: Request) -> Response:
    """Show what a retry would do; do it, if that is confirmed."""
    form = await read_form(request)
    namespace = find_namespace(request)
    job, kind = form.get("job", [""])[0], form.get("kind", [""])[0]
    selection = RetrySelection(
        jobs=namespace.graph.select([job] if job else []),
        kinds=select_kinds([kind] if kind else []),
    )
    is_confirmed = "confirm" in form
    counts = await run_in_threadpool(_retry, namespace, selection, is_confirmed)
    return render(
        request,
        "retry.html",
        {
            "namespace": namespace,
            "page": "failures",
            "counts": counts,
            "jobs": sorted(counts.failed | counts.blocked),
            "given": {"job": job, "kind": kind},
            "is_done": is_confirmed,
            "has_queue": ledger_exists(namespace.settings.queue),
        },
    )


def _retry(namespace: Namespace, selection: RetrySelection, is_confirmed: bool) -> RetryCounts:
    stack, queue = namespace.stack, namespace.settings.queue
    replay = JobRetry(graph=stack.graph, ledger=stack.ledger, selection=selection)
    if not is_confirmed:
        return replay.count()
    with contextlib.ExitStack() as opened:
        if ledger_exists(queue):
            connected = opened.enter_context(closing(connect_queue(queue, stack.graph)))
            replay = replace(replay, queue=connected)
        report = opened.enter_context(record_run(stack.graph, RunKind.RETRY, jobs=selection.jobs))
        counts = replay.run()
        report({"failed": counts.failed.total(), "blocked": counts.blocked.total()})
    return counts


async def show_dead_letters(request: Request) -> Response:
    """Show the dead letters, and republish them, if that is confirmed."""
    form = await read_form(request)
    namespace = find_namespace(request)
    only = form.get("id")
    found = await run_in_threadpool(_replay, namespace, only if "confirm" in form else None)
    return render(
        request,
        "dead_letters.html",
        {
            "namespace": namespace,
            "page": "failures",
            "found": found,
            "is_done": "confirm" in form,
        },
    )


def _replay(namespace: Namespace, only: list[str] | None) -> ReplayedLetters:
    """Count the dead letters, or republish those of some ids."""
    stack = namespace.stack
    if not ledger_exists(namespace.settings.queue):
        return ReplayedLetters()
    selection = RetrySelection(jobs=tuple(stack.graph.jobs))
    with closing(connect_queue(namespace.settings.queue, stack.graph)) as queue:
        replay = DeadLetterReplay(
            graph=stack.graph, ledger=stack.ledger, queue=queue, selection=selection
        )
        return replay.run(dry_run=only is None, only=only)


ROUTES = [
    Route("/failures", show_failures, name="failures"),
    Route("/failures/retry", retry, methods=["POST"], name="retry"),
    Route("/failures/dead-letters", show_dead_letters, methods=["POST"], name="dead-letters"),
]
