"""Jobs that do nothing, so that only the framework is measured."""

from __future__ import annotations

from typing import Any


def first(media: Any) -> dict[str, bool]:  # noqa: ARG001
    """Take a file and do nothing with it."""
    return {"ok": True}


def next_(above: Any) -> dict[str, bool]:  # noqa: ARG001
    """Take a parent's result and do nothing with it."""
    return {"ok": True}
