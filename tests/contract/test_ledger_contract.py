"""The contract of ledgers: one suite for the ledger in memory, in SQLite and in Firestore.

The Firestore emulator needs no composite index, so these tests cannot detect a missing one. It is
slow under contention, so races on it have few rounds.
"""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.adapters.connect import connect_ledger
from segue.adapters.sqlite_ledger import SqliteLedger
from segue.errors import ConfigurationError, DamagedRecord
from segue.log import LOGGER
from segue.model import transitions
from segue.model.graph import parse_graph
from segue.model.ledger import Change, Ledger, Query, Snapshot, find_pages
from segue.model.media_file import MediaFile, uri_to_file_id
from segue.model.planner import plan_line
from segue.model.record import Entry, Failure, Lease, Ping, Record, State, evolve
from segue.model.transitions import Arrival, Result
from segue_support.ledger import MemoryLedger

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
BEATS = GRAPH.fingerprints["beats"]
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


def media(uri: str, generation: int = 1) -> MediaFile:
    return MediaFile(uri=uri, generation=generation, size_bytes=3, content_type="audio/flac")


def record(uri: str, generation: int = 1, **changes) -> Record:
    return Record(uri=uri, generation=generation, arrived_at=NOW, **changes)


def entry(state: State, fingerprint: str = BEATS, **changes) -> Entry:
    return Entry(state=state, fingerprint=fingerprint, generation=1, **changes)


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


def with_beats(uri: str, state: State, fingerprint: str = BEATS, **changes) -> Record:
    return record(uri, jobs={"beats": entry(state, fingerprint)}, **changes)


def claiming(owner: str, now: datetime):
    """Return a transition that takes the lease on beats if it is free."""

    def transition(r: Record) -> tuple[Record | None, bool]:
        if not plan_line(GRAPH, r, ["beats"], now=now).run:
            return None, False
        return transitions.claim(r, GRAPH, ["beats"], owner=owner, now=now, lease_s=60), True

    return transition


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
            owners = {s.record.jobs["beats"].lease.owner for s in ledger.read(some)}
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
        assert get(ledger, uri(1)).jobs["beats"].attempts == 2

        before = ledger.read([uri(1)])
        results = [Result(job="beats", state=State.DONE, artifact="gs://a/late")]
        settle = lambda r: transitions.settle(r, generation=1, owner="the-dead", results=results)  # noqa: E731
        assert change(ledger, uri(1), settle).answer.lost == ("beats",)
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
        def arrive(generation):
            arrived = lambda r: transitions.arrive(r, media(uri(1), generation), NOW)  # noqa: E731
            return change(ledger, uri(1), arrived).answer

        assert [arrive(g) for g in (2, 2, 1, 3, 2)] == [
            "new",
            "duplicate",
            "stale",
            "newer",
            "stale",
        ]
        assert get(ledger, uri(1)) == transitions.arrive(None, media(uri(1), 3), NOW)[0]

    def test_a_newer_generation_drops_results_and_keeps_pending_targets(self, ledger):
        pending = entry(
            State.RUNNING, pending_targets=("energy",), lease=Lease(owner="w", expires_at=NOW)
        )
        jobs = {"beats": pending, "energy": entry(State.DONE, artifact="gs://a/old")}
        put(ledger, record(uri(1), jobs=jobs))
        change(ledger, uri(1), lambda r: transitions.arrive(r, media(uri(1), 2), NOW))
        queued = Entry(state=State.QUEUED, fingerprint=BEATS, generation=2)
        beats = evolve(queued, pending_targets=("energy",), pending_at=NOW)
        assert get(ledger, uri(1)).jobs == {"beats": beats}

    def test_a_deletion_leaves_a_tombstone_that_only_a_newer_version_lifts(self, ledger):
        put(ledger, record(uri(1), generation=2))
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
        for generation in (1, 2):
            late = lambda r, g=generation: transitions.arrive(r, media(uri(1), g), NOW)  # noqa: E731
            assert change(ledger, uri(1), late).answer is Arrival.STALE
        assert get(ledger, uri(1)).deleted_at == NOW

    def test_a_ping_leaves_its_trace_and_the_latest_stays(self, ledger):
        put(ledger, with_beats(uri(1), State.DONE))
        for request in ("r2", "r1"):
            ping = lambda r, id_=request: transitions.record_ping(  # noqa: E731
                r, generation=1, job="beats", request=id_, now=NOW
            )
            change(ledger, uri(1), ping)
        traces = {"beats": Ping(request="r2", at=NOW)}
        assert get(ledger, uri(1)) == with_beats(uri(1), State.DONE, pings=traces)
        assert ledger.count({"beats": [BEATS]}).jobs["beats"]["done"] == 1

    def test_a_result_is_settled_once_and_returns_pending_targets(self, ledger):
        snapshot = change(
            ledger, uri(1), lambda r: transitions.arrive(r, media(uri(1)), NOW)
        ).snapshot
        wanted = lambda r: (transitions.add_pending(r, GRAPH, "beats", ["energy"], NOW), None)  # noqa: E731
        snapshot = change(ledger, uri(1), wanted, snapshot).snapshot
        snapshot = change(ledger, uri(1), claiming("w", NOW), snapshot).snapshot
        results = [Result(job="beats", state=State.DONE, artifact="gs://a/b", checksum="sha256:0")]
        settle = lambda r: transitions.settle(r, generation=1, owner="w", results=results)  # noqa: E731
        first, second = change(ledger, uri(1), settle, snapshot), change(ledger, uri(1), settle)
        assert first.answer.pending_targets == {"beats": ("energy",)}
        assert second.answer.lost == ("beats",)
        assert transitions.is_current(GRAPH, get(ledger, uri(1)), "beats")

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
        states = ["queued", "running", "done", "failed", "blocked", "stale"]
        assert (counts.files, counts.deleted) == (0, 0)
        assert counts.jobs == {"beats": dict.fromkeys(states, 0)}

    def test_entries_are_counted_by_state_and_done_ones_by_fingerprint(self, ledger):
        states = [*State] * 3 + [State.FAILED] * 4
        put(ledger, *(with_beats(uri(i), s) for i, s in enumerate(states)))
        prints = [f"{i:012x}" for i in range(70)]  # more than one query may compare with
        put(
            ledger,
            *(with_beats(uri(100 + i), State.DONE, p) for i, p in enumerate(prints)),
            *(with_beats(uri(200 + i), State.DONE, f"{i:012d}dead"[-12:]) for i in range(5)),
            *(with_beats(uri(300 + i), State.FAILED, "00000000dead") for i in range(2)),
            record(uri(400)),
        )
        counts = ledger.count({"beats": iter([BEATS, *prints]), "energy": ["ffffffffffff"]})
        assert counts.files == 19 + 70 + 5 + 2 + 1
        beats = {"queued": 3, "running": 3, "done": 73, "failed": 9, "blocked": 3, "stale": 5}
        assert counts.jobs == {"beats": beats, "energy": dict.fromkeys(beats, 0)}

    def test_tombstones_are_counted_apart_and_their_entries_not_at_all(self, ledger):
        put(
            ledger,
            with_beats(uri(1), State.DONE),
            *(with_beats(uri(2 + i), s, deleted_at=NOW) for i, s in enumerate(State)),
            with_beats(uri(9), State.DONE, "00000000dead", deleted_at=NOW),
        )
        counts = ledger.count({"beats": [BEATS]})
        assert (counts.files, counts.deleted) == (1, 6)
        beats = {"queued": 0, "running": 0, "done": 1, "failed": 0, "blocked": 0, "stale": 0}
        assert counts.jobs == {"beats": beats}

    def test_counts_follow_changes(self, ledger):
        put(ledger, *(with_beats(uri(i), State.RUNNING) for i in range(10)))
        put(ledger, *(with_beats(uri(i), State.DONE) for i in range(4)))
        put(ledger, record(uri(9), generation=2))
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

    def test_states_and_tombstones_are_selected(self, ledger):
        put(
            ledger,
            with_beats(uri(1), State.FAILED),
            with_beats(uri(2), State.DONE),
            with_beats(uri(3), State.FAILED, deleted_at=NOW),
            record(uri(4), jobs={"energy": entry(State.FAILED)}),
            record(uri(5), deleted_at=NOW),
        )
        expected = {
            Query(): [1, 2, 3, 4, 5],
            Query(deleted=False): [1, 2, 4],
            Query(deleted=True): [3, 5],
            Query(job="beats"): [1, 2, 3],
            Query(job="beats", state=State.FAILED): [1, 3],
            Query(job="beats", state=State.FAILED, deleted=False): [1],
            Query(job="beats", state=State.BLOCKED): [],
            Query(job="energy", state=State.FAILED, prefix=uri(4)): [4],
            Query(job="energy", state=State.FAILED, prefix=uri(1)): [],
        }
        for query, numbers in expected.items():
            assert found(ledger, query, limit=2) == [uri(n) for n in numbers], query

    def test_records_with_pending_targets_are_selected(self, ledger):
        waiting = entry(State.RUNNING, pending_targets=("energy",))
        put(
            ledger,
            with_beats(uri(1), State.RUNNING),
            record(uri(2), jobs={"beats": waiting}),
            record(uri(3), jobs={"beats": entry(State.DONE, pending_targets=("*",))}),
            record(uri(4), jobs={"beats": waiting}, deleted_at=NOW),
            record(uri(5), jobs={"beats": entry(State.DONE), "energy": waiting}),
            record(uri(6)),
        )
        expected = {
            Query(pending=True): [2, 3, 4, 5],
            Query(pending=True, deleted=False): [2, 3, 5],
            Query(pending=True, deleted=True): [4],
            Query(pending=True, prefix=uri(3)): [3],
            Query(pending=True, job="energy"): [5],
            Query(pending=True, job="beats", state=State.RUNNING): [2, 4],
        }
        for query, numbers in expected.items():
            assert found(ledger, query, limit=2) == [uri(n) for n in numbers], query

    def test_a_record_is_not_selected_once_its_targets_are_cleared(self, ledger):
        put(ledger, with_beats(uri(1), State.DONE), with_beats(uri(2), State.DONE))
        want = lambda r: (transitions.add_pending(r, GRAPH, "beats", ["energy"], NOW), None)  # noqa: E731
        clear = lambda r: transitions.clear_pending(  # noqa: E731
            r, generation=1, targets={"beats": ["energy"]}, now=NOW
        )
        change(ledger, uri(1), want)
        assert found(ledger, Query(pending=True)) == [uri(1)]
        assert ledger.count({"beats": [BEATS]}).jobs["beats"]["done"] == 2
        change(ledger, uri(1), clear)
        assert found(ledger, Query(pending=True)) == []


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
times = st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
whole = st.integers(0, 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False).map(
    lambda x: x + 0.0  # Firestore has one zero
)
fingerprints = st.text("0123456789abcdef", min_size=12, max_size=12)
job_names = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
entries = st.builds(
    Entry,
    state=st.sampled_from(State),
    fingerprint=fingerprints,
    generation=whole,
    artifact=st.none() | texts,
    checksum=st.none() | texts,
    attempts=whole,
    error=st.none() | st.builds(Failure, kind=texts, type=texts, message=texts),
    lease=st.none() | st.builds(Lease, owner=texts, expires_at=times),
    pending_targets=st.lists(texts, max_size=3).map(tuple),
    pending_at=st.none() | times,
    request=st.none() | texts,
    started_at=st.none() | times,
    seconds=st.none() | numbers,
    cpu_seconds=st.none() | numbers,
)
# A tombstone's document says when it may be removed, which must be a date, too.
deletions = st.datetimes(datetime(1970, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
records = st.builds(
    Record,
    uri=texts.map(lambda name: f"gs://acme-audio/{name}"),
    generation=whole,
    size_bytes=whole,
    content_type=st.none() | texts,
    checksum=st.none() | texts,
    arrived_at=times,
    deleted_at=st.none() | deletions,
    jobs=st.dictionaries(job_names, entries, max_size=4),
    pings=st.dictionaries(job_names, st.builds(Ping, request=texts, at=times), max_size=4),
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
        for made, of in ((records, Record), (entries, Entry)):
            assert set(made.wrapped_strategy.kwargs) == set(of.__struct_fields__)

    def test_times_stay_aware_and_exact(self, ledger):
        lease = Lease(owner="w", expires_at=NOW + timedelta(microseconds=1))
        jobs = {"beats": entry(State.RUNNING, lease=lease, started_at=NOW)}
        put(ledger, record(uri(1), jobs=jobs, deleted_at=NOW))
        back = get(ledger, uri(1))
        beats = back.jobs["beats"]
        for time in (back.arrived_at, back.deleted_at, beats.started_at, beats.lease.expires_at):
            assert time.utcoffset() == timedelta(0)
            assert time - NOW <= timedelta(microseconds=1)
        assert back.jobs["beats"].lease == lease


class TestDamage:
    """One record that cannot be read costs one file."""

    @pytest.fixture
    def damaged(self, shared_shelf: Shelf) -> Iterator[Ledger]:
        """A ledger of four records, of which the third cannot be read."""
        ledger = shared_shelf.open()
        changes = [
            Change(uri=uri(n), transition=lambda _, n=n: (record(uri(n)), None)) for n in range(4)
        ]
        ledger.change(changes)
        if isinstance(ledger, SqliteLedger):
            with ledger._session(), ledger._transaction():
                ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (uri(2),))
        else:
            document = ledger._connection.client.document("files", uri_to_file_id(uri(2)))
            document.update({"generation": "no number"})
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
