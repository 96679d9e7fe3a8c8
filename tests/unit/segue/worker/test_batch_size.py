"""A message holds some time's worth of work, as far as is known."""

from __future__ import annotations

import pytest

from segue.worker.batch_size import LATE_S, MAX_MESSAGE, MESSAGE_S, Pace

RUN = ("beats",)


def test_what_is_unknown_goes_alone() -> None:
    pace = Pace()
    assert pace.share(RUN) == 1.0
    assert pace.message() == 1
    assert pace.seconds(RUN) is None


def test_what_is_quick_goes_with_others_as_far_as_a_message_reaches() -> None:
    pace = Pace()
    pace.learn(RUN, MESSAGE_S / 20)
    assert pace.message() == 20
    pace.learn(("quicker",), 1e-9)
    assert pace.message() == MAX_MESSAGE


def test_what_is_slow_goes_alone_unless_it_wants_a_batch() -> None:
    pace = Pace()
    pace.learn(RUN, 10.0)
    assert pace.message() == 1
    pace.learn_batch("beats", 16)
    assert pace.message() == 16
    assert pace.share(("energy",)) == 1.0


def test_an_estimate_is_a_mean_that_follows() -> None:
    pace = Pace()
    for seconds in (1.0, 3.0):
        pace.learn(RUN, seconds)
    assert pace.seconds(RUN) == pytest.approx(2.0)
    for _ in range(200):
        pace.learn(RUN, 5.0)
    assert pace.seconds(RUN) == pytest.approx(5.0, abs=0.01)


def test_a_task_is_late_by_what_others_took() -> None:
    pace = Pace()
    assert pace.late_s(RUN) == LATE_S
    pace.learn(RUN, 1.0)
    assert pace.late_s(RUN) > 1.0
