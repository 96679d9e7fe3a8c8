"""A request for results of some files, or of a prefix, which a plan precedes."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from segue.clock import utc_now
from segue.execution.foreign import NO_RESULTS, ForeignResult, open_foreign_ledgers
from segue.ingest.request_client import open_requests, send_request
from segue.ingest.requests import Request as JobRequest
from segue.model.media_file import parse_prefix
from segue.model.planner import Verdict
from segue.model.transitions import reopen
from segue.reports.explanation import explain_jobs
from segue_console.lookup import find_namespace
from segue_console.namespace import Namespace
from segue_console.security import read_form
from segue_console.templates import render, unquote_field

if TYPE_CHECKING:
    from segue.model.record import Record
    from segue.stack import Stack

MAX_FILES = 1_000  # that are chosen one by one


async def request_results(request: Request) -> Response:
    """Show what a request would compute; send it, if that is confirmed."""
    form = await read_form(request)
    namespace = find_namespace(request)
    wanted = _build_request(namespace, form)
    choice = _describe_choice(wanted)
    is_confirmed = "confirm" in form
    if is_confirmed and wanted.jobs and form.get("planned") == [choice]:
        receipt = await run_in_threadpool(_send, namespace, wanted)
        return RedirectResponse(f"/{namespace.name}/runs/{receipt}", status_code=303)
    plan = await run_in_threadpool(_plan, namespace, wanted)
    return render(
        request,
        "request.html",
        {
            "namespace": namespace,
            "page": "files",
            "wanted": wanted,
            "choice": choice,
            "is_changed": is_confirmed,
            "is_asked": "plan" in form,
            "graph_jobs": list(namespace.graph.jobs),
            **plan,
        },
    )


def _describe_choice(wanted: JobRequest) -> str:
    """Return what can be chosen in the form: a request is sent only if that was planned."""
    return " ".join([*wanted.jobs, *(["(again)"] if wanted.force else [])])


def _build_request(namespace: Namespace, form: Mapping[str, list[str]]) -> JobRequest:
    files = tuple(dict.fromkeys(map(unquote_field, form.get("uri", ()))))
    prefix = unquote_field(form.get("prefix", [""])[0])
    if len(files) > MAX_FILES:
        raise HTTPException(400, f"Choose at most {MAX_FILES:,} files, or request a folder.")
    if bool(files) == bool(prefix):
        raise HTTPException(400, "Choose some files first.")
    chosen = [job for job in form.get("job", ()) if job]
    return JobRequest(
        files=files,
        prefix=parse_prefix(prefix) if prefix else None,
        jobs=namespace.graph.select(chosen) if chosen else (),
        force="force" in form,
    )


def _plan(namespace: Namespace, wanted: JobRequest) -> dict[str, Any]:
    """Return what would be computed for files that are chosen one by one."""
    stack = namespace.stack
    todo: Counter[str] = Counter()
    unknown: list[str] = []
    if wanted.jobs and wanted.files:
        records = []
        for uri, snapshot in zip(wanted.files, stack.ledger.read(wanted.files), strict=True):
            if snapshot.record is None or snapshot.record.deleted_at is not None:
                unknown.append(uri)
            else:
                records.append(snapshot.record)
        for jobs in _plan_records(stack, records, wanted):
            todo.update(jobs)
    costs = namespace.measure_costs()
    cpu_s = sum(n * costs.get(job, 0.0) for job, n in todo.items())
    return {
        "todo": [(job, todo[job]) for job in stack.graph.jobs if todo[job]],
        "unknown": unknown,
        "cpu_s": cpu_s,
        "cost": cpu_s / 3600 * namespace.settings.price,
        "unmeasured": [job for job in todo if job not in costs],
    }


def _plan_records(
    stack: Stack, records: Sequence[Record], wanted: JobRequest
) -> Iterator[list[str]]:
    """Yield the jobs that would run on each file, as far as they can run now."""
    graph, now = stack.graph, utc_now()
    controls = stack.ledger.read_controls()
    found: Sequence[Mapping[str, ForeignResult]] = [NO_RESULTS] * len(records)
    with contextlib.ExitStack() as opened:
        if (ledgers := open_foreign_ledgers(graph, opened)) is not None:
            found = ledgers.read([r.media for r in records], [wanted.jobs] * len(records))
    for record, foreign in zip(records, found, strict=True):
        asked = record
        if wanted.force:
            asked, _ = reopen(record, graph, wanted.jobs, request="plan", now=now)
        explained = explain_jobs(
            graph, asked, wanted.jobs, now=now, foreign=foreign, controls=controls
        )
        yield [job.job for job in explained if job.verdict is Verdict.RUN]


def _send(namespace: Namespace, wanted: JobRequest) -> str:
    with open_requests(namespace.stack) as requests:
        return send_request(requests, wanted).request


ROUTES = [Route("/request", request_results, methods=["POST"], name="request")]
