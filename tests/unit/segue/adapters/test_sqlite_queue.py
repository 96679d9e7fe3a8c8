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
from segue.model.queue import Envelope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/made/queue.db"


@pytest.fixture
def queue(path: str) -> Iterator[SqliteQueue]:
    queue = SqliteQueue(path)
    yield queue
    queue.close()


def envelopes(number: int, topic: str = "beats-live", size_bytes: int = 0) -> list[Envelope]:
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
    def test_the_oldest_letters_of_a_topic_come_first(self, queue):
        queue.publish(envelopes(50))
        got = [int(d.data) for _ in range(5) for d in queue.pull(["beats-live"], limit=10)]
        assert got == list(range(50))

    def test_a_letter_that_is_given_back_keeps_its_place(self, queue):
        queue.publish(envelopes(5))
        held = queue.pull(["beats-live"], limit=3)
        queue.extend([held[1]], 0)
        assert [int(d.data) for d in queue.pull(["beats-live"], limit=2)] == [1, 3]


class TestCost:
    def test_a_large_backlog_makes_no_call_dearer(self, queue):
        def work() -> None:
            held = queue.pull(["beats-live", "beats-requests"], limit=20)
            queue.extend(held[:10], 30)
            queue.acknowledge(held)
            queue.measure_depth(["beats-live"])

        queue.publish([*envelopes(100), *envelopes(100, "beats-requests")])
        work()  # the first pull writes down who holds what
        few = steps(queue, work)
        queue.publish([*envelopes(20_000), *envelopes(20_000, "beats-requests")])
        queue.pull(["beats-live"], limit=5000)  # many hidden ones change nothing either
        assert steps(queue, work) < 1.2 * few  # equal, but for the turns that topics take

    def test_the_file_does_not_grow_while_letters_come_and_go(self, queue):
        def pages() -> int:
            return queue._db.execute("PRAGMA page_count").fetchone()[0]

        sizes = []
        for _ in range(30):
            queue.publish(envelopes(200, size_bytes=300))
            queue.acknowledge(queue.pull(["beats-live"], limit=200))
            sizes.append(pages())
        assert max(sizes[5:]) <= 1.2 * sizes[4]  # pages are used again, if not all at once

    def test_a_pull_that_finds_nothing_writes_nothing_and_waits_for_no_lock(self, queue, path):
        queue.publish(envelopes(1, "energy-live"))
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        quick = SqliteQueue(path, busy_s=0.0)
        assert quick.pull(["beats-live"], limit=1, wait_s=0.1) == []
        assert quick.measure_depth(["energy-live"]) == {"energy-live": 1}
        writer.close()
        quick.close()


def test_a_waiting_pull_sees_by_itself_what_others_commit(queue, path, monkeypatch):
    monkeypatch.setattr(sqlite_queue, "HOLDER_CHECK_S", 3600.0)  # which would wake it, too
    other = SqliteQueue(path)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(queue.pull, ["beats-live"], limit=1, wait_s=20)
        time.sleep(0.1)
        other.publish(envelopes(1))
        assert len(waiting.result()) == 1
        assert queue.pull(["beats-live"], limit=1) == []
    other.close()


class TestHolders:
    def test_what_another_machine_holds_waits_for_its_deadline(self, queue, path, monkeypatch):
        monkeypatch.setattr(sqlite_queue, "build_owner", lambda: "elsewhere:1@cafe/1/1/0a")
        elsewhere = SqliteQueue(path, deadline_s=0.5)
        queue.publish(envelopes(1))
        assert len(elsewhere.pull(["beats-live"], limit=1)) == 1
        elsewhere.close()
        assert queue.pull(["beats-live"], limit=1) == []
        assert len(queue.pull(["beats-live"], limit=1, wait_s=30)) == 1

    def test_whoever_extends_a_letter_holds_it(self, queue, path, monkeypatch):
        queue.publish(envelopes(1))
        with monkeypatch.context() as patched:
            patched.setattr(sqlite_queue, "is_lost", lambda lease: lease.owner == "the-dead")
            patched.setattr(sqlite_queue, "build_owner", lambda: "the-dead")
            dead = SqliteQueue(path)
            held = dead.pull(["beats-live"], limit=1)
            dead.close()
            patched.setattr(sqlite_queue, "build_owner", lambda: "the-living")
            queue.extend(held, 60)  # a process that took over the work of another
            heir = SqliteQueue(path)
            assert heir.pull(["beats-live"], limit=1) == []
            heir.close()

    def test_the_names_of_the_dead_are_forgotten(self, queue, path, monkeypatch):
        queue.publish(envelopes(2))
        queue.pull(["beats-live"], limit=1)
        monkeypatch.setattr(sqlite_queue, "is_lost", lambda lease: True)
        heir = SqliteQueue(path)
        assert len(heir.pull(["beats-live"], limit=2)) == 2
        assert heir._db.execute("SELECT count(*) FROM holders").fetchone() == (1,)
        heir.close()


class TestErrors:
    def test_a_full_disk_keeps_nothing_and_says_so(self, queue):
        queue.publish(envelopes(10))
        pages = queue._db.execute("PRAGMA page_count").fetchone()[0]
        queue._db.execute(f"PRAGMA max_page_count = {pages + 5}")
        with pytest.raises(DiskFull, match=r"no room is left for the queue .*free some"):
            queue.publish(envelopes(1000, "energy-live", size_bytes=1000))
        assert queue.measure_depth(["beats-live", "energy-live"]) == {
            "beats-live": 10,
            "energy-live": 0,
        }
        queue.acknowledge(queue.pull(["beats-live"], limit=10))  # work goes on
        queue._db.execute("PRAGMA max_page_count = 1000000")
        queue.publish(envelopes(1000, "energy-live", size_bytes=1000))
        assert len(queue.pull(["beats-live", "energy-live"], limit=2000)) == 1000

    def test_closing_lets_a_waiting_pull_return(self, path):
        queue = SqliteQueue(path)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(queue.pull, ["beats-live"], limit=1, wait_s=60)
            time.sleep(0.1)
            queue.close()
            assert waiting.result(timeout=30) == []

    def test_an_interrupted_publication_leaves_nothing_behind(self, queue, path):
        class Interrupted(dict):
            def __bool__(self) -> bool:
                raise KeyboardInterrupt

        bad = Envelope(topic="energy-live", data=b"", attributes=Interrupted())
        with pytest.raises(KeyboardInterrupt):
            queue.publish([*envelopes(3), bad])
        assert queue.measure_depth(["beats-live"]) == {"beats-live": 0}
        queue.publish(envelopes(1, "energy-live"))  # the topic was taken back, and is made again
        other = SqliteQueue(path)
        assert len(other.pull(["energy-live"], limit=5)) == 1
        other.close()


def test_many_queues_may_make_the_same_file_at_once(path):
    barrier = threading.Barrier(8)

    def make(_: int) -> None:
        barrier.wait()
        queue = SqliteQueue(path)
        queue.publish(envelopes(1))
        queue.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    queue = SqliteQueue(path)
    assert queue.measure_depth(["beats-live"]) == {"beats-live": 8}
    queue.close()
