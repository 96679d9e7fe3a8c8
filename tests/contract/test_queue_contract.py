"""The contract of queues: one suite for the queue in memory, in SQLite and in Pub/Sub.

No queue guarantees an order, and Pub/Sub may return fewer envelopes than it has. So the tests
gather the envelopes of several pulls, and wait briefly to see that no others arrive.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.adapters.pubsub import PubsubQueue
from segue.adapters.sqlite_queue import SqliteQueue
from segue.errors import ConfigurationError
from segue.model.queue import Envelope, Queue, ReceivedEnvelope
from segue_support import emulators
from segue_support.pubsub_topics import make_topics
from segue_support.queue import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LIVE, REQUESTS, DEAD = TOPICS = ("beats-live", "beats-requests", "beats-dead")
HASTY = "beats-hasty"  # its envelopes have a short deadline
PATIENCE_S = 30.0  # to wait for expected envelopes
MOMENT_S = 0.7  # to wait for unexpected ones; longer than the hasty deadline of the embedded queues
RIVAL = Path(__file__).with_name("queue_rival.py")


@dataclass
class Shelf:
    """A queue that can be opened several times."""

    open: Callable[[], Queue]
    hasty: Callable[[], Queue]  # with a short deadline, for HASTY
    makes_topics: bool  # by their first envelope


def _memory(request: pytest.FixtureRequest) -> Shelf:
    queue, hasty = MemoryQueue(), MemoryQueue(deadline_s=0.3)
    return Shelf(open=lambda: queue, hasty=lambda: hasty, makes_topics=True)


def _sqlite(request: pytest.FixtureRequest) -> Shelf:
    path = f"{request.getfixturevalue('tmp_path')}/queue.db"
    return Shelf(
        open=lambda: SqliteQueue(path),
        hasty=lambda: SqliteQueue(path, deadline_s=0.3),
        makes_topics=True,
    )


def _pubsub(request: pytest.FixtureRequest) -> Shelf:
    url = f"pubsub://{request.getfixturevalue('project')}"
    address = request.getfixturevalue("pubsub_emulator")
    request.getfixturevalue("monkeypatch").setenv(emulators.PUBSUB.variable, address)
    queue = PubsubQueue(url)
    make_topics(queue, TOPICS)
    make_topics(queue, [HASTY], ack_deadline_s=10)  # the shortest there is
    queue.close()
    return Shelf(open=lambda: PubsubQueue(url), hasty=lambda: PubsubQueue(url), makes_topics=False)


EMULATED = pytest.mark.xdist_group("pubsub")  # with --dist loadgroup, one emulator serves all
SHELVES = [
    pytest.param(_memory, id="memory"),
    pytest.param(_sqlite, id="sqlite"),
    pytest.param(_pubsub, id="pubsub", marks=EMULATED),
]


@pytest.fixture(params=SHELVES)
def shelf(request: pytest.FixtureRequest) -> Shelf:
    return request.param(request)


@pytest.fixture
def queue(shelf: Shelf) -> Iterator[Queue]:
    opened = shelf.open()
    yield opened
    opened.close()


def envelopes(number: int, topic: str = LIVE) -> list[Envelope]:
    return [Envelope(topic=topic, data=f"{topic} {i}".encode()) for i in range(number)]


def gather(queue: Queue, number: int, topics: Sequence[str] = (LIVE,)) -> list[ReceivedEnvelope]:
    """Pull a number of envelopes, in several pulls if necessary."""
    gathered: list[ReceivedEnvelope] = []
    end = time.monotonic() + PATIENCE_S
    while len(gathered) < number and time.monotonic() < end:
        gathered += queue.pull(topics, limit=number - len(gathered), wait_s=1)
    assert len(gathered) == number
    return gathered


def bodies(envelopes: Sequence[ReceivedEnvelope]) -> list[bytes]:
    return sorted(d.data for d in envelopes)


def stays_empty(queue: Queue, topics: Sequence[str] = (LIVE,)) -> bool:
    return queue.pull(topics, limit=10, wait_s=MOMENT_S) == []


class TestEnvelopes:
    def test_an_envelope_comes_as_it_was_published(self, queue):
        before = datetime.now(UTC)
        attributes = {"kind": "corrupt_media", "empty": "", "file": "gs://b/été \U0001f3b5 %20"}
        queue.publish([Envelope(topic=LIVE, data=b"\x00\xff\xfe\n", attributes=attributes)])
        (envelope,) = gather(queue, 1)
        assert envelope.topic == LIVE
        assert envelope.data == b"\x00\xff\xfe\n"
        assert envelope.attributes == attributes
        assert envelope.message_id
        assert envelope.published_at.utcoffset() == timedelta(0)
        slack = timedelta(seconds=1)  # another process's clock, rounded
        assert before - slack <= envelope.published_at <= datetime.now(UTC) + slack

    def test_an_envelope_without_attributes_has_none(self, queue):
        queue.publish([Envelope(topic=LIVE, data=b"x")])
        assert gather(queue, 1)[0].attributes == {}

    def test_an_envelope_of_attributes_alone_is_one(self, queue):
        queue.publish([Envelope(topic=LIVE, data=b"", attributes={"a": "b"})])
        (envelope,) = gather(queue, 1)
        assert (envelope.data, envelope.attributes) == (b"", {"a": "b"})

    def test_a_megabyte_comes_whole(self, queue):
        data = random.Random(7).randbytes(1 << 20)
        queue.publish([Envelope(topic=LIVE, data=data)])
        assert gather(queue, 1)[0].data == data

    @settings(
        max_examples=30,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example takes its own
    )
    @given(
        data=st.binary(min_size=1, max_size=300),
        attributes=st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
                lambda key: not key.startswith("goog")  # Pub/Sub keeps these for itself
            ),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
            max_size=3,
        ),
    )
    def test_all_bytes_and_characters_come_through(self, queue, data, attributes):
        queue.publish([Envelope(topic=LIVE, data=data, attributes=attributes)])
        (envelope,) = gather(queue, 1)
        queue.acknowledge([envelope])
        assert (envelope.data, envelope.attributes) == (data, attributes)

    def test_equal_envelopes_are_several(self, queue):
        queue.publish([Envelope(topic=LIVE, data=b"x")] * 3)
        assert len({d.message_id for d in gather(queue, 3)}) == 3

    def test_thousands_in_one_call_all_come_once(self, queue):
        queue.publish(envelopes(5000))
        gathered = gather(queue, 5000)
        assert bodies(gathered) == sorted(x.data for x in envelopes(5000))
        queue.acknowledge(gathered)
        assert stays_empty(queue)

    def test_nothing_to_do_is_nothing_done(self, queue):
        queue.publish([])
        queue.acknowledge([])
        queue.extend([], 10)
        assert stays_empty(queue)


class TestPull:
    def test_without_envelopes_a_pull_waits_and_returns_none(self, queue):
        start = time.monotonic()
        assert queue.pull([LIVE, REQUESTS], limit=10, wait_s=0.4) == []
        assert time.monotonic() - start >= 0.4
        assert queue.pull([LIVE], limit=10) == []

    def test_a_waiting_pull_returns_with_what_is_published_meanwhile(self, shelf, queue):
        other = shelf.open()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(queue.pull, [REQUESTS, LIVE], limit=10, wait_s=PATIENCE_S)
            time.sleep(0.2)
            other.publish(envelopes(1))
            assert bodies(waiting.result()) == [b"beats-live 0"]
        other.close()

    def test_a_waiting_pull_returns_with_what_its_own_queue_publishes(self, queue):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(queue.pull, [LIVE], limit=10, wait_s=PATIENCE_S)
            time.sleep(0.2)
            queue.publish(envelopes(1))
            assert bodies(waiting.result()) == [b"beats-live 0"]

    def test_never_more_come_than_asked_for(self, queue):
        for topic in TOPICS:
            queue.publish(envelopes(10, topic))
        for limit in (1, 2, 7):
            assert 1 <= len(queue.pull(TOPICS, limit=limit, wait_s=PATIENCE_S)) <= limit

    def test_only_the_topics_asked_for_come(self, queue):
        queue.publish([*envelopes(3), *envelopes(4, REQUESTS), *envelopes(5, DEAD)])
        got = gather(queue, 9, (REQUESTS, DEAD))
        assert Counter(d.topic for d in got) == {REQUESTS: 4, DEAD: 5}

    def test_each_topic_has_its_share_however_many_wait_in_another(self, queue):
        queue.publish([*envelopes(500), *envelopes(20, REQUESTS)])
        pulled = queue.pull([LIVE, REQUESTS], limit=20, wait_s=PATIENCE_S)
        assert Counter(d.topic for d in pulled) == {LIVE: 10, REQUESTS: 10}

    def test_what_one_topic_lacks_the_others_give(self, queue):
        queue.publish([*envelopes(100), *envelopes(2, REQUESTS)])
        pulled = queue.pull([LIVE, REQUESTS, DEAD], limit=30, wait_s=PATIENCE_S)
        assert Counter(d.topic for d in pulled) == {LIVE: 28, REQUESTS: 2}

    def test_one_at_a_time_topics_take_turns(self, queue):
        queue.publish([*envelopes(10), *envelopes(10, REQUESTS)])
        pulled = [
            d for _ in range(8) for d in queue.pull([LIVE, REQUESTS], limit=1, wait_s=PATIENCE_S)
        ]
        assert Counter(d.topic for d in pulled) == {LIVE: 4, REQUESTS: 4}

    def test_a_topic_named_twice_is_one(self, queue):
        queue.publish([*envelopes(10), *envelopes(10, REQUESTS)])
        pulled = queue.pull([LIVE, LIVE, REQUESTS], limit=4, wait_s=PATIENCE_S)
        assert Counter(d.topic for d in pulled) == {LIVE: 2, REQUESTS: 2}

    def test_an_unknown_topic_is_made_or_named_with_the_remedy(self, shelf, queue):
        unknown = "energy-live"
        if shelf.makes_topics:
            assert stays_empty(queue, (unknown,))
            queue.publish(envelopes(1, unknown))
            assert len(gather(queue, 1, (unknown,))) == 1
        else:
            with pytest.raises(ConfigurationError, match=rf"segue-{unknown}.*terraform apply"):
                queue.publish(envelopes(1, unknown))
            with pytest.raises(ConfigurationError, match=rf"segue-{unknown}.*terraform apply"):
                queue.pull([unknown], limit=1)


class TestDelivery:
    def test_what_is_acknowledged_never_comes_again(self, shelf):
        queue = shelf.hasty()
        queue.publish(envelopes(3, HASTY))
        queue.acknowledge(gather(queue, 3, (HASTY,)))
        assert stays_empty(queue, (HASTY,))
        queue.close()

    def test_what_is_not_acknowledged_comes_again_after_its_deadline_unless_it_is_extended(
        self, shelf
    ):
        queue = shelf.hasty()
        queue.publish(envelopes(3, HASTY))
        extended, *first = gather(queue, 3, (HASTY,))
        queue.extend([extended], 600)
        again = gather(queue, 2, (HASTY,))
        assert {d.message_id: d.data for d in again} == {d.message_id: d.data for d in first}
        assert {d.ack_id for d in again}.isdisjoint(d.ack_id for d in first)
        queue.acknowledge(again)
        assert stays_empty(queue, (HASTY,))
        queue.close()

    def test_until_then_no_one_else_gets_it(self, shelf, queue):
        queue.publish(envelopes(3))
        gather(queue, 3)
        other = shelf.open()
        assert stays_empty(other)
        other.close()

    def test_what_is_given_back_comes_again_at_once(self, queue):
        queue.publish(envelopes(2))
        first, second = gather(queue, 2)
        queue.extend([first], 0)
        (again,) = gather(queue, 1)
        assert again.message_id == first.message_id
        queue.acknowledge([again, second])
        assert stays_empty(queue)

    def test_a_waiting_pull_returns_with_what_is_given_back_meanwhile(self, queue):
        queue.publish(envelopes(1))
        held = gather(queue, 1)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(queue.pull, [LIVE], limit=1, wait_s=PATIENCE_S)
            time.sleep(0.2)
            queue.extend(held, 0)
            assert [d.message_id for d in waiting.result()] == [held[0].message_id]

    def test_an_outdated_ack_id_leaves_the_newer_delivery_alone(self, queue):
        queue.publish(envelopes(1))
        outdated = gather(queue, 1)
        queue.extend(outdated, 0)
        newer = gather(queue, 1)
        queue.acknowledge(outdated)
        queue.extend(newer, 0)
        assert bodies(gather(queue, 1)) == [b"beats-live 0"]

    def test_an_outdated_receipt_gives_nothing_back(self, queue):
        queue.publish(envelopes(1))
        outdated = gather(queue, 1)
        queue.extend(outdated, 0)
        gather(queue, 1)
        queue.extend(outdated, 0)
        assert stays_empty(queue)

    def test_acknowledging_twice_never_takes_a_later_envelope_along(self, queue):
        queue.publish(envelopes(1))
        first = gather(queue, 1)
        queue.acknowledge(first)
        queue.publish([Envelope(topic=LIVE, data=b"later")])
        later = gather(queue, 1)
        queue.acknowledge(first)
        queue.extend(later, 0)
        assert bodies(gather(queue, 1)) == [b"later"]

    def test_envelopes_of_several_topics_are_acknowledged_together(self, queue):
        queue.publish([*envelopes(30), *envelopes(30, REQUESTS), *envelopes(30, DEAD)])
        held = gather(queue, 90, TOPICS)
        queue.acknowledge(held[::2])
        queue.extend(held[1::2], 0)
        assert bodies(gather(queue, 45, TOPICS)) == bodies(held[1::2])


class TestSharing:
    def test_consumers_share_and_none_gets_what_another_has(self, shelf, queue):
        queue.publish(envelopes(400))
        consumers = [shelf.open() for _ in range(3)]

        def consume(consumer: Queue) -> list[bytes]:
            mine: list[bytes] = []
            while pulled := consumer.pull([LIVE], limit=7, wait_s=1):
                consumer.acknowledge(pulled)
                mine += bodies(pulled)
            return mine

        with ThreadPoolExecutor(3) as pool:
            shares = list(pool.map(consume, consumers))
        assert sorted(x for share in shares for x in share) == sorted(
            x.data for x in envelopes(400)
        )
        for consumer in consumers:
            consumer.close()

    def test_threads_may_share_an_adapter(self, queue):
        def work(number: int) -> list[bytes]:
            queue.publish([Envelope(topic=LIVE, data=f"{number} {i}".encode()) for i in range(50)])
            got = gather(queue, 50)
            queue.acknowledge(got)
            return bodies(got)

        with ThreadPoolExecutor(6) as pool:
            got = [x for some in pool.map(work, range(6)) for x in some]
        assert sorted(got) == sorted(f"{n} {i}".encode() for n in range(6) for i in range(50))
        assert stays_empty(queue)

    def test_what_a_closed_queue_took_over_is_kept(self, shelf):
        queue = shelf.open()
        queue.publish(envelopes(3))
        queue.close()
        queue.close()
        other = shelf.open()
        assert len(gather(other, 3)) == 3
        other.close()


class TestDepth:
    def test_envelopes_are_counted_until_they_are_acknowledged_or_not_at_all(self, queue):
        queue.publish([*envelopes(5), *envelopes(2, REQUESTS)])
        held = gather(queue, 2)
        depth = queue.measure_depth([LIVE, DEAD])
        if depth is None:
            assert isinstance(queue, PubsubQueue)
            return
        assert depth == {LIVE: 5, DEAD: 0}
        queue.acknowledge(held)
        queue.acknowledge(held)
        assert queue.measure_depth(TOPICS) == {LIVE: 3, REQUESTS: 2, DEAD: 0}
        queue.extend(gather(queue, 3), 0)
        assert queue.measure_depth([LIVE]) == {LIVE: 3}


def rival(mode: str, path: str, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(RIVAL), mode, path, LIVE, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


class TestProcesses:
    """Several processes that use one file."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> str:
        return f"{tmp_path}/queue.db"

    @pytest.fixture
    def queue(self, path: str) -> Iterator[SqliteQueue]:
        queue = SqliteQueue(path, deadline_s=3600)
        yield queue
        queue.close()

    def test_what_a_killed_consumer_held_comes_at_once(self, queue, path):
        queue.publish(envelopes(10))
        consumer = rival("hold", path, 7)
        held = json.loads(consumer.stdout.readline())
        assert len(held) == 7
        assert len(queue.pull([LIVE], limit=100)) == 3  # the others are hidden for an hour
        assert stays_empty(queue)
        consumer.kill()  # SIGKILL, with envelopes in hand
        consumer.communicate(timeout=PATIENCE_S)
        again = gather(queue, 7)
        assert bodies(again) == sorted(x.encode() for x in held)
        queue.acknowledge(again)
        assert queue.measure_depth([LIVE]) == {LIVE: 3}

    def test_a_pull_that_waits_gets_what_a_killed_consumer_held(self, queue, path):
        queue.publish(envelopes(1))
        consumer = rival("hold", path, 1)
        assert len(json.loads(consumer.stdout.readline())) == 1
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(queue.pull, [LIVE], limit=1, wait_s=PATIENCE_S)
            time.sleep(0.2)
            consumer.kill()
            consumer.communicate(timeout=PATIENCE_S)
            assert bodies(waiting.result()) == [b"beats-live 0"]

    def test_consumers_in_processes_share_and_none_gets_what_another_has(self, queue, path):
        consumers = [rival("share", path, 11) for _ in range(3)]
        for consumer in consumers:
            assert consumer.stdout.readline() == "ready\n"
        queue.publish(envelopes(3000))
        got = [json.loads(c.communicate("go\n", timeout=60)[0]) for c in consumers]
        assert sorted(x.encode() for some in got for x in some) == sorted(
            x.data for x in envelopes(3000)
        )
        assert queue.measure_depth([LIVE]) == {LIVE: 0}

    def test_a_publisher_that_is_killed_publishes_all_or_nothing(self, queue, path):
        rng, size = random.Random(11), 8000
        for _ in range(4):
            publisher = rival("publish", path, size)
            assert publisher.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.05, 0.25))
            publisher.kill()  # most of the time in the middle of a set
            publisher.communicate(timeout=PATIENCE_S)
            kept: Counter[bytes] = Counter()
            while pulled := queue.pull([LIVE], limit=4000):
                kept.update(d.data for d in pulled)
                queue.acknowledge(pulled)
            assert set(kept.values()) <= {size}
            assert queue.measure_depth([LIVE]) == {LIVE: 0}
