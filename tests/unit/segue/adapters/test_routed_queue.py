"""The queues of several namespaces as one: where it looks, and what it does while one is away.

What it has in common with other queues is in the contract's suite.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from segue.adapters.connect import connect_queue
from segue.adapters.other_queue import OtherQueue
from segue.adapters.routed_queue import RoutedQueue
from segue.adapters.sqlite_queue import SqliteQueue
from segue.errors import ConfigurationError, DatabaseReplaced
from segue.model.graph import Graph, Job
from segue.model.manifest import Manifest, PublishedJob
from segue.model.queue import Envelope, Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = Subscription(name="mood.inbox", topic="inbox-mood")
DONE = "mood.platform.done-down"


def build_child(parent: str, namespace: str = "moods") -> Graph:
    """A graph whose one job needs platform/down."""
    down = PublishedJob(fingerprint="0" * 12, writes="audio/flac", pipeline="down")
    platform = Manifest(
        namespace="platform", ledger="", queue=parent, artifacts="", jobs={"down": down}
    )
    mood = Job(name="mood", run="m:f", needs={"audio": "platform/down"}, writes="application/json")
    return Graph(jobs={"mood": mood}, namespace=namespace, imports={"platform": platform})


@dataclass
class Place:
    """A child's queue and its parent's, each in a file."""

    folder: Path

    @property
    def path(self) -> str:
        return f"{self.folder}/platform/queue.db"

    def connect(self, namespace: str = "moods") -> RoutedQueue:
        graph = build_child(f"sqlite:///{self.path}", namespace)
        queue = connect_queue(f"sqlite:///{self.folder}/{namespace}/queue.db", graph)
        assert isinstance(queue, RoutedQueue)
        return queue

    def publish(self, *data: bytes) -> None:
        """Publish as the parent."""
        parent = SqliteQueue(self.path)
        parent.publish([Envelope(topic="done-down", data=x) for x in data])
        parent.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def queue(place: Place) -> Iterator[RoutedQueue]:
    queue = place.connect()
    yield queue
    queue.close()


def pull(queue: RoutedQueue, *names: str, limit: int = 100, wait_s: float = 1.0) -> list[bytes]:
    pulled = queue.pull(names or (DONE,), limit=limit, wait_s=wait_s)
    queue.acknowledge(pulled)
    return sorted(one.data for one in pulled)


def test_a_subscription_elsewhere_is_in_the_file_of_the_topic_under_the_name_of_its_reader(
    place, queue
):
    place.publish(b"1")
    assert pull(queue) == [b"1"]
    parent = SqliteQueue(place.path)
    parent.publish([Envelope(topic="done-down", data=b"2")])
    assert parent.measure_depth([f"moods/{DONE}", DONE]) == {f"moods/{DONE}": 1, DONE: 0}
    assert queue.measure_depth([DONE, OWN.name]) == {DONE: 1, OWN.name: 0}
    parent.close()


def test_own_subscriptions_are_left_to_the_own_queue_and_no_other_is_looked_at(queue, monkeypatch):
    monkeypatch.setattr(OtherQueue, "pull", lambda *_: pytest.fail("the other was pulled"))
    queue.publish([Envelope(topic=OWN.topic, data=b"x")])
    assert pull(queue, OWN.name) == [b"x"]


@pytest.mark.parametrize("limit", [9, 10])
def test_shares_are_equal_wherever_a_subscription_is(place, queue, limit):
    queue.publish([Envelope(topic=OWN.topic, data=b"x")] * 50)
    queue.publish([Envelope(topic="dead", data=b"x")] * 50)
    place.publish(*[b"x"] * 50)
    pulled = queue.pull([OWN.name, DONE, "dead"], limit=limit)
    assert sorted(Counter(one.subscription for one in pulled).values()) == [3, 3, limit - 6]
    rest = queue.pull([OWN.name, DONE, "dead"], limit=200)
    assert len(rest) == 150 - limit


def test_the_url_of_the_own_queue_is_the_own_queue(place):
    path = f"{place.folder}/moods/queue.db"
    written = f"sqlite:///{place.folder}/moods/../moods/queue.db"
    queue = connect_queue(f"sqlite:///{path}", build_child(written))
    queue.publish([Envelope(topic="done-down", data=b"x", queue=written)])
    alone = SqliteQueue(path)
    assert alone.measure_depth([DONE, f"moods/{DONE}"]) == {DONE: 1, f"moods/{DONE}": 0}
    alone.close()
    assert pull(queue) == [b"x"]
    queue.close()


def test_a_subscription_in_pubsub_needs_an_own_queue_there(tmp_path):
    graph = build_child("pubsub://acme-platform")
    with pytest.raises(ConfigurationError, match="set SEGUE_QUEUE to pubsub://PROJECT"):
        connect_queue(f"sqlite:///{tmp_path}/queue.db", graph)
    connect_queue("pubsub://acme-moods", graph).close()


def test_a_queue_of_a_kind_that_is_not_known_is_named_with_whose_it_is(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"another namespace .*'kafka://there'.* 'segue lock' if it has"
    ):
        connect_queue(f"sqlite:///{tmp_path}/queue.db", build_child("kafka://there"))


def test_what_is_published_to_a_queue_that_does_not_exist_is_logged(place, queue, caplog):
    there = f"sqlite:///{place.folder}/gone/queue.db"
    both = [
        Envelope(topic="inbox-gone", data=b"x", queue=there),
        Envelope(topic=OWN.topic, data=b"own"),
    ]
    with caplog.at_level(logging.INFO, logger="segue"):
        queue.publish(both)
    (line,) = (record.segue for record in caplog.records)
    assert (line["action"], line["queue"]) == ("unavailable", there)
    assert not os.path.exists(f"{place.folder}/gone")
    assert pull(queue, OWN.name) == [b"own"]  # the others are published all the same
    other = SqliteQueue(f"{place.folder}/gone/queue.db")
    other.subscribe([Subscription(name="gone.inbox", topic="inbox-gone")])
    queue.publish(both)
    assert [one.data for one in other.pull(["gone.inbox"], limit=9)] == [b"x"]
    other.close()


class TestAway:
    """The parent's file is deleted, or replaced by another."""

    def test_own_messages_still_come_and_one_line_says_what_is_away(self, place, queue, caplog):
        os.remove(place.path)
        os.mkdir(place.path)  # it cannot be opened again
        queue.publish([Envelope(topic=OWN.topic, data=b"%d" % i) for i in range(4)])
        with caplog.at_level(logging.INFO, logger="segue"):
            got = [pull(queue, OWN.name, DONE, limit=1) for _ in range(4)]
        assert got == [[b"0"], [b"1"], [b"2"], [b"3"]]
        (line,) = (record.segue for record in caplog.records)
        assert (line["action"], line["severity"]) == ("unavailable", "WARNING")
        assert place.path in line["error"]

    def test_once_it_is_back_the_subscription_is_too(self, place, queue):
        os.remove(place.path)
        assert pull(queue, wait_s=0) == []  # the loss is noticed
        assert pull(queue, wait_s=0.5) == []  # the file is made again
        place.publish(b"new")
        assert pull(queue) == [b"new"]

    def test_a_file_that_was_moved_away_and_back_has_what_was_in_it(self, place, queue):
        place.publish(b"old")
        held = queue.pull([DONE], limit=1)
        away = f"{place.folder}/away.db"
        os.rename(place.path, away)
        queue.extend(held, 0)
        os.rename(away, place.path)
        queue.extend(held, 0)  # of before: its deadline decides
        place.publish(b"new")
        assert pull(queue) == [b"new"]
        assert queue.measure_depth([DONE]) == {DONE: 1}

    def test_what_was_pulled_before_acknowledges_nothing_in_another_file(self, place, queue):
        place.publish(b"old")
        held = queue.pull([DONE], limit=1)
        os.remove(place.path)
        queue.acknowledge(held)
        assert pull(queue, wait_s=0.5) == []  # the file is made again
        place.publish(b"new")
        (new,) = queue.pull([DONE], limit=1)  # with the same number in its file
        queue.acknowledge(held)
        assert queue.measure_depth([DONE]) == {DONE: 1}
        queue.acknowledge([new])
        assert queue.measure_depth([DONE]) == {DONE: 0}

    def test_nothing_that_is_wrong_there_is_raised(self, place, queue, caplog):
        place.publish(b"x")
        held = queue.pull([DONE], limit=1)
        os.remove(place.path)
        os.mkdir(place.path)
        with caplog.at_level(logging.INFO, logger="segue"):
            queue.sync()
            queue.acknowledge(held)
            queue.extend(held, 60)
            assert queue.measure_depth([DONE, OWN.name]) == {DONE: 0, OWN.name: 0}
            assert queue.pull([DONE], limit=1) == []
        assert [record.segue["action"] for record in caplog.records] == ["unavailable"]

    def test_the_own_file_is_not_replaced_by_another(self, place, queue):
        os.remove(f"{place.folder}/moods/queue.db")
        with pytest.raises(DatabaseReplaced):
            pull(queue, OWN.name, DONE)


def test_a_waiting_pull_ends_when_the_queue_is_closed(place):
    queue = place.connect()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.pull, [DONE, OWN.name], limit=1, wait_s=60)
        time.sleep(0.2)
        queue.close()
        error = waiting.exception(timeout=10)
    assert error is None or "is closed" in str(error)  # at the very moment of a look
