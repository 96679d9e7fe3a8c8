"""Sends the counts of a namespace to its open pages, as server-sent events.

There are two: ``counts``; and ``graph``, the version of the graph's file, first and when it
changes. A page of another version is to be loaded again.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from segue_console.lookup import find_namespace
from segue_console.namespace import Counted, Namespace
from segue_console.state_bar import describe_states, format_share, split_states

LOOK_S = 0.5
KEEP_ALIVE_S = 15.0  # after which proxies would close a silent connection


def describe_counts(counted: Counted) -> dict[str, Any]:
    """Return counts as a script gets them."""
    return {
        "at": counted.at,
        "pause_s": counted.pause_s,
        "files": counted.counts.files,
        "jobs": {
            job: {
                "parts": split_states(states),
                "label": describe_states(states),
                "share": format_share(states, counted.counts.files),
            }
            for job, states in counted.counts.jobs.items()
        },
        "rates": counted.rates,
    }


async def show_live(request: Request) -> Response:
    """Stream the counts."""
    namespace = await run_in_threadpool(find_namespace, request)
    if request.method == "HEAD":  # a stream would never end
        return Response(media_type="text/event-stream")
    return StreamingResponse(
        _stream(request, namespace),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def _stream(request: Request, namespace: Namespace) -> AsyncIterator[str]:
    version = ""
    sent_at, silent_s = 0.0, 0.0
    problem: str | None = None
    yield "retry: 2000\n\n"
    while not namespace.live.is_stopped and not await request.is_disconnected():
        counted = await run_in_threadpool(_look, namespace)
        if namespace.version != version:
            version = namespace.version
            yield f"event: graph\ndata: {json.dumps(version)}\n\n"
        if namespace.live.error != problem:
            problem = namespace.live.error
            if problem is not None:
                yield f"event: problem\ndata: {json.dumps(problem)}\n\n"
        if counted is not None and counted.at != sent_at:
            sent_at, silent_s = counted.at, 0.0
            yield f"event: counts\ndata: {json.dumps(describe_counts(counted))}\n\n"
        elif silent_s >= KEEP_ALIVE_S:
            silent_s = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(LOOK_S)
        silent_s += LOOK_S


def _look(namespace: Namespace) -> Counted | None:
    namespace.refresh()
    return namespace.live.watch()


ROUTES = [Route("/live", show_live, name="live")]
