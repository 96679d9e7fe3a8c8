"""The embedded queue's file: what it costs, whom it trusts, and what it says when it cannot go on.

What it has in common with the other queues is in the contract's suite.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from segue.adapters import sqlite_queue
from segue.adapters.sqlite_queue import SqliteQueue
from segue.errors import DiskFull
from segue.model.queue import Envelope, Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SOURCE = Subscription(name="beats.source", topic="source")
INBOX = Subscription(name="beats.inbox", topic="inbox-beats")
ENERGY = Subscription(name="energy.inbox", topic="inbox-energy")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/made/queue.db"


@pytest.fixture
def queue(path: str) -> Iterator[SqliteQueue]:
    queue = SqliteQueue(path)
    queue.subscribe([SOURCE, INBOX, ENERGY])
    yield queue
    queue.close()


def envelopes(number: int, topic: str = SOURCE.topic, size_bytes: int = 0) -> list[Envelope]:
    return [Envelope(topic=topic, data=f"{i}".encode().ljust(size_bytes)) for i in range(number)]


def steps(queue: SqliteQueue, action) -> int:
    """How many instructions SQLite executes for an action."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    queue._db.set_progress_handler(count, 1)
    action()
    queue._db.set_progress_handler(None, 1)
    return counted[0]


class TestOrder:
    def test_the_oldest_letters_of_a_subscription_come_first(self, queue):
        queue.publish(envelopes(50))
        got = [int(d.data) for _ in range(5) for d in queue.pull([SOURCE.name], limit=10)]
        assert got == list(range(50))

    def test_a_letter_that_is_given_back_keeps_its_place(self, queue):
        queue.publish(envelopes(5))
        held = queue.pull([SOURCE.name], limit=3)
        queue.extend([held[1]], 0)
        assert [int(d.data) for d in queue.pull([SOURCE.name], limit=2)] == [1, 3]


class TestCost:
    def test_a_large_backlog_makes_no_call_dearer(self, queue):
        def work() -> None:
            queue.publish(envelopes(20))
            held = queue.pull([SOURCE.name, INBOX.name], limit=20)
            queue.extend(held[:10], 30)
            queue.acknowledge(held)
            queue.measure_depth([SOURCE.name])
            queue.subscribe([SOURCE])

        queue.publish([*envelopes(100), *envelopes(100, INBOX.topic)])
        work()  # the first pull writes down who holds what
        few = steps(queue, work)
        queue.publish([*envelopes(50_000), *envelopes(50_000, INBOX.topic)])
        queue.pull([SOURCE.name], limit=5000)  # many hidden ones change nothing either
        assert steps(queue, work) < 1.2 * few  # equal, but for the turns that they take

    def test_many_subscriptions_make_no_publication_and_no_pull_dearer(self, queue):
        def work() -> None:
            queue.publish(envelopes(20))
            queue.acknowledge(queue.pull([SOURCE.name], limit=20))

        work()
        few = steps(queue, work)
        others = range(1000)
        queue.subscribe([Subscription(name=f"j{i}.inbox", topic=f"inbox-j{i}") for i in others])
        queue.publish([Envelope(topic=f"inbox-j{i}", data=b"x") for i in others])
        assert steps(queue, work) < 1.2 * few

    def test_the_file_does_not_grow_while_letters_come_and_go(self, queue):
        def pages() -> int:
            return queue._db.execute("PRAGMA page_count").fetchone()[0]

        sizes = []
        for _ in range(30):
            queue.publish(envelopes(200, size_bytes=300))
            queue.acknowledge(queue.pull([SOURCE.name], limit=200))
            sizes.append(pages())
        assert max(sizes[5:]) <= 1.2 * sizes[4]  # pages are used again, if not all at once

    def test_a_pull_that_finds_nothing_writes_nothing_and_waits_for_no_lock(self, queue, path):
        queue.publish(envelopes(1, ENERGY.topic))
        queue.pull([SOURCE.name], limit=1)
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        quick = SqliteQueue(path, busy_s=0.0)
        assert quick.pull([SOURCE.name], limit=1, wait_s=0.1) == []
        assert quick.measure_depth([ENERGY.name]) == {ENERGY.name: 1}
        writer.close()
        quick.close()


def test_a_waiting_pull_sees_by_itself_what_others_commit(queue, path, monkeypatch):
    monkeypatch.setattr(sqlite_queue, "HOLDER_CHECK_S", 3600.0)  # which would wake it, too
    other = SqliteQueue(path)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.pull, [SOURCE.name], limit=1, wait_s=20)
        time.sleep(0.1)
        other.publish(envelopes(1))
        assert len(waiting.result()) == 1
        assert queue.pull([SOURCE.name], limit=1) == []
    other.close()


class TestHolders:
    def test_what_another_machine_holds_waits_for_its_deadline(self, queue, path, monkeypatch):
        monkeypatch.setattr(sqlite_queue, "build_owner", lambda: "elsewhere:1@cafe/1/1/0a")
        elsewhere = SqliteQueue(path, deadline_s=0.5)
        queue.publish(envelopes(1))
        assert len(elsewhere.pull([SOURCE.name], limit=1)) == 1
        elsewhere.close()
        assert queue.pull([SOURCE.name], limit=1) == []
        assert len(queue.pull([SOURCE.name], limit=1, wait_s=30)) == 1

    def test_whoever_extends_a_letter_holds_it(self, queue, path, monkeypatch):
        queue.publish(envelopes(1))
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_queue, "is_lost", lambda lease: lease.owner == "the-dead")
            patched.setattr(sqlite_queue, "build_owner", lambda: "the-dead")
            dead = SqliteQueue(path)
            held = dead.pull([SOURCE.name], limit=1)
            dead.close()
            patched.setattr(sqlite_queue, "build_owner", lambda: "the-living")
            queue.extend(held, 60)  # a process that took over the work of another
            heir = SqliteQueue(path)
            assert heir.pull([SOURCE.name], limit=1) == []
            heir.close()

    def test_the_names_of_the_dead_are_forgotten(self, queue, path, monkeypatch):
        queue.publish(envelopes(2))
        queue.pull([SOURCE.name], limit=1)
        monkeypatch.setattr(sqlite_queue, "is_lost", lambda lease: True)
        heir = SqliteQueue(path)
        assert len(heir.pull([SOURCE.name], limit=2)) == 2
        assert heir._db.execute("SELECT count(*) FROM holders").fetchone() == (1,)
        heir.close()


class TestUnusedSubscriptions:
    """A pipeline that a graph no longer has must not collect envelopes for ever."""

    @pytest.fixture
    def pass_days(self, monkeypatch):
        """Return a function that sets the clock forward."""
        now, shift_s = time.time, [0.0]
        monkeypatch.setattr(time, "time", lambda: now() + shift_s[0])

        def pass_days(days: float) -> None:
            shift_s[0] += days * 86_400

        return pass_days

    def test_one_that_nobody_uses_for_31_days_goes_with_what_it_holds(self, queue, pass_days):
        queue.publish([*envelopes(3), *envelopes(2, INBOX.topic)])
        assert len(queue.pull([SOURCE.name], limit=2)) == 2  # hidden ones go, too
        pass_days(30.9)
        queue.subscribe([INBOX])
        assert queue.measure_depth([SOURCE.name]) == {SOURCE.name: 3}
        pass_days(0.2)
        queue.subscribe([INBOX])
        queue.publish(envelopes(1))
        assert queue.measure_depth([SOURCE.name, INBOX.name]) == {SOURCE.name: 0, INBOX.name: 2}
        assert queue._db.execute("SELECT count(*) FROM letters").fetchone() == (2,)
        queue.subscribe([SOURCE])
        assert queue.pull([SOURCE.name], limit=5) == []
        queue.publish(envelopes(1))
        assert len(queue.pull([SOURCE.name], limit=5)) == 1

    def test_those_that_are_pulled_stay_whichever_of_them_a_pull_names(self, queue, pass_days):
        queue.publish([*envelopes(1), *envelopes(1, ENERGY.topic)])
        queue.pull([SOURCE.name], limit=1)
        pass_days(20)
        assert queue.pull([SOURCE.name], limit=1) != []  # its deadline is long over
        assert queue.pull([ENERGY.name], limit=1) != []
        pass_days(20)
        queue.subscribe([])
        assert queue.measure_depth([SOURCE.name, ENERGY.name]) == {SOURCE.name: 1, ENERGY.name: 1}

    def test_one_whose_reader_starts_again_after_a_long_time_stays(self, queue, path, pass_days):
        queue.publish(envelopes(1))
        pass_days(40)
        reader = SqliteQueue(path)
        reader.subscribe([SOURCE])
        queue.subscribe([INBOX])  # another one, before the first pull
        queue.publish(envelopes(1))
        assert len(reader.pull([SOURCE.name], limit=5)) == 2
        reader.close()

    def test_a_reader_of_one_that_is_gone_gets_nothing_of_what_has_its_number(
        self, queue, path, pass_days
    ):
        gone = Subscription(name="gone.inbox", topic="inbox-gone")
        queue.subscribe([gone])
        reader = SqliteQueue(path)
        reader.pull([gone.name], limit=1)
        pass_days(40)
        queue.subscribe([SOURCE, INBOX, ENERGY])
        queue.subscribe([Subscription(name="new.inbox", topic="inbox-new")])
        queue.publish([Envelope(topic="inbox-new", data=b"x")])
        assert reader.pull([gone.name], limit=5) == []
        reader.close()


class TestErrors:
    def test_a_full_disk_keeps_nothing_and_says_so(self, queue):
        queue.publish(envelopes(10))
        pages = queue._db.execute("PRAGMA page_count").fetchone()[0]
        queue._db.execute(f"PRAGMA max_page_count = {pages + 5}")
        with pytest.raises(DiskFull, match=r"no room is left for the queue .*free some"):
            queue.publish(envelopes(1000, ENERGY.topic, size_bytes=1000))
        assert queue.measure_depth([SOURCE.name, ENERGY.name]) == {
            SOURCE.name: 10,
            ENERGY.name: 0,
        }
        queue.acknowledge(queue.pull([SOURCE.name], limit=10))  # work goes on
        queue._db.execute("PRAGMA max_page_count = 1000000")
        queue.publish(envelopes(1000, ENERGY.topic, size_bytes=1000))
        assert len(queue.pull([SOURCE.name, ENERGY.name], limit=2000)) == 1000

    def test_closing_lets_a_waiting_pull_return(self, path):
        queue = SqliteQueue(path)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(queue.pull, [SOURCE.name], limit=1, wait_s=60)
            time.sleep(0.1)
            queue.close()
            assert waiting.result(timeout=30) == []

    def test_an_interrupted_publication_leaves_nothing_behind(self, queue, path):
        class Interrupted(dict):
            def __bool__(self) -> bool:
                raise KeyboardInterrupt

        bad = Envelope(topic=ENERGY.topic, data=b"", attributes=Interrupted())
        with pytest.raises(KeyboardInterrupt):
            queue.publish([*envelopes(3), bad])
        assert queue.measure_depth([SOURCE.name]) == {SOURCE.name: 0}
        queue.publish(envelopes(1, ENERGY.topic))
        other = SqliteQueue(path)
        assert len(other.pull([ENERGY.name], limit=5)) == 1
        other.close()


def test_many_queues_may_make_the_same_file_at_once(path):
    barrier = threading.Barrier(8)
    once = [Subscription(name=f"{number}.source", topic="source") for number in range(8)]

    def make(number: int) -> None:
        barrier.wait()
        queue = SqliteQueue(path)
        queue.subscribe([SOURCE, once[number]])
        queue.publish(envelopes(1))
        queue.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    queue = SqliteQueue(path)
    assert queue.measure_depth([SOURCE.name]) == {SOURCE.name: 8}
    kept = queue.measure_depth([one.name for one in once])
    assert all(1 <= number <= 8 for number in kept.values())  # its own, and what came after
    queue.close()
