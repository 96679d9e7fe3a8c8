"""The contract of queues: one suite for the queue in memory, in SQLite and in Pub/Sub, and for
several of these as one, in which some topics are in the queue of another namespace.

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
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.adapters.pubsub import PubsubQueue
from segue.adapters.routed_queue import RoutedQueue
from segue.adapters.sqlite_queue import SqliteQueue
from segue.errors import ConfigurationError
from segue.model.queue import (
    DEAD_SUBSCRIPTION,
    Envelope,
    Queue,
    ReceivedEnvelope,
    Subscription,
)
from segue_support import emulators
from segue_support.pubsub_topics import make_topics
from segue_support.queue import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SOURCE = Subscription(name="beats.source", topic="source")
INBOX = Subscription(name="beats.inbox", topic="inbox-beats")
DEAD = DEAD_SUBSCRIPTION
HASTY = Subscription(name="hasty.inbox", topic="inbox-hasty")  # with a short deadline
SUBSCRIPTIONS = (SOURCE, INBOX, DEAD)
NAMES = tuple(one.name for one in SUBSCRIPTIONS)
ANOTHER = Subscription(name="energy.source", topic="source")
UNREAD = "done-beats"  # a topic without subscriptions
PATIENCE_S = 30.0  # to wait for expected envelopes
MOMENT_S = 0.7  # to wait for unexpected ones; longer than the hasty deadline of the embedded queues
RIVAL = Path(__file__).with_name("queue_rival.py")


@dataclass
class Shelf:
    """A queue that can be opened several times."""

    url: str
    open: Callable[[], Queue]
    hasty: Callable[[], Queue]  # with a short deadline, for HASTY
    subscribe: Callable[[Queue, Sequence[Subscription]], None]
    is_cloud: bool = False


def _memory(request: pytest.FixtureRequest) -> Shelf:
    queue, hasty = MemoryQueue(), MemoryQueue(deadline_s=0.3)
    return Shelf(
        url="",
        open=lambda: queue,
        hasty=lambda: hasty,
        subscribe=lambda queue, wanted: queue.subscribe(wanted),
    )


def _sqlite(request: pytest.FixtureRequest) -> Shelf:
    path = f"{request.getfixturevalue('tmp_path')}/queue.db"
    return Shelf(
        url=f"sqlite:///{path}",
        open=lambda: SqliteQueue(path),
        hasty=lambda: SqliteQueue(path, deadline_s=0.3),
        subscribe=lambda queue, wanted: queue.subscribe(wanted),
    )


def _pubsub(request: pytest.FixtureRequest) -> Shelf:
    url = f"pubsub://{request.getfixturevalue('project')}"
    address = request.getfixturevalue("pubsub_emulator")
    request.getfixturevalue("monkeypatch").setenv(emulators.PUBSUB.variable, address)

    def subscribe(queue: Queue, wanted: Sequence[Subscription]) -> None:
        assert isinstance(queue, PubsubQueue)
        deadline_s = 10 if HASTY in wanted else 600  # 10 is the shortest there is
        topics = [one.topic for one in wanted]
        make_topics(queue, topics, wanted, ack_deadline_s=deadline_s)
        queue.subscribe(wanted)  # leaves it to Terraform

    queue = PubsubQueue(url)
    make_topics(queue, [UNREAD], [])
    queue.close()
    return Shelf(
        url=url,
        open=lambda: PubsubQueue(url),
        hasty=lambda: PubsubQueue(url),
        subscribe=subscribe,
        is_cloud=True,
    )


class TwoQueues(RoutedQueue):
    """Two queues behind the calls of one: some topics are in that of another namespace."""

    def __init__(
        self, url: str, other: str, connect: Callable[[str], Queue], known: list[Subscription]
    ) -> None:
        super().__init__(connect(url), url=url, namespace="moods", connect=connect)
        self._other_url = other
        self._known = known
        self.subscribe(known)  # as connect_queue does

    def _find_url(self, topic: str) -> str | None:
        return self._other_url if topic in {SOURCE.topic, HASTY.topic} else None

    def add_url(self, subscriptions: Sequence[Subscription]) -> list[Subscription]:
        """Say in which queue the topics are."""
        return [replace(one, queue=self._find_url(one.topic)) for one in subscriptions]

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Remember the subscriptions for whoever opens the queues next."""
        super().subscribe(self.add_url(subscriptions))
        self._known += [one for one in subscriptions if one not in self._known]

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Publish each envelope where its topic is."""
        super().publish([replace(x, queue=self._find_url(x.topic)) for x in envelopes])


def _two_sqlite(request: pytest.FixtureRequest) -> Shelf:
    folder = request.getfixturevalue("tmp_path")
    url, other = f"sqlite:///{folder}/own.db", f"sqlite:///{folder}/other/queue.db"
    known: list[Subscription] = []

    def open_both(deadline_s: float) -> Queue:
        def connect(url: str) -> Queue:
            return SqliteQueue(url.removeprefix("sqlite:///"), deadline_s=deadline_s)

        return TwoQueues(url, other, connect, known)

    return Shelf(
        url=other,
        open=lambda: open_both(60.0),
        hasty=lambda: open_both(0.3),
        subscribe=lambda queue, wanted: queue.subscribe(wanted),
    )


def _two_pubsub(request: pytest.FixtureRequest) -> Shelf:
    alone = _pubsub(request)
    other = f"{alone.url}-other/platform"
    known: list[Subscription] = []

    def open_both() -> Queue:
        return TwoQueues(alone.url, other, PubsubQueue, known)

    def subscribe(queue: Queue, wanted: Sequence[Subscription]) -> None:
        assert isinstance(queue, TwoQueues)
        deadline_s = 10 if HASTY in wanted else 600
        for one in queue.add_url(wanted):
            make_topics(PubsubQueue(one.queue or alone.url), [one.topic], [])
            make_topics(queue, [], [one], ack_deadline_s=deadline_s)
        queue.subscribe(wanted)

    return Shelf(url=other, open=open_both, hasty=open_both, subscribe=subscribe, is_cloud=True)


EMULATED = pytest.mark.xdist_group("pubsub")  # with --dist loadgroup, one emulator serves all
SHELVES = [
    pytest.param(_memory, id="memory"),
    pytest.param(_sqlite, id="sqlite"),
    pytest.param(_pubsub, id="pubsub", marks=EMULATED),
    pytest.param(_two_sqlite, id="two-sqlite"),
    pytest.param(_two_pubsub, id="two-pubsub", marks=EMULATED),
]


@pytest.fixture(params=SHELVES)
def shelf(request: pytest.FixtureRequest) -> Shelf:
    return request.param(request)


@pytest.fixture
def queue(shelf: Shelf) -> Iterator[Queue]:
    opened = shelf.open()
    shelf.subscribe(opened, SUBSCRIPTIONS)
    yield opened
    opened.close()


@pytest.fixture
def hasty(shelf: Shelf) -> Iterator[Queue]:
    opened = shelf.hasty()
    shelf.subscribe(opened, [HASTY])
    yield opened
    opened.close()


def envelopes(number: int, topic: str = SOURCE.topic) -> list[Envelope]:
    return [Envelope(topic=topic, data=f"{topic} {i}".encode()) for i in range(number)]


def gather(
    queue: Queue, number: int, subscriptions: Sequence[str] = (SOURCE.name,)
) -> list[ReceivedEnvelope]:
    """Pull a number of envelopes, in several pulls if necessary."""
    gathered: list[ReceivedEnvelope] = []
    end = time.monotonic() + PATIENCE_S
    while len(gathered) < number and time.monotonic() < end:
        gathered += queue.pull(subscriptions, limit=number - len(gathered), wait_s=1)
    assert len(gathered) == number
    return gathered


def bodies(envelopes: Sequence[ReceivedEnvelope]) -> list[bytes]:
    return sorted(d.data for d in envelopes)


def stays_empty(queue: Queue, subscriptions: Sequence[str] = (SOURCE.name,)) -> bool:
    return queue.pull(subscriptions, limit=10, wait_s=MOMENT_S) == []


def start_rival(mode: str, place: str, name: str, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(RIVAL), mode, place, name, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


class TestEnvelopes:
    def test_an_envelope_comes_as_it_was_published(self, queue):
        before = datetime.now(UTC)
        attributes = {"kind": "corrupt_media", "empty": "", "file": "gs://b/été \U0001f3b5 %20"}
        queue.publish([Envelope(topic=SOURCE.topic, data=b"\x00\xff\xfe\n", attributes=attributes)])
        (envelope,) = gather(queue, 1)
        assert envelope.subscription == SOURCE.name
        assert envelope.data == b"\x00\xff\xfe\n"
        assert envelope.attributes == attributes
        assert envelope.message_id
        assert envelope.published_at.utcoffset() == timedelta(0)
        slack = timedelta(seconds=1)  # another process's clock, rounded
        assert before - slack <= envelope.published_at <= datetime.now(UTC) + slack

    def test_an_envelope_without_attributes_has_none(self, queue):
        queue.publish([Envelope(topic=SOURCE.topic, data=b"x")])
        assert gather(queue, 1)[0].attributes == {}

    def test_an_envelope_of_attributes_alone_is_one(self, queue):
        queue.publish([Envelope(topic=SOURCE.topic, data=b"", attributes={"a": "b"})])
        (envelope,) = gather(queue, 1)
        assert (envelope.data, envelope.attributes) == (b"", {"a": "b"})

    def test_a_megabyte_comes_whole(self, queue):
        data = random.Random(7).randbytes(1 << 20)
        queue.publish([Envelope(topic=SOURCE.topic, data=data)])
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
        queue.publish([Envelope(topic=SOURCE.topic, data=data, attributes=attributes)])
        (envelope,) = gather(queue, 1)
        queue.acknowledge([envelope])
        assert (envelope.data, envelope.attributes) == (data, attributes)

    def test_equal_envelopes_are_several(self, queue):
        queue.publish([Envelope(topic=SOURCE.topic, data=b"x")] * 3)
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
        assert queue.pull([SOURCE.name, INBOX.name], limit=10, wait_s=0.4) == []
        assert time.monotonic() - start >= 0.4
        assert queue.pull([SOURCE.name], limit=10) == []

    def test_a_waiting_pull_returns_with_what_is_published_meanwhile(self, shelf, queue):
        other = shelf.open()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(
                queue.pull, [INBOX.name, SOURCE.name], limit=10, wait_s=PATIENCE_S
            )
            time.sleep(0.2)
            other.publish(envelopes(1))
            assert bodies(waiting.result()) == [b"source 0"]
        other.close()

    def test_a_waiting_pull_returns_with_what_its_own_queue_publishes(self, queue):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(queue.pull, [SOURCE.name], limit=10, wait_s=PATIENCE_S)
            time.sleep(0.2)
            queue.publish(envelopes(1))
            assert bodies(waiting.result()) == [b"source 0"]

    def test_never_more_come_than_asked_for(self, queue):
        for one in SUBSCRIPTIONS:
            queue.publish(envelopes(10, one.topic))
        for limit in (1, 2, 7):
            assert 1 <= len(queue.pull(NAMES, limit=limit, wait_s=PATIENCE_S)) <= limit

    def test_only_the_subscriptions_asked_for_come(self, queue):
        queue.publish([*envelopes(3), *envelopes(4, INBOX.topic), *envelopes(5, DEAD.topic)])
        got = gather(queue, 9, (INBOX.name, DEAD.name))
        assert Counter(d.subscription for d in got) == {INBOX.name: 4, DEAD.name: 5}

    def test_each_subscription_has_its_share_however_many_wait_in_another(self, queue):
        queue.publish([*envelopes(10_000), *envelopes(20, INBOX.topic)])
        pulled = queue.pull([SOURCE.name, INBOX.name], limit=20, wait_s=PATIENCE_S)
        assert Counter(d.subscription for d in pulled) == {SOURCE.name: 10, INBOX.name: 10}

    def test_what_one_subscription_lacks_the_others_give(self, queue):
        queue.publish([*envelopes(100), *envelopes(2, INBOX.topic)])
        pulled = queue.pull([SOURCE.name, INBOX.name, DEAD.name], limit=30, wait_s=PATIENCE_S)
        assert Counter(d.subscription for d in pulled) == {SOURCE.name: 28, INBOX.name: 2}

    def test_one_at_a_time_subscriptions_take_turns(self, queue):
        queue.publish([*envelopes(10), *envelopes(10, INBOX.topic)])
        pulled = [
            d
            for _ in range(8)
            for d in queue.pull([SOURCE.name, INBOX.name], limit=1, wait_s=PATIENCE_S)
        ]
        assert Counter(d.subscription for d in pulled) == {SOURCE.name: 4, INBOX.name: 4}

    def test_a_subscription_named_twice_is_one(self, queue):
        queue.publish([*envelopes(10), *envelopes(10, INBOX.topic)])
        pulled = queue.pull([SOURCE.name, SOURCE.name, INBOX.name], limit=4, wait_s=PATIENCE_S)
        assert Counter(d.subscription for d in pulled) == {SOURCE.name: 2, INBOX.name: 2}

    def test_what_does_not_exist_is_empty_or_named_with_the_remedy(self, shelf, queue):
        if shelf.is_cloud:
            with pytest.raises(ConfigurationError, match=r"segue-inbox-energy.*terraform apply"):
                queue.publish(envelopes(1, "inbox-energy"))
            with pytest.raises(ConfigurationError, match=r"segue-energy\.inbox.*terraform apply"):
                queue.pull(["energy.inbox"], limit=1)
        else:
            queue.publish(envelopes(1, "inbox-energy"))
            assert stays_empty(queue, ("energy.inbox",))


class TestSubscriptions:
    def test_each_subscription_to_a_topic_gets_every_envelope(self, shelf, queue):
        shelf.subscribe(queue, [ANOTHER])
        queue.publish([*envelopes(50), *envelopes(5, INBOX.topic)])
        queue.publish([Envelope(topic=SOURCE.topic, data=b"last", attributes={"a": "b"})])
        expected = sorted([*(x.data for x in envelopes(50)), b"last"])
        for name in (SOURCE.name, ANOTHER.name):
            got = gather(queue, 51, (name,))
            assert bodies(got) == expected
            assert {(d.subscription, d.attributes.get("a")) for d in got} == {
                (name, None),
                (name, "b"),
            }
            assert stays_empty(queue, (name,))

    def test_what_was_published_before_a_subscription_is_not_in_it(self, shelf, queue):
        queue.publish(envelopes(3))
        shelf.subscribe(queue, [ANOTHER])
        queue.publish([Envelope(topic=SOURCE.topic, data=b"later")])
        assert bodies(gather(queue, 1, (ANOTHER.name,))) == [b"later"]
        assert stays_empty(queue, (ANOTHER.name,))
        assert len(gather(queue, 4)) == 4

    def test_acknowledging_and_releasing_in_one_leaves_the_other_alone(self, shelf, queue):
        shelf.subscribe(queue, [ANOTHER])
        queue.publish(envelopes(4))
        first, *others = gather(queue, 4)
        held = gather(queue, 4, (ANOTHER.name,))
        queue.acknowledge(others)
        queue.extend([first], 0)
        assert bodies(gather(queue, 1)) == [first.data]
        assert stays_empty(queue, (ANOTHER.name,))
        queue.extend(held, 0)
        assert bodies(gather(queue, 4, (ANOTHER.name,))) == bodies(held)
        assert stays_empty(queue)

    def test_readers_of_one_subscription_share_what_each_subscription_gets(self, shelf, queue):
        shelf.subscribe(queue, [ANOTHER])
        readers = [(shelf.open(), name) for name in (SOURCE.name, ANOTHER.name) for _ in range(2)]
        queue.publish(envelopes(200))

        def consume(reader: tuple[Queue, str]) -> Counter[tuple[str, bytes]]:
            mine: Counter[tuple[str, bytes]] = Counter()
            while pulled := reader[0].pull([reader[1]], limit=9, wait_s=1):
                reader[0].acknowledge(pulled)
                mine.update((d.subscription, d.data) for d in pulled)
            return mine

        with ThreadPoolExecutor(4) as pool:
            got = sum(pool.map(consume, readers), Counter())
        assert got == Counter(
            (name, x.data) for name in (SOURCE.name, ANOTHER.name) for x in envelopes(200)
        )
        for reader, _ in readers:
            reader.close()

    def test_subscriptions_to_one_topic_have_equal_shares(self, shelf, queue):
        shelf.subscribe(queue, [ANOTHER])
        queue.publish([*envelopes(100), *envelopes(100, INBOX.topic)])
        pulled = queue.pull([SOURCE.name, ANOTHER.name, INBOX.name], limit=30, wait_s=PATIENCE_S)
        assert Counter(d.subscription for d in pulled) == {
            SOURCE.name: 10,
            ANOTHER.name: 10,
            INBOX.name: 10,
        }

    def test_subscribing_twice_is_once_and_loses_nothing(self, shelf, queue):
        queue.publish(envelopes(2))
        other = shelf.open()
        shelf.subscribe(other, SUBSCRIPTIONS)
        shelf.subscribe(queue, [SOURCE, SOURCE])
        other.publish([Envelope(topic=SOURCE.topic, data=b"third")])
        assert bodies(gather(queue, 3)) == [b"source 0", b"source 1", b"third"]
        assert stays_empty(other)
        other.close()

    @pytest.mark.parametrize("shelf", [s for s in SHELVES if s.id != "memory"], indirect=True)
    def test_what_nobody_reads_is_not_kept(self, shelf, queue):
        queue.publish([*envelopes(3, UNREAD), *envelopes(1)])
        shelf.subscribe(queue, [Subscription(name="energy.done-beats", topic=UNREAD)])
        assert bodies(gather(queue, 1)) == [b"source 0"]
        assert stays_empty(queue, ("energy.done-beats", *NAMES))

    @pytest.mark.parametrize("shelf", [s for s in SHELVES if s.id != "memory"], indirect=True)
    def test_whoever_subscribes_while_other_processes_publish_misses_nothing(self, shelf, queue):
        publishers = [start_rival("tick", shelf.url, SOURCE.topic, 3) for _ in range(2)]
        for publisher in publishers:
            assert publisher.stdout.readline() == "ready\n"
        since: dict[str, int] = {}
        for number in range(4):
            name = f"late{number}.source"
            shelf.subscribe(queue, [Subscription(name=name, topic=SOURCE.topic)])
            since[name] = time.monotonic_ns()  # one clock for all processes
            time.sleep(0.02)
        published: set[int] = set()
        for publisher in publishers:
            times = json.loads(publisher.communicate("", timeout=60)[0])
            published.update(map(int, times))
        for name, subscribed in since.items():
            expected = {x for x in published if x > subscribed}
            assert expected
            got: set[int] = set()
            while pulled := queue.pull([name], limit=1000, wait_s=MOMENT_S):
                queue.acknowledge(pulled)
                got.update(int(d.data) for d in pulled)
            assert expected <= got <= published


class TestDelivery:
    def test_what_is_acknowledged_never_comes_again(self, hasty):
        hasty.publish(envelopes(3, HASTY.topic))
        hasty.acknowledge(gather(hasty, 3, (HASTY.name,)))
        assert stays_empty(hasty, (HASTY.name,))

    def test_what_is_not_acknowledged_comes_again_after_its_deadline_unless_it_is_extended(
        self, hasty
    ):
        hasty.publish(envelopes(3, HASTY.topic))
        extended, *first = gather(hasty, 3, (HASTY.name,))
        hasty.extend([extended], 600)
        again = gather(hasty, 2, (HASTY.name,))
        assert {d.message_id: d.data for d in again} == {d.message_id: d.data for d in first}
        assert {d.ack_id for d in again}.isdisjoint(d.ack_id for d in first)
        hasty.acknowledge(again)
        assert stays_empty(hasty, (HASTY.name,))

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
            waiting = pool.submit(queue.pull, [SOURCE.name], limit=1, wait_s=PATIENCE_S)
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
        assert bodies(gather(queue, 1)) == [b"source 0"]

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
        queue.publish([Envelope(topic=SOURCE.topic, data=b"later")])
        later = gather(queue, 1)
        queue.acknowledge(first)
        queue.extend(later, 0)
        assert bodies(gather(queue, 1)) == [b"later"]

    def test_envelopes_of_several_subscriptions_are_acknowledged_together(self, queue):
        queue.publish([*envelopes(30), *envelopes(30, INBOX.topic), *envelopes(30, DEAD.topic)])
        held = gather(queue, 90, NAMES)
        queue.acknowledge(held[::2])
        queue.extend(held[1::2], 0)
        assert bodies(gather(queue, 45, NAMES)) == bodies(held[1::2])


class TestSharing:
    def test_consumers_share_and_none_gets_what_another_has(self, shelf, queue):
        queue.publish(envelopes(400))
        consumers = [shelf.open() for _ in range(3)]

        def consume(consumer: Queue) -> list[bytes]:
            mine: list[bytes] = []
            while pulled := consumer.pull([SOURCE.name], limit=7, wait_s=1):
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
            queue.publish(
                [Envelope(topic=SOURCE.topic, data=f"{number} {i}".encode()) for i in range(50)]
            )
            got = gather(queue, 50)
            queue.acknowledge(got)
            return bodies(got)

        with ThreadPoolExecutor(6) as pool:
            got = [x for some in pool.map(work, range(6)) for x in some]
        assert sorted(got) == sorted(f"{n} {i}".encode() for n in range(6) for i in range(50))
        assert stays_empty(queue)

    def test_what_a_closed_queue_took_over_is_kept(self, shelf, queue):
        queue.publish(envelopes(3))
        queue.close()
        queue.close()
        other = shelf.open()
        assert len(gather(other, 3)) == 3
        other.close()


class TestDepth:
    def test_envelopes_are_counted_until_they_are_acknowledged_or_not_at_all(self, shelf, queue):
        queue.publish([*envelopes(5), *envelopes(2, INBOX.topic)])
        held = gather(queue, 2)
        depth = queue.measure_depth([SOURCE.name, DEAD.name])
        if depth is None:
            assert shelf.is_cloud
            return
        assert depth == {SOURCE.name: 5, DEAD.name: 0}
        queue.acknowledge(held)
        queue.acknowledge(held)
        assert queue.measure_depth(NAMES) == {SOURCE.name: 3, INBOX.name: 2, DEAD.name: 0}
        queue.extend(gather(queue, 3), 0)
        assert queue.measure_depth([SOURCE.name]) == {SOURCE.name: 3}


class TestProcesses:
    """Several processes that use one file."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> str:
        return f"{tmp_path}/queue.db"

    @pytest.fixture
    def queue(self, path: str) -> Iterator[SqliteQueue]:
        queue = SqliteQueue(path, deadline_s=3600)
        queue.subscribe(SUBSCRIPTIONS)
        yield queue
        queue.close()

    def test_what_a_killed_consumer_held_comes_at_once(self, queue, path):
        queue.publish(envelopes(10))
        consumer = start_rival("hold", path, SOURCE.name, 7)
        held = json.loads(consumer.stdout.readline())
        assert len(held) == 7
        assert len(queue.pull([SOURCE.name], limit=100)) == 3  # the others are hidden for an hour
        assert stays_empty(queue)
        consumer.kill()  # SIGKILL, with envelopes in hand
        consumer.communicate(timeout=PATIENCE_S)
        again = gather(queue, 7)
        assert bodies(again) == sorted(x.encode() for x in held)
        queue.acknowledge(again)
        assert queue.measure_depth([SOURCE.name]) == {SOURCE.name: 3}

    def test_a_pull_that_waits_gets_what_a_killed_consumer_held(self, queue, path):
        queue.publish(envelopes(1))
        consumer = start_rival("hold", path, SOURCE.name, 1)
        assert len(json.loads(consumer.stdout.readline())) == 1
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(queue.pull, [SOURCE.name], limit=1, wait_s=PATIENCE_S)
            time.sleep(0.2)
            consumer.kill()
            consumer.communicate(timeout=PATIENCE_S)
            assert bodies(waiting.result()) == [b"source 0"]

    def test_consumers_in_processes_share_and_none_gets_what_another_has(self, queue, path):
        consumers = [start_rival("share", path, SOURCE.name, 11) for _ in range(3)]
        for consumer in consumers:
            assert consumer.stdout.readline() == "ready\n"
        queue.publish(envelopes(3000))
        got = [json.loads(c.communicate("go\n", timeout=60)[0]) for c in consumers]
        assert sorted(x.encode() for some in got for x in some) == sorted(
            x.data for x in envelopes(3000)
        )
        assert queue.measure_depth([SOURCE.name]) == {SOURCE.name: 0}

    def test_a_publisher_that_is_killed_publishes_all_or_nothing(self, queue, path):
        rng, size = random.Random(11), 8000
        for _ in range(4):
            publisher = start_rival("publish", path, SOURCE.topic, size)
            assert publisher.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.05, 0.25))
            publisher.kill()  # most of the time in the middle of a set
            publisher.communicate(timeout=PATIENCE_S)
            kept: Counter[bytes] = Counter()
            while pulled := queue.pull([SOURCE.name], limit=4000):
                kept.update(d.data for d in pulled)
                queue.acknowledge(pulled)
            assert set(kept.values()) <= {size}
            assert queue.measure_depth([SOURCE.name]) == {SOURCE.name: 0}
