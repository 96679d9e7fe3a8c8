"""What the in-memory queue offers beyond the port, to the simulator and to tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.model.queue import Envelope
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock) -> MemoryQueue:
    queue = MemoryQueue(clock=clock, deadline_s=60)
    queue.publish([Envelope(topic="beats-live", data=b"%d" % i) for i in range(3)])
    return queue


def test_letters_are_numbered_and_come_oldest_first(queue):
    pulled = queue.pull(["beats-live"], limit=2)
    assert [(d.message_id, d.data, d.published_at) for d in pulled] == [
        ("1", b"0", NOW),
        ("2", b"1", NOW),
    ]


def test_it_shows_what_is_queued_and_what_is_hidden(queue, clock):
    queue.pull(["beats-live"], limit=2)
    assert (list(queue.queued), list(queue.hidden)) == (["3"], ["1", "2"])
    clock.now += timedelta(seconds=59)
    assert list(queue.queued) == ["3"]
    clock.now += timedelta(seconds=1)
    assert (list(queue.queued), list(queue.hidden)) == (["1", "2", "3"], [])
    assert queue.queued["2"].data == b"1"


def test_any_letter_can_be_delivered_out_of_order_and_again(queue):
    first = queue.deliver("3")
    assert first.data == b"2"
    again = queue.deliver("3")
    assert again.ack_id != first.ack_id
    queue.acknowledge([first])  # outdated
    assert list(queue.hidden) == ["3"]
    queue.acknowledge([again])
    with pytest.raises(KeyError):
        queue.deliver("3")


def test_the_same_calls_give_the_same_answers():
    def history() -> list[object]:
        queue = MemoryQueue(clock=Clock())
        answers: list[object] = []
        for number in range(20):
            queue.publish([Envelope(topic=f"job{number % 3}-live", data=b"x")])
            pulled = queue.pull(["job0-live", "job1-live", "job2-live"], limit=2)
            queue.acknowledge(pulled[:1])
            answers += [pulled, dict(queue.queued), dict(queue.hidden)]
        return answers

    assert history() == history()
