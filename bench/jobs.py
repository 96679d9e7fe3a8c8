"""Jobs that do nothing, to measure only the framework."""

from __future__ import annotations

import os
from typing import Any


def first(media: Any) -> dict[str, bool]:  # noqa: ARG001
    """Take a file and do nothing with it."""
    return {"ok": True}


def next_(above: Any) -> dict[str, bool]:  # noqa: ARG001
    """Take a parent's result and do nothing with it."""
    return {"ok": True}


def record_first(media: Any) -> dict[str, Any]:
    """Record a run on a file."""
    return _record(1, media.uri)


def record_next(above: Any) -> dict[str, Any]:
    """Record a run on a parent's result."""
    return _record(above["hop"] + 1, above["uri"])


def _record(hop: int, uri: str) -> dict[str, Any]:
    with open(os.environ["BENCH_RUNS"], "a") as file:
        file.write(f"j{hop} {uri}\n")
    return {"hop": hop, "uri": uri}
