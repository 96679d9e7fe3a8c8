"""Exponential backoff: how long to wait between attempts, and a loop that retries a call."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds that double from the first to the longest, without end.

    Each is shortened at random, so that clients that failed together do not retry together.
    """

    first_s: float
    longest_s: float
    jitter: float = 0.5  # the largest part of a pause that is cut off, from 0 to 1

    def __iter__(self) -> Iterator[float]:
        pause_s = self.first_s
        while True:
            yield pause_s * (1.0 - self.jitter * random.random())  # noqa: S311 - guards nothing
            pause_s = min(2.0 * pause_s, self.longest_s)


def retry(
    call: Callable[[], T],
    *,
    backoff: Backoff,
    should_retry: Callable[[Exception], bool],
    attempts: float = math.inf,
    end_s: float = math.inf,
    pause: Callable[[float], object] = time.sleep,
) -> T:
    """Call until it succeeds, and return the result; when it gives up, raise the last error.

    It gives up after ``attempts`` calls, when the next pause would last past ``end_s`` (of
    ``time.monotonic``), and on an error that is not worth a retry.
    """
    for attempt, pause_s in enumerate(backoff, start=1):
        try:
            return call()
        except Exception as error:
            is_last = attempt >= attempts or time.monotonic() + pause_s > end_s
            if is_last or not should_retry(error):
                raise
        pause(pause_s)
    raise AssertionError("a backoff does not end")
