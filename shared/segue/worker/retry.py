"""Trying again what may succeed in a moment, with exponential backoff and jitter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from segue.worker.failure import worth_retrying

INITIAL_S = 0.2
MAX_S = 10.0
JITTER_S = 0.5

T = TypeVar("T")


def _nothing() -> None:
    pass


def patiently(
    action: Callable[[], T],
    *,
    attempts: int,
    before: Callable[[], object] = _nothing,
    waiting: Callable[[], object] = _nothing,
) -> T:
    """Do something, again if it is worth it, up to so many times; the last error is passed on.

    ``before`` is called before each attempt but the first, ``waiting`` before each pause.
    """
    failed: list[Exception] = []
    try:
        return action()
    except Exception as error:
        if attempts == 1 or not worth_retrying(error):
            raise
        failed.append(error)
    import stamina

    for attempt in stamina.retry_context(
        on=worth_retrying,
        attempts=attempts,
        timeout=None,
        wait_initial=INITIAL_S,
        wait_max=MAX_S,
        wait_jitter=JITTER_S,
    ):
        with attempt:
            if failed:
                waiting()
                raise failed.pop()
            before()
            try:
                return action()
            except Exception:
                waiting()
                raise
    raise AssertionError("the last attempt returns or raises")
