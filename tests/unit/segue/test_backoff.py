"""Backoff: pauses that double with jitter, and a loop that retries within its limits."""

from __future__ import annotations

import time
from itertools import islice

import pytest

from segue.backoff import Backoff, retry
from segue.errors import Contended, Unavailable

AT_ONCE = Backoff(0.0, 0.0)


class Flaky:
    """Fails a number of times, then succeeds."""

    def __init__(self, failures: int, error: type[Exception] = Unavailable) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error(f"attempt {self.calls}")
        return "done"


def is_unavailable(error: Exception) -> bool:
    return isinstance(error, Unavailable)


def test_pauses_double_up_to_the_longest() -> None:
    assert list(islice(Backoff(0.1, 0.5, jitter=0.0), 5)) == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_jitter_cuts_off_at_most_its_share() -> None:
    pauses = list(islice(Backoff(1.0, 1.0), 1000))
    assert all(0.5 < pause_s <= 1.0 for pause_s in pauses)
    assert len(set(pauses)) > 900


def test_a_call_is_retried_until_it_succeeds_with_a_pause_between_attempts() -> None:
    pauses: list[float] = []
    call = Flaky(3)
    backoff = Backoff(1.0, 3.0, jitter=0.0)
    assert retry(call, backoff=backoff, should_retry=is_unavailable, pause=pauses.append) == "done"
    assert (call.calls, pauses) == (4, [1.0, 2.0, 3.0])


def test_the_last_error_of_all_attempts_is_raised() -> None:
    call = Flaky(9)
    with pytest.raises(Unavailable, match="attempt 3"):
        retry(call, backoff=AT_ONCE, should_retry=is_unavailable, attempts=3)


def test_an_error_that_is_not_worth_a_retry_is_raised_at_once() -> None:
    call = Flaky(1, Contended)
    with pytest.raises(Contended):
        retry(call, backoff=AT_ONCE, should_retry=is_unavailable)
    assert call.calls == 1


def test_no_pause_lasts_past_the_end() -> None:
    call = Flaky(9)
    began_s = time.monotonic()
    with pytest.raises(Unavailable, match="attempt 1"):
        retry(call, backoff=Backoff(60.0, 60.0), should_retry=is_unavailable, end_s=began_s + 10.0)
    assert time.monotonic() - began_s < 10.0
