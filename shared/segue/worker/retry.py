"""Retries of transient errors when a job is loaded or called."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from segue.backoff import Backoff, retry
from segue.worker.failure import is_retryable

BACKOFF = Backoff(0.5, 10.0)

T = TypeVar("T")


def _do_nothing() -> None:
    pass


def call_with_retry(
    action: Callable[[], T],
    *,
    attempts: int,
    before_attempt: Callable[[], object] = _do_nothing,
    before_wait: Callable[[], object] = _do_nothing,
) -> T:
    """Call an action, and again after each transient error, up to ``attempts`` times.

    The last error propagates. ``before_wait`` is called before each pause, ``before_attempt`` after
    it.
    """

    def wait(pause_s: float) -> None:
        before_wait()
        time.sleep(pause_s)
        before_attempt()

    return retry(action, backoff=BACKOFF, should_retry=is_retryable, attempts=attempts, pause=wait)
