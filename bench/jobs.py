"""Jobs that do nothing, so that only the framework is measured."""

from __future__ import annotations

import os
from typing import Any


def first(media: Any) -> dict[str, bool]:  # noqa: ARG001
    """Take a file and do nothing with it."""
    return {"ok": True}


def next_(above: Any) -> dict[str, bool]:  # noqa: ARG001
    """Take a parent's result and do nothing with it."""
    return {"ok": True}


def noted_first(media: Any) -> dict[str, Any]:
    """Write down that it ran on a file."""
    return _noted(1, media.uri)


def noted_next(above: Any) -> dict[str, Any]:
    """Write down that it ran on a parent's result."""
    return _noted(above["hop"] + 1, above["uri"])


def _noted(hop: int, uri: str) -> dict[str, Any]:
    with open(os.environ["BENCH_RUNS"], "a") as file:
        file.write(f"j{hop} {uri}\n")
    return {"hop": hop, "uri": uri}
