"""Envelopes that a process holds: hidden while it works on them, acknowledged when finished."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from segue.errors import Unavailable
from segue.execution.in_flight import FIRST_EXTENSION_S, InFlight
from segue.model.queue import Envelope, Subscription
from segue_support.queue import MemoryQueue

SUBSCRIPTION = Subscription(name="beats.source", topic="source")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)


class AwayQueue(MemoryQueue):
    """A queue that can be away."""

    is_away = False

    def acknowledge(self, envelopes):
        if self.is_away:
            raise Unavailable("the queue is away")
        super().acknowledge(envelopes)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(clock):
    queue = AwayQueue(clock=clock.now, deadline_s=10.0)
    queue.subscribe([SUBSCRIPTION])
    return queue


@pytest.fixture
def pulled(queue):
    """Pull three envelopes."""
    queue.publish([Envelope(topic=SUBSCRIPTION.topic, data=bytes([i])) for i in range(3)])
    return queue.pull([SUBSCRIPTION.name], limit=3)


@pytest.fixture
def held(queue, clock, pulled):
    held = InFlight(queue=queue, clock=clock.monotonic)
    held.add(pulled)
    return held


def test_only_what_is_finished_is_acknowledged(queue, held, pulled):
    held.acknowledge()
    assert len(queue.hidden) == 3
    held.finish(pulled[:2])
    assert held.has_finished
    held.acknowledge()
    assert [x.data for x in queue.hidden.values()] == [bytes([2])]
    assert len(held) == 1
    assert not held.has_finished


def test_what_could_not_be_acknowledged_is_acknowledged_later(queue, held, pulled):
    held.finish(pulled)
    queue.is_away = True
    with pytest.raises(Unavailable):
        held.acknowledge()
    assert held.has_finished
    queue.is_away = False
    held.acknowledge()
    assert len(held) == 0
    assert queue.hidden == {}


def test_an_envelope_stays_hidden_for_as_long_as_it_is_worked_on(queue, clock, held):
    for _ in range(600):
        clock.seconds += 1.0
        held.extend()
        assert queue.queued == {}
    assert len(queue.hidden) == 3


def test_what_is_finished_soon_costs_no_extension(queue, clock, held):
    clock.seconds = FIRST_EXTENSION_S - 0.1
    held.extend()
    clock.seconds = 10.1
    assert len(queue.queued) == 3


def test_what_is_released_comes_again_at_once_and_what_is_finished_does_not(queue, held, pulled):
    held.finish(pulled[:1])
    held.release()
    assert [x.data for x in queue.queued.values()] == [bytes([1]), bytes([2])]
    held.acknowledge()
    assert len(queue.queued) == 2


def test_a_second_delivery_of_an_envelope_is_held_separately(queue, clock, held):
    clock.seconds = 10.1
    again = queue.pull([SUBSCRIPTION.name], limit=1)
    held.add(again)
    assert len(held) == 4
    held.finish(again)
    held.acknowledge()
    assert len(held) == 3
    assert len(queue.queued) + len(queue.hidden) == 2
