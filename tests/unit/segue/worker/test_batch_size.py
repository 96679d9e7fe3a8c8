"""A message holds a fixed amount of work, estimated from earlier tasks."""

from __future__ import annotations

import pytest

from segue.worker.batch_size import LATE_S, MAX_MESSAGE, MESSAGE_S, BatchSize

RUN = ("beats",)


def test_a_task_of_unknown_duration_is_sent_alone() -> None:
    batch_size = BatchSize()
    assert batch_size.estimate_share(RUN) == 1.0
    assert batch_size.estimate_message_size() == 1
    assert batch_size.estimate_s(RUN) is None


def test_quick_tasks_share_a_message_until_it_is_full() -> None:
    batch_size = BatchSize()
    batch_size.learn(RUN, MESSAGE_S / 20)
    assert batch_size.estimate_message_size() == 20
    batch_size.learn(("quicker",), 1e-9)
    assert batch_size.estimate_message_size() == MAX_MESSAGE


def test_a_slow_task_is_sent_alone_unless_its_job_takes_batches() -> None:
    batch_size = BatchSize()
    batch_size.learn(RUN, 10.0)
    assert batch_size.estimate_message_size() == 1
    batch_size.set_batch_size("beats", 16)
    assert batch_size.estimate_message_size() == 16
    assert batch_size.estimate_share(("energy",)) == 1.0


def test_an_estimate_is_a_moving_mean() -> None:
    batch_size = BatchSize()
    for seconds in (1.0, 3.0):
        batch_size.learn(RUN, seconds)
    assert batch_size.estimate_s(RUN) == pytest.approx(2.0)
    for _ in range(200):
        batch_size.learn(RUN, 5.0)
    assert batch_size.estimate_s(RUN) == pytest.approx(5.0, abs=0.01)


def test_a_task_is_late_relative_to_earlier_ones() -> None:
    batch_size = BatchSize()
    assert batch_size.estimate_late_s(RUN) == LATE_S
    batch_size.learn(RUN, 1.0)
    assert batch_size.estimate_late_s(RUN) > 1.0
