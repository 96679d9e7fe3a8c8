"""Limits how many requests to or of each namespace are worked on per minute, in one process.

What is over the limit stays in the ledger as wanted, and the sweep asks for it later: so a
namespace that requests millions of results at once does not keep the others waiting.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

WINDOW_S = 60.0


class RateLimit:
    """Counts what is let through for each key, in windows of a minute."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = defaultdict(int)
        self._since: datetime | None = None

    def admits(self, key: str, per_minute: int | None, now: datetime) -> bool:
        """Whether one more is within the limit, in which case it counts; None: there is none."""
        if per_minute is None:
            return True
        if self._since is None or (now - self._since).total_seconds() >= WINDOW_S:
            self._since = now
            self._counts.clear()
        if self._counts[key] >= per_minute:
            return False
        self._counts[key] += 1
        return True
