"""A pace bounds how many files are started, and leaves no time unused."""

from __future__ import annotations

import pytest

from segue.errors import ConfigurationError
from segue.execution.pace import BURST_S, Pace, parse_rate


class Time:
    """A clock that moves only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.parametrize(
    ("text", "rate"),
    [("2/s", 2.0), ("30/min", 0.5), ("36/h", 0.01), ("0.5/s", 0.5), (" 2.5/min ", 2.5 / 60)],
)
def test_a_rate_is_a_number_per_unit(text, rate):
    assert parse_rate(text) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("text", ["", "2", "0/s", "-1/s", "2/d", "2 per s", "1e9/s", "inf/s", "/s"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ConfigurationError, match=r"such as 30/min"):
        parse_rate(text)


@pytest.mark.parametrize("rate", [0.1, 1.0, 3.0, 7.7, 1000.0])
def test_in_any_time_no_more_files_are_started_than_the_rate_allows(rate):
    time = Time()
    pace = Pace(rate_per_s=rate, clock_s=lambda: time.now_s, sleep=time.sleep)
    started: list[float] = []
    while len(started) < 500:
        if room := pace.room:
            pace.start(room)
            started += [time.now_s] * room
        else:
            before_s = time.now_s
            pace.wait(0.25)
            assert time.now_s > before_s
    for first in range(0, 500, 7):
        for last in range(first, 500, 31):
            took_s = started[last] - started[first]
            assert last - first + 1 <= rate * (took_s + BURST_S) + 2
    assert started[-1] - started[0] == pytest.approx(499 / rate, abs=1 / rate + BURST_S)


def test_what_was_not_started_long_ago_is_not_made_up_for():
    time = Time()
    pace = Pace(rate_per_s=2.0, clock_s=lambda: time.now_s, sleep=time.sleep)
    assert pace.room == 1
    pace.start(1)
    time.sleep(1000.0)
    assert pace.room == 1


def test_a_wait_is_no_longer_than_its_timeout():
    time = Time()
    pace = Pace(rate_per_s=0.01, clock_s=lambda: time.now_s, sleep=time.sleep)
    assert pace.room == 1
    pace.start(1)
    pace.wait(0.25)
    assert time.now_s == 100.25
