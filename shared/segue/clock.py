"""The clock that production uses; whatever depends on time takes one as a parameter."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]  # returns aware times


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
