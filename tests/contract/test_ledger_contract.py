"""The contract of ledgers: one suite for the ledger in memory, in SQLite and in Firestore.

The Firestore emulator needs no composite index, so these tests cannot detect a missing one. It is
slow under contention, so races on it have few rounds.
"""

from __future__ import annotations

import json
import logging
import pickle
import re
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from google.cloud import firestore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.adapters.connect import connect_ledger, open_ledger_to_read
from segue.adapters.ledger_format import encode_record
from segue.adapters.sqlite_ledger import SqliteLedger
from segue.errors import ConfigurationError, DamagedRecord
from segue.ingest.catalogue import MediaFilter
from segue.ingest.catch_up import CatchUp
from segue.log import LOGGER
from segue.model import transitions
from segue.model.graph import parse_graph
from segue.model.ledger import Change, Ledger, Query, Snapshot, find_pages
from segue.model.media_file import MediaFile, uri_to_file_id
from segue.model.planner import plan
from segue.model.record import (
    LEASED,
    PENDING,
    Entry,
    Failure,
    Lease,
    Ping,
    Record,
    State,
    evolve,
    format_done_term,
    format_term,
)
from segue.model.transitions import Arrival, Result
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
GRAPH = parse_graph(
    """
    jobs:
      beats: {run: "features:beats", needs: {media: source}, writes: application/json}
      energy: {run: "features:energy", needs: {beats: beats}, writes: application/json}
    """
)
BEATS, ENERGY = GRAPH.fingerprints["beats"], GRAPH.fingerprints["energy"]
OLD = "00000000dead"  # a fingerprint that nobody accepts
RIVAL = Path(__file__).with_name("rival.py")


@dataclass
class Shelf:
    """A ledger that can be opened several times."""

    open: Callable[[], Ledger]
    url: str | None  # for other processes; None if it cannot be shared
    writers: int  # how many may compete for one record in a test


def _memory(request: pytest.FixtureRequest) -> Shelf:
    ledger = MemoryLedger()
    return Shelf(open=lambda: ledger, url=None, writers=16)


def _sqlite(request: pytest.FixtureRequest) -> Shelf:
    folder: Path = request.getfixturevalue("tmp_path")
    url = f"sqlite:///{folder}/ledger.db"
    return Shelf(open=lambda: connect_ledger(url), url=url, writers=16)


def _firestore(request: pytest.FixtureRequest) -> Shelf:
    url: str = request.getfixturevalue("firestore_url")
    return Shelf(open=lambda: connect_ledger(url), url=url, writers=4)


EMULATED = pytest.mark.xdist_group("firestore")  # with --dist loadgroup, one emulator serves all
SHELVES = {
    "memory": pytest.param(_memory, id="memory"),
    "sqlite": pytest.param(_sqlite, id="sqlite"),
    "firestore": pytest.param(_firestore, id="firestore", marks=EMULATED),
}


@pytest.fixture(params=SHELVES.values())
def shelf(request: pytest.FixtureRequest) -> Shelf:
    return request.param(request)


@pytest.fixture(params=[SHELVES["sqlite"], SHELVES["firestore"]])
def shared_shelf(request: pytest.FixtureRequest) -> Shelf:
    return request.param(request)


@pytest.fixture
def ledger(shelf: Shelf) -> Iterator[Ledger]:
    opened = shelf.open()
    yield opened
    opened.close()


def uri(number: int) -> str:
    return f"gs://acme-audio/masters/{number:05d}.flac"


def media(uri: str, order: int = 1) -> MediaFile:
    version = f"v{order}"
    return MediaFile(uri=uri, version=version, order=order, size_bytes=3, content_type="audio/flac")


def record(uri: str, order: int = 1, **changes) -> Record:
    return Record(uri=uri, version=f"v{order}", order=order, arrived_at=NOW, **changes)


def entry(state: State, job: str = "beats", **changes) -> Entry:
    return Entry(job=job, state=state, order=1, **changes)


def with_beats(uri: str, state: State, fingerprint: str = BEATS, **changes) -> Record:
    return record(uri, results={fingerprint: entry(state)}, **changes)


def put(ledger: Ledger, *records: Record) -> list[Snapshot]:
    changes = [Change(uri=r.uri, transition=lambda _, r=r: (r, None)) for r in records]
    return [c.snapshot for c in ledger.change(changes)]


def change(ledger: Ledger, uri: str, transition: Callable, known: Snapshot | None = None):
    return ledger.change([Change(uri=uri, transition=transition, known=known)])[0]


def get(ledger: Ledger, uri: str) -> Record | None:
    return ledger.read([uri])[0].record


class TestRead:
    def test_an_unknown_file_has_no_record(self, ledger):
        assert ledger.read([uri(1)]) == [Snapshot(record=None)]

    def test_nothing_asked_is_nothing_read(self, ledger):
        assert ledger.read([]) == []
        assert ledger.change([]) == []

    def test_snapshots_come_in_the_order_of_the_uris(self, ledger):
        put(ledger, *(record(uri(i)) for i in (3, 1, 2)))
        asked = [uri(2), uri(9), uri(1), uri(3), uri(2)]
        found = [s.record.uri if s.record else None for s in ledger.read(asked)]
        assert found == [uri(2), None, uri(1), uri(3), uri(2)]

    def test_more_files_than_fit_a_call_come_all(self, ledger):
        uris = [uri(i) for i in range(1100)]
        put(ledger, *(record(u) for u in uris[::2]))
        found = [s.record.uri if s.record else None for s in ledger.read(uris)]
        assert found == [u if i % 2 == 0 else None for i, u in enumerate(uris)]


class TestChange:
    def test_a_transition_sees_the_record_as_it_is(self, ledger):
        put(ledger, record(uri(1), size_bytes=7))
        seen = []
        change(ledger, uri(1), lambda r: (seen.append(r), None))
        change(ledger, uri(2), lambda r: (seen.append(r), None))
        assert seen == [record(uri(1), size_bytes=7), None]

    def test_what_was_written_is_answered_and_read_back(self, ledger):
        changed = change(ledger, uri(1), lambda _: (record(uri(1)), "an answer"))
        assert changed.answer == "an answer"
        assert changed.snapshot.record == record(uri(1))
        assert ledger.read([uri(1)]) == [changed.snapshot]

    @pytest.mark.parametrize("unchanged", [lambda r: None, lambda r: r], ids=["none", "same"])
    def test_no_change_writes_nothing(self, ledger, unchanged):
        (before,) = put(ledger, record(uri(1)))
        changed = change(ledger, uri(1), lambda r: (unchanged(r), "an answer"))
        assert changed.answer == "an answer"
        assert changed.snapshot == before
        assert ledger.read([uri(1)]) == [before]

    def test_no_change_of_an_unknown_file_leaves_it_unknown(self, ledger):
        assert change(ledger, uri(1), lambda r: (None, 1)).snapshot == Snapshot(record=None)
        assert get(ledger, uri(1)) is None

    def test_each_write_has_a_revision_of_its_own(self, ledger):
        (first,) = put(ledger, record(uri(1), size_bytes=1))
        (second,) = put(ledger, record(uri(1), size_bytes=2))
        (third,) = put(ledger, record(uri(1), size_bytes=1))
        assert len({first.revision, second.revision, third.revision}) == 3

    def test_what_is_known_and_newest_is_what_the_transition_sees(self, ledger):
        (known,) = put(ledger, record(uri(1)))
        changed = change(ledger, uri(1), lambda r: (evolve(r, size_bytes=8), r), known)
        assert changed.answer == known.record
        assert get(ledger, uri(1)) == record(uri(1), size_bytes=8)

    def test_what_is_known_but_stale_is_read_again(self, ledger):
        (stale,) = put(ledger, record(uri(1), size_bytes=1))
        put(ledger, record(uri(1), size_bytes=2))
        more = lambda r: (evolve(r, size_bytes=r.size_bytes + 10), None)  # noqa: E731
        changed = change(ledger, uri(1), more, stale)
        assert changed.snapshot.record.size_bytes == 12
        assert get(ledger, uri(1)).size_bytes == 12

    def test_what_is_known_may_have_come_from_elsewhere(self, ledger):
        """Such as in a message: an equal record, and the text of its revision."""
        (written,) = put(ledger, record(uri(1), checksum="crc32c:0"))
        known = pickle.loads(pickle.dumps(written))
        assert isinstance(known.revision, str)
        seen = []
        changed = change(ledger, uri(1), lambda r: (evolve(r, size_bytes=8), seen.append(r)), known)
        assert seen == [known.record]
        assert seen[0] is known.record  # not read
        assert ledger.read([uri(1)]) == [changed.snapshot]

    @pytest.mark.parametrize(
        "revision", ["0", "7", "2001-01-01T00:00:00.123456Z", "?", "", "2026-99-01T00:00:00Z"]
    )
    def test_a_record_with_another_revision_is_read_again(self, ledger, revision):
        put(ledger, record(uri(1), size_bytes=1))

        def add(r):
            return record(uri(2)) if r is None else evolve(r, size_bytes=r.size_bytes + 10), r

        for n, now in ((1, record(uri(1), size_bytes=1)), (2, None)):
            known = Snapshot(record=record(uri(n), size_bytes=5), revision=revision)
            assert change(ledger, uri(n), add, known).answer == now
        assert [s.record.size_bytes for s in ledger.read([uri(1), uri(2)])] == [11, 0]

    def test_a_record_without_a_revision_overwrites_nothing(self, ledger):
        put(ledger, record(uri(1), size_bytes=1))
        known = Snapshot(record=record(uri(1), size_bytes=5))
        more = lambda r: (evolve(r, size_bytes=r.size_bytes + 10), None)  # noqa: E731
        assert change(ledger, uri(1), more, known).snapshot.record.size_bytes == 11

    def test_a_file_known_as_unknown_that_arrived_since_is_read_again(self, ledger):
        (unknown,) = ledger.read([uri(1)])
        put(ledger, record(uri(1)))
        changed = change(
            ledger, uri(1), lambda r: transitions.arrive(r, media(uri(1)), NOW), unknown
        )
        assert changed.answer is Arrival.DUPLICATE

    def test_the_snapshot_of_a_change_is_known_to_the_next(self, ledger):
        snapshot = change(ledger, uri(1), lambda _: (record(uri(1)), None)).snapshot
        for size in range(1, 4):
            grown = lambda r, size=size: (evolve(r, size_bytes=size), r)  # noqa: E731
            changed = change(ledger, uri(1), grown, snapshot)
            assert changed.answer == snapshot.record
            snapshot = changed.snapshot
        assert ledger.read([uri(1)]) == [snapshot]

    def test_one_call_does_not_change_a_file_twice(self, ledger):
        change = Change(uri=uri(1), transition=lambda _: (record(uri(1)), None))
        with pytest.raises(ConfigurationError, match="twice"):
            ledger.change([change, change])
        assert ledger.read([uri(1)])[0].record is None

    def test_many_changes_of_all_kinds_are_answered_in_order(self, ledger):
        uris = [uri(i) for i in range(1200)]
        old = put(ledger, *(record(u) for u in uris[:600]))
        put(ledger, *(record(u, size_bytes=5) for u in uris[:200]))  # old[:200] are stale now

        def transition(number):
            if number % 3 == 0:
                return lambda r: (r, (number, r.size_bytes if r else None))
            return lambda r: (
                record(uris[number], size_bytes=(r.size_bytes if r else 100) + 1),
                (number, r.size_bytes if r else None),
            )

        known = [*old, *[Snapshot(record=None)] * 600]
        changed = ledger.change(
            [Change(uri=u, transition=transition(i), known=known[i]) for i, u in enumerate(uris)]
        )
        before = [5] * 200 + [0] * 400 + [None] * 600
        assert [c.answer for c in changed] == list(enumerate(before))
        assert ledger.read(uris) == [c.snapshot for c in changed]
        sizes = [c.snapshot.record.size_bytes if c.snapshot.record else None for c in changed]
        written = [101 if b is None else b + 1 for b in before]
        assert sizes == [b if i % 3 == 0 else written[i] for i, b in enumerate(before)]

    def test_a_transition_that_raises_leaves_its_record_and_the_counts_right(self, ledger):
        put(ledger, record(uri(1)))

        def fails(_):
            raise ArithmeticError("on purpose")

        failing = [
            Change(uri=uri(2), transition=lambda _: (with_beats(uri(2), State.FAILED), None)),
            Change(uri=uri(1), transition=fails),
        ]
        with pytest.raises(ArithmeticError, match="on purpose"):
            ledger.change(failing)
        assert get(ledger, uri(1)) == record(uri(1))
        put(ledger, with_beats(uri(2), State.FAILED), with_beats(uri(3), State.QUEUED))
        counts = ledger.count({"beats": [BEATS]})
        assert counts.files == 3
        assert counts.jobs["beats"]["failed"] == 1
        assert counts.jobs["beats"]["queued"] == 1


def claiming(owner: str, now: datetime):
    """Return a transition that takes the lease on beats if it is free."""

    def transition(r: Record) -> tuple[Record | None, bool]:
        if not plan(GRAPH, r, {}, ["beats"], now).run:
            return None, False
        return transitions.claim(r, GRAPH, ["beats"], owner=owner, now=now, lease_s=60), True

    return transition


def settling(owner: str, now: datetime):
    """Return a transition that records that beats is done, unless the owner has lost it."""
    results = [Result(job="beats", state=State.DONE, artifacts={"beats/v1.json": "sha256:0"})]
    return lambda r: transitions.settle(r, GRAPH, order=1, owner=owner, results=results, now=now)


class TestRaces:
    def test_concurrent_changes_of_one_record_all_count(self, shelf):
        first = shelf.open()
        put(first, record(uri(1)))

        def add(_):
            own = shelf.open()
            for _ in range(3):
                change(own, uri(1), lambda r: (evolve(r, size_bytes=r.size_bytes + 1), None))
            if own is not first:
                own.close()

        with ThreadPoolExecutor(shelf.writers) as pool:
            list(pool.map(add, range(shelf.writers)))
        assert get(first, uri(1)).size_bytes == 3 * shelf.writers
        first.close()

    def test_threads_may_share_an_adapter(self, shelf, ledger):
        def arrive(number):
            own = [uri(100 * number + i) for i in range(20)]
            put(ledger, *(record(u) for u in own))
            return [s.record.uri for s in ledger.read(own)] == own

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(arrive, range(8)))
        assert ledger.count({}).files == 160

    def test_of_equal_arrivals_at_once_one_is_new(self, shelf, ledger):
        barrier = threading.Barrier(shelf.writers)

        def arrive(_):
            barrier.wait()
            return change(
                ledger, uri(1), lambda r: transitions.arrive(r, media(uri(1)), NOW)
            ).answer

        with ThreadPoolExecutor(shelf.writers) as pool:
            answers = sorted(pool.map(arrive, range(shelf.writers)))
        assert answers == [Arrival.DUPLICATE] * (shelf.writers - 1) + [Arrival.NEW]

    def test_rival_processes_never_win_the_same_claim(self, shared_shelf):
        ledger = shared_shelf.open()
        uris = [uri(i) for i in range(60)]
        put(ledger, *(record(u) for u in uris))
        rivals = [start_rival(shared_shelf, f"rival-{i}", "once", uris) for i in range(3)]
        for rival in rivals:
            rival.stdin.write("go\n")
            rival.stdin.flush()
        won = [json.loads(rival.communicate(timeout=60)[0]) for rival in rivals]
        assert sorted(u for some in won for u in some) == uris
        for number, some in enumerate(won):
            owners = {s.record.results[BEATS].lease.owner for s in ledger.read(some)}
            assert owners <= {f"rival-{number}"}
        ledger.close()

    def test_a_claim_outlives_its_killed_owner_until_its_lease_expires(self, shared_shelf):
        ledger = shared_shelf.open()
        put(ledger, record(uri(1)))
        rival = start_rival(shared_shelf, "the-dead", "hold", [uri(1)])
        rival.stdin.write("go\n")
        rival.stdin.flush()
        assert json.loads(rival.stdout.readline()) == [uri(1)]
        rival.kill()  # SIGKILL, between claim and complete
        rival.communicate(timeout=10)

        soon = datetime.now(UTC)
        assert not change(ledger, uri(1), claiming("heir", soon)).answer
        late = soon + timedelta(hours=2)
        assert change(ledger, uri(1), claiming("heir", late)).answer
        assert get(ledger, uri(1)).results[BEATS].attempts == 2

        before = ledger.read([uri(1)])
        assert change(ledger, uri(1), settling("the-dead", late)).answer == ("beats",)
        assert ledger.read([uri(1)]) == before
        ledger.close()


def start_rival(shelf: Shelf, owner: str, mode: str, uris: list[str]) -> subprocess.Popen[str]:
    assert shelf.url is not None
    rival = subprocess.Popen(
        [sys.executable, str(RIVAL), shelf.url, owner, mode, *uris],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert rival.stdout.readline() == "ready\n"
    return rival


class TestLife:
    def test_an_arrival_is_recorded_once_whatever_is_repeated(self, ledger):
        def arrive(order):
            arrived = lambda r: transitions.arrive(r, media(uri(1), order), NOW)  # noqa: E731
            return change(ledger, uri(1), arrived).answer

        answers = ["new", "duplicate", "stale", "newer", "stale"]
        assert [arrive(order) for order in (2, 2, 1, 3, 2)] == answers
        assert get(ledger, uri(1)) == transitions.arrive(None, media(uri(1), 3), NOW)[0]

    def test_a_newer_version_drops_results_and_keeps_what_is_wanted(self, ledger):
        lease = Lease(owner="w", expires_at=NOW)
        wanted = entry(State.RUNNING, notify=("*",), lease=lease)
        results = {BEATS: wanted, ENERGY: entry(State.DONE, "energy")}
        put(ledger, record(uri(1), results=results))
        change(ledger, uri(1), lambda r: transitions.arrive(r, media(uri(1), 2), NOW))
        beats = Entry(job="beats", state=State.QUEUED, order=2, notify=("*",), notify_at=NOW)
        assert get(ledger, uri(1)).results == {BEATS: beats}

    def test_a_deletion_leaves_a_tombstone_that_only_a_newer_version_lifts(self, ledger):
        put(ledger, record(uri(1), order=2))
        gone = NOW + timedelta(seconds=1)
        delete = lambda g: lambda r: transitions.delete(r, media(uri(1), g), gone)  # noqa: E731
        assert not change(ledger, uri(1), delete(1)).answer
        assert change(ledger, uri(1), delete(2)).answer
        assert get(ledger, uri(1)).deleted_at == gone
        again = lambda r: transitions.arrive(r, media(uri(1), 2), NOW)  # noqa: E731
        assert change(ledger, uri(1), again).answer is Arrival.STALE
        newer = lambda r: transitions.arrive(r, media(uri(1), 3), NOW)  # noqa: E731
        assert change(ledger, uri(1), newer).answer is Arrival.NEWER
        assert get(ledger, uri(1)).deleted_at is None

    def test_a_deletion_that_overtakes_its_arrival_leaves_a_tombstone(self, ledger):
        assert change(ledger, uri(1), lambda r: transitions.delete(r, media(uri(1), 2), NOW)).answer
        assert (ledger.count({}).files, ledger.count({}).deleted) == (0, 1)
        for order in (1, 2):
            late = lambda r, g=order: transitions.arrive(r, media(uri(1), g), NOW)  # noqa: E731
            assert change(ledger, uri(1), late).answer is Arrival.STALE
        assert get(ledger, uri(1)).deleted_at == NOW

    def test_a_result_is_settled_once_and_whoever_waits_is_found_until_notified(self, ledger):
        arrive = lambda r: transitions.arrive(r, media(uri(1)), NOW)  # noqa: E731
        snapshot = change(ledger, uri(1), arrive).snapshot
        want = lambda r: (transitions.want(r, GRAPH, ["beats"], "*", NOW), None)  # noqa: E731
        snapshot = change(ledger, uri(1), want, snapshot).snapshot
        snapshot = change(ledger, uri(1), claiming("w", NOW), snapshot).snapshot
        assert found(ledger, Query(open=LEASED)) == [uri(1)]
        assert change(ledger, uri(1), settling("w", NOW), snapshot).answer == ()
        assert change(ledger, uri(1), settling("w", NOW)).answer == ("beats",)
        assert found(ledger, Query(open=LEASED)) == []
        assert transitions.is_current(GRAPH, get(ledger, uri(1)), "beats")

        assert found(ledger, Query(open=PENDING)) == [uri(1)]
        told = [transitions.Notified(fingerprint=BEATS, notify_at=NOW)]
        clear = lambda r: transitions.clear_notify(r, order=1, notified=told)  # noqa: E731
        change(ledger, uri(1), clear)
        assert found(ledger, Query(open=PENDING)) == []
        assert ledger.count({"beats": [BEATS]}).jobs["beats"]["done"] == 1

    def test_two_ledgers_on_the_same_store_see_each_other(self, shelf):
        one, other = shelf.open(), shelf.open()
        (mine,) = put(one, record(uri(1), size_bytes=1))
        assert other.read([uri(1)]) == [mine]
        put(other, record(uri(1), size_bytes=2))
        changed = change(one, uri(1), lambda r: (evolve(r, checksum="crc32c:0"), None), mine)
        assert changed.snapshot.record == record(uri(1), size_bytes=2, checksum="crc32c:0")
        assert other.count({}).files == 1
        one.close()
        if other is not one:
            other.close()


class TestCount:
    def test_an_empty_ledger_counts_nothing(self, ledger):
        counts = ledger.count({"beats": [BEATS]})
        assert (counts.files, counts.deleted) == (0, 0)
        assert counts.jobs == {"beats": dict.fromkeys([*map(str, State), "stale"], 0)}

    def test_results_are_counted_by_state_and_done_ones_by_fingerprint(self, ledger):
        states = [*State] * 3 + [State.FAILED] * 4
        put(ledger, *(with_beats(uri(i), s) for i, s in enumerate(states)))
        prints = [f"{i:012x}" for i in range(70)]  # more than one query may compare with
        put(
            ledger,
            *(with_beats(uri(100 + i), State.DONE, p) for i, p in enumerate(prints)),
            *(with_beats(uri(200 + i), State.DONE, f"{i:012d}dead"[-12:]) for i in range(5)),
            record(uri(400)),
        )
        counts = ledger.count({"beats": (BEATS, *prints), "energy": ("ffffffffffff",)})
        assert counts.files == 22 + 70 + 5 + 1
        beats = {
            "queued": 3,
            "running": 3,
            "done": 73,
            "failed": 7,
            "blocked": 3,
            "not_applicable": 3,
            "stale": 5,
        }
        assert counts.jobs == {"beats": beats, "energy": dict.fromkeys(beats, 0)}

    def test_a_file_that_is_done_under_several_fingerprints_is_done_once(self, ledger):
        done = entry(State.DONE)
        put(
            ledger,
            record(uri(1), results={BEATS: done, "0" * 12: done, OLD: done}),
            record(uri(2), results={OLD: done, f"1{OLD[1:]}": done}),
        )
        beats = ledger.count({"beats": [BEATS, "0" * 12]}).jobs["beats"]
        assert (beats["done"], beats["stale"]) == (1, 1)

    def test_other_states_are_counted_of_the_jobs_own_fingerprint(self, ledger):
        others = [s for s in State if s is not State.DONE]
        put(
            ledger,
            *(with_beats(uri(i), s, "0" * 12) for i, s in enumerate(others)),
            *(with_beats(uri(10 + i), s, OLD) for i, s in enumerate(others)),
            record(uri(20), results={BEATS: entry(State.FAILED), "0" * 12: entry(State.DONE)}),
            record(uri(21), results={BEATS: entry(State.QUEUED), OLD: entry(State.DONE)}),
        )
        beats = ledger.count({"beats": [BEATS, "0" * 12]}).jobs["beats"]
        counted = {"done": 1, "stale": 1, "failed": 1, "queued": 1}
        assert beats == dict.fromkeys(beats, 0) | counted

    def test_jobs_of_one_fingerprint_are_counted_apart(self, ledger):
        put(ledger, with_beats(uri(1), State.DONE), with_beats(uri(2), State.FAILED))
        counts = ledger.count({"energy": [BEATS]})
        assert set(counts.jobs["energy"].values()) == {0}

    def test_tombstones_are_counted_apart_and_their_results_not_at_all(self, ledger):
        put(
            ledger,
            with_beats(uri(1), State.DONE),
            *(with_beats(uri(2 + i), s, deleted_at=NOW) for i, s in enumerate(State)),
            with_beats(uri(9), State.DONE, OLD, deleted_at=NOW),
        )
        counts = ledger.count({"beats": [BEATS]})
        assert (counts.files, counts.deleted) == (1, 7)
        beats = counts.jobs["beats"]
        assert beats == dict.fromkeys(beats, 0) | {"done": 1}

    def test_counts_follow_changes(self, ledger):
        put(ledger, *(with_beats(uri(i), State.RUNNING) for i in range(10)))
        put(ledger, *(with_beats(uri(i), State.DONE) for i in range(4)))
        put(ledger, record(uri(9), order=2))
        beats = ledger.count({"beats": [BEATS]}).jobs["beats"]
        assert (beats["running"], beats["done"]) == (5, 4)


def pages(ledger: Ledger, query: Query, limit: int) -> Iterator[list[Record]]:
    after = ""
    while page := ledger.find(query, after=after, limit=limit):
        assert len(page) <= limit
        yield page
        after = page[-1].uri


def found(ledger: Ledger, query: Query, limit: int = 500) -> list[str]:
    return [r.uri for page in pages(ledger, query, limit) for r in page]


# In the order of their UTF-8 bytes, which differs from that of UTF-16 in the last two.
NAMES = ["100%", "a", "a b", "a%20b", "a+b", "a/b", "ab", "b", "été", "\ufb01", "\U0001f3b5"]


class TestFind:
    def test_records_come_by_uri_and_whole(self, ledger):
        records = [with_beats(uri(i), State.DONE, size_bytes=i) for i in range(20)]
        put(ledger, *reversed(records))
        assert ledger.find(Query()) == records

    def test_pages_are_complete_and_without_doubles(self, ledger):
        uris = [uri(i) for i in range(23)]
        put(ledger, *(record(u) for u in uris))
        assert found(ledger, Query(), limit=5) == uris
        assert found(ledger, Query(), limit=23) == uris

    def test_pages_stay_complete_while_others_write(self, ledger):
        uris = [uri(i) for i in range(0, 200, 2)]
        put(ledger, *(record(u) for u in uris))
        seen = []
        for number, page in enumerate(pages(ledger, Query(), limit=10)):
            seen += [r.uri for r in page]
            put(ledger, record(uri(2 * number + 1)), record(uris[-1 - number], size_bytes=1))
        assert [u for u in seen if u in set(uris)] == uris
        assert len(seen) == len(set(seen))

    def test_names_of_any_characters_are_found_in_order_of_their_bytes(self, ledger):
        uris = [f"gs://acme-audio/{n}" for n in NAMES]
        assert sorted(uris, key=str.encode) == uris
        put(ledger, *(record(u) for u in uris))
        assert found(ledger, Query(), limit=3) == uris

    @pytest.mark.parametrize("prefix", ["a", "a ", "a%", "a/", "ét", "\U0001f3b5", "100%", "z", ""])
    def test_a_prefix_is_taken_literally(self, ledger, prefix):
        put(ledger, *(record(f"gs://acme-audio/{n}") for n in NAMES))
        expected = [f"gs://acme-audio/{n}" for n in NAMES if n.startswith(prefix)]
        assert found(ledger, Query(prefix=f"gs://acme-audio/{prefix}"), limit=2) == expected

    def test_a_page_may_start_before_or_behind_its_prefix(self, ledger):
        put(ledger, *(record(f"gs://b/{n}") for n in ("a", "b1", "b2", "c")))
        query = Query(prefix="gs://b/b")
        page = lambda after: [r.uri for r in ledger.find(query, after=after)]  # noqa: E731
        assert page("gs://b/a") == ["gs://b/b1", "gs://b/b2"]
        assert page("gs://b/b1") == ["gs://b/b2"]
        assert page("gs://b/c") == []

    def test_open_terms_and_tombstones_are_selected(self, ledger):
        failed = entry(State.FAILED)
        waiting = entry(State.RUNNING, notify=("*",), lease=Lease(owner="w", expires_at=NOW))
        put(
            ledger,
            with_beats(uri(1), State.FAILED),
            with_beats(uri(2), State.DONE),
            with_beats(uri(3), State.FAILED, deleted_at=NOW),
            record(uri(4), results={ENERGY: entry(State.FAILED, "energy"), BEATS: failed}),
            record(uri(5), deleted_at=NOW),
            record(uri(6), results={BEATS: waiting, OLD: failed}),
            record(uri(7), results={BEATS: waiting}, deleted_at=NOW),
            with_beats(uri(8), State.NOT_APPLICABLE),
            record(uri(9), results={BEATS: entry(State.DONE, notify=("moods",))}),
        )
        failing = format_term("beats", BEATS, State.FAILED)
        expected = {
            Query(): [1, 2, 3, 4, 5, 6, 7, 8, 9],
            Query(deleted=False): [1, 2, 4, 6, 8, 9],
            Query(deleted=True): [3, 5, 7],
            Query(open=failing): [1, 4],
            Query(open=failing, deleted=False): [1, 4],
            Query(open=failing, deleted=True): [],
            Query(open=failing, prefix=uri(4)): [4],
            Query(open=failing, prefix=uri(2)): [],
            Query(open=format_term("beats", OLD, State.FAILED)): [6],
            Query(open=format_term("energy", ENERGY, State.FAILED)): [4],
            Query(open=format_term("energy", BEATS, State.FAILED)): [],
            Query(open=format_term("beats", BEATS, State.BLOCKED)): [],
            Query(open=PENDING): [6, 9],
            Query(open=LEASED): [6],
            # These are for counting only.
            Query(open=format_done_term("beats")): [],
            Query(open=format_done_term("beats", BEATS)): [],
            Query(open=format_term("beats", BEATS, State.NOT_APPLICABLE)): [],
        }
        for query, numbers in expected.items():
            assert found(ledger, query, limit=2) == [uri(n) for n in numbers], query

    def test_a_part_of_a_term_finds_nothing(self, ledger):
        put(ledger, with_beats(uri(1), State.FAILED))
        term = format_term("beats", BEATS, State.FAILED)
        for part in (term[:-1], term[1:], f"{term} ", "", "%"):
            assert ledger.find(Query(open=part)) == []

    def test_a_record_is_found_by_its_terms_of_now(self, ledger):
        failing = format_term("beats", BEATS, State.FAILED)
        for state, numbers in ((State.FAILED, [1]), (State.DONE, []), (State.FAILED, [1])):
            put(ledger, with_beats(uri(1), state))
            assert found(ledger, Query(open=failing)) == [uri(n) for n in numbers]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
times = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
whole = st.integers(0, 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
fingerprints = st.text("0123456789abcdef", min_size=12, max_size=12)
job_names = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
failures = st.builds(Failure, kind=texts, type=texts, message=texts, traceback=st.none() | texts)
entries = st.builds(
    Entry,
    job=job_names,
    state=st.sampled_from(State),
    order=whole,
    checksums=st.dictionaries(texts, texts, max_size=2),
    attempts=whole,
    error=st.none() | failures,
    lease=st.none() | st.builds(Lease, owner=texts, expires_at=times),
    notify=st.lists(texts, max_size=3).map(tuple),
    notify_at=st.none() | times,
    triggered_by=st.none() | texts,
    requests=st.lists(texts, max_size=2).map(tuple),
    equivalents=st.lists(texts, max_size=2).map(tuple),
    started_at=st.none() | times,
    finished_at=st.none() | times,
    seconds=st.none() | numbers,
    cpu_seconds=st.none() | numbers,
)
pings = st.builds(
    Ping,
    request=texts,
    at=times,
    triggered_by=st.none() | texts,
    before=st.dictionaries(texts, texts, max_size=2),
)
results = st.dictionaries(fingerprints, entries, max_size=4)
# A tombstone's document says when it may be removed, which must be a date, too.
deletions = st.datetimes(datetime(1970, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
records = st.builds(
    Record,
    uri=texts.map(lambda name: f"gs://acme-audio/{name}"),
    version=texts,
    order=whole,
    size_bytes=whole,
    content_type=st.none() | texts,
    checksum=st.none() | texts,
    stat=st.none() | texts,
    arrived_at=times,
    deleted_at=st.none() | deletions,
    deleted_by=st.none() | texts,
    erased=st.booleans(),
    results=results,
    earlier=st.dictionaries(texts, results, max_size=2),
    pings=st.dictionaries(job_names, pings, max_size=4),
)


class TestRoundTrip:
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],  # the ledger may be shared
    )
    @given(record=records)
    def test_every_field_comes_back_as_it_was(self, ledger, record):
        put(ledger, record)
        (snapshot,) = ledger.read([record.uri])
        assert snapshot.record == record
        assert ledger.find(Query(prefix=record.uri), limit=1) == [record]

    def test_the_strategy_leaves_no_field_out(self):
        for made, of in ((records, Record), (entries, Entry), (failures, Failure), (pings, Ping)):
            assert set(made.wrapped_strategy.kwargs) == set(of.__struct_fields__)

    def test_times_stay_aware_and_exact(self, ledger):
        lease = Lease(owner="w", expires_at=NOW + timedelta(microseconds=1))
        results = {BEATS: entry(State.RUNNING, lease=lease, started_at=NOW)}
        put(ledger, record(uri(1), results=results, deleted_at=NOW))
        back = get(ledger, uri(1))
        beats = back.results[BEATS]
        for time in (back.arrived_at, back.deleted_at, beats.started_at, beats.lease.expires_at):
            assert time.utcoffset() == timedelta(0)
            assert time - NOW <= timedelta(microseconds=1)
        assert beats.lease == lease


def overwrite(ledger: Ledger, uri: str, data: str) -> None:
    """Have a ledger hold any text as the record of a file."""
    if isinstance(ledger, SqliteLedger):
        with ledger._session(), ledger._transaction():
            ledger._db.execute("UPDATE files SET record = ? WHERE uri = ?", (data, uri))
    else:
        document = ledger._connection.client.document("files", uri_to_file_id(uri))
        document.update({"record": data})


class TestDamage:
    """One record that cannot be read costs one file."""

    @pytest.fixture(params=["{", "null", "of another format", "of another file"])
    def damaged(self, shared_shelf: Shelf, request) -> Iterator[Ledger]:
        """A ledger of four records, of which the third cannot be read."""
        ledger = shared_shelf.open()
        put(ledger, *(record(uri(n)) for n in range(4)))
        good = encode_record(record(uri(2))).decode()
        data = {
            "of another format": good.replace('"format":2', '"format":3'),
            "of another file": good.replace(uri(2), uri(3)),
        }.get(request.param, request.param)
        assert data != good
        overwrite(ledger, uri(2), data)
        yield ledger
        ledger.close()

    def test_it_is_read_as_damaged_and_the_others_as_they_are(self, damaged):
        found = damaged.read([uri(n) for n in range(4)])
        assert [s.record for s in found if s.damage is None] == [record(uri(n)) for n in (0, 1, 3)]
        assert found[2].record is None
        assert uri(2) in found[2].damage
        assert list(damaged.damage.reasons) == [uri(2)]

    @pytest.mark.parametrize("limit", [1, 2, 3, 10])
    def test_a_listing_leaves_it_out(self, damaged, limit):
        found = [r.uri for page in find_pages(damaged, Query(), limit=limit) for r in page]
        assert found == [uri(n) for n in (0, 1, 3)]
        assert list(damaged.damage.reasons) == [uri(2)]

    def test_it_is_logged_once_by_name(self, damaged, monkeypatch):
        records: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.emit = records.append
        monkeypatch.setattr(LOGGER, "handlers", [handler])
        for _ in range(2):
            damaged.read([uri(2)])
            damaged.find(Query())
        [logged] = [r.segue for r in records]
        assert (logged["action"], logged["file"]) == ("damaged", uri(2))

    def test_it_is_not_changed_unnoticed_and_the_others_are(self, damaged):
        changes = [
            Change(uri=uri(n), transition=lambda r: (evolve(r, size_bytes=9), None))
            for n in range(4)
        ]
        with pytest.raises(DamagedRecord, match=re.escape(uri(2))) as raised:
            damaged.change(changes)
        assert raised.value.uris == {uri(2)}
        found = damaged.read([uri(n) for n in range(4)])
        assert [s.record.size_bytes for s in found if s.record is not None] == [9, 9, 9]
        assert found[2].damage

    def test_whoever_has_seen_the_damage_may_record_the_file_anew(self, damaged):
        [seen] = damaged.read([uri(2)])
        anew = Change(uri=uri(2), known=seen, transition=lambda r: (record(uri(2)), r))
        [changed] = damaged.change([anew])
        assert changed.answer is None
        assert damaged.read([uri(2)])[0].record == record(uri(2))


@EMULATED
def test_all_stores_hold_the_same_bytes(tmp_path, firestore_url):
    full = record(uri(1), results={BEATS: entry(State.FAILED, error=None), OLD: entry(State.DONE)})
    one, other = connect_ledger(f"sqlite:///{tmp_path}/ledger.db"), connect_ledger(firestore_url)
    put(one, full)
    put(other, full)
    ((row,),) = one._db.execute("SELECT record FROM files").fetchall()
    (document,) = other._connection.client.collection("files").get()
    assert row == document.get("record").encode()
    one.close()
    other.close()


OPENERS = pytest.mark.parametrize("open_", [connect_ledger, open_ledger_to_read])


class TestNamespace:
    @OPENERS
    def test_a_ledger_of_another_one_is_refused_by_name(self, shared_shelf, open_):
        ledger = connect_ledger(shared_shelf.url, "moods")
        put(ledger, record(uri(1)))
        ledger.close()
        message = "belongs to namespace 'moods', and this graph is of 'platform'; set SEGUE_LEDGER"
        with pytest.raises(ConfigurationError, match=message):
            open_(shared_shelf.url, "platform").read([uri(1)])
        own = open_(shared_shelf.url, "moods")
        assert own.read([uri(1)])[0].record == record(uri(1))
        own.close()

    def test_it_is_refused_before_anything_is_written(self, shared_shelf):
        connected = connect_ledger(shared_shelf.url, "moods")
        assert connected.read([uri(1)])[0].record is None  # nothing was written, but it is owned
        for _ in range(2):  # each time
            with pytest.raises(ConfigurationError, match="belongs to namespace 'moods'"):
                put(connect_ledger(shared_shelf.url, "platform"), record(uri(1)))
        assert connected.read([uri(1)])[0].record is None
        connected.close()

    def test_the_graph_of_no_namespace_has_the_default_one(self, shared_shelf):
        connect_ledger(shared_shelf.url, "default").read([])
        default = connect_ledger(shared_shelf.url)
        put(default, record(uri(1)))
        default.close()
        with pytest.raises(ConfigurationError, match="belongs to namespace 'default'"):
            connect_ledger(shared_shelf.url, "moods").read([uri(1)])

    def test_whoever_only_reads_does_not_take_an_empty_ledger(self, shared_shelf):
        reader = open_ledger_to_read(shared_shelf.url, "platform")
        assert reader.read([uri(1)]) == [Snapshot(record=None)]
        assert reader.find(Query()) == []
        assert reader.count({}).files == 0
        reader.close()
        moods = connect_ledger(shared_shelf.url, "moods")
        put(moods, record(uri(1)))
        moods.close()

    def test_of_two_that_open_an_empty_ledger_at_once_one_gets_it(self, shared_shelf):
        barrier = threading.Barrier(4)
        refused = []

        def take(number: int) -> None:
            barrier.wait()
            try:
                ledger = connect_ledger(shared_shelf.url, f"team-{number % 2}")
                put(ledger, record(uri(number)))
            except ConfigurationError as error:
                refused.append((number, str(error)))
            else:
                ledger.close()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(take, range(4)))
        assert {number for number, _ in refused} in ({0, 2}, {1, 3})
        assert all("belongs to namespace" in message for _, message in refused)


class TestOlderFormat:
    @pytest.fixture
    def old(self, shared_shelf: Shelf) -> str:
        """The URL of a ledger as the first format had it."""
        assert shared_shelf.url is not None
        if shared_shelf.url.startswith("sqlite"):
            database = sqlite3.connect(shared_shelf.url.removeprefix("sqlite:///"))
            database.executescript(
                "CREATE TABLE files (uri TEXT PRIMARY KEY, record BLOB); PRAGMA user_version = 1"
            )
            database.close()
        else:
            document = {"uri": uri(1), "generation": 1, "deleted": False, "arrived_at": NOW}
            client = firestore.Client(project=shared_shelf.url.removeprefix("firestore://"))
            client.collection("files").document(uri_to_file_id(uri(1))).set(document)
            client.close()
        return shared_shelf.url

    @OPENERS
    def test_it_is_refused_and_the_error_says_how_to_start_a_new_one(self, old, open_):
        for use in (lambda x: x.read([uri(1)]), lambda x: put(x, record(uri(2)))):
            with pytest.raises(ConfigurationError) as raised:
                use(open_(old))
            message = str(raised.value)
            assert "use the Segue that wrote it, or start a new one: " in message
            (another,) = re.findall(r"set SEGUE_LEDGER=(\S+), then run 'segue backfill'$", message)
            assert another != old
            new = connect_ledger(another)
            assert new.find(Query()) == []
            new.close()


def test_what_known_files_lack_is_requested_page_by_page_and_once(ledger):
    found = [Record(uri=uri(number), version="1", order=1, arrived_at=NOW) for number in range(5)]
    done = Entry(job="beats", state=State.DONE, order=1, attempts=1)
    found[1] = evolve(found[1], results={BEATS: done})
    found[2] = evolve(found[2], deleted_at=NOW)
    ledger.change([Change(uri=one.uri, transition=lambda _, one=one: (one, None)) for one in found])
    queue = MemoryQueue()
    catch_up = CatchUp(graph=GRAPH, ledger=ledger, queue=queue, media_filter=MediaFilter(), page=2)
    for files in (4, 0):
        pages, after = [], ""
        while (page := catch_up.request_page(after)) is not None:
            pages.append(page.files)
            after = page.last
        assert sum(pages) == files
        assert len(pages) == 2
        assert len(queue.queued) == 4
    assert ledger.count(GRAPH.accepted).jobs["energy"]["queued"] == 4
