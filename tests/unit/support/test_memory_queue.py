"""What the in-memory queue offers beyond the port, to the simulator and to tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.model.queue import Envelope, Subscription
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
    queue.subscribe([Subscription(name="beats.source", topic="source")])
    queue.publish([Envelope(topic="source", data=b"%d" % i) for i in range(3)])
    return queue


def test_letters_are_numbered_and_come_oldest_first(queue):
    pulled = queue.pull(["beats.source"], limit=2)
    assert [(d.message_id, d.data, d.published_at) for d in pulled] == [
        ("1", b"0", NOW),
        ("2", b"1", NOW),
    ]


def test_it_shows_what_is_queued_and_what_is_hidden(queue, clock):
    queue.pull(["beats.source"], limit=2)
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


def test_it_says_for_whom_each_letter_is(queue):
    queue.subscribe([Subscription(name="energy.source", topic="source")])
    queue.publish([Envelope(topic="source", data=b"3"), Envelope(topic="done-beats", data=b"4")])
    assert {
        i: (queue.find_subscription(i), e.data) for i, e in queue.queued.items() if i > "3"
    } == {
        "4": ("beats.source", b"3"),
        "5": ("energy.source", b"3"),
        "6": ("done-beats", b"4"),  # a topic without subscriptions, under its own name
    }


def test_the_same_calls_give_the_same_answers():
    def history() -> list[object]:
        queue = MemoryQueue(clock=Clock())
        answers: list[object] = []
        for number in range(20):
            queue.publish([Envelope(topic=f"done-job{number % 3}", data=b"x")])
            pulled = queue.pull(["done-job0", "done-job1", "done-job2"], limit=2)
            queue.acknowledge(pulled[:1])
            answers += [pulled, dict(queue.queued), dict(queue.hidden)]
        return answers

    assert history() == history()
