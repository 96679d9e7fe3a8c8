"""Erasing a file in one namespace, at any interruption, and looking for what is left in others."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import timedelta

import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.clock import utc_now
from segue.errors import Unavailable
from segue.ingest.sweep import Sweeper
from segue.maintenance import erasure
from segue.maintenance.erasure import (
    Eraser,
    FileState,
    Place,
    find_below,
    follow,
    inspect_all,
    open_places,
)
from segue.maintenance.garbage import GarbageCollector
from segue.model.artifact import Lineage, build_artifact_name
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.manifest import Manifest, PublishedJob
from segue.model.message import decode_message
from segue.model.record import NOBODY, Entry, Record, State, evolve
from segue.model.transitions import claim
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue
from segue_support.simulator.store import MemoryStore

URI = "gs://music/a.wav"
GRAPH = parse_graph(
    """
namespace: platform
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json, publish: true}
  b: {run: "m:f", needs: {x: a}, writes: application/json, publish: true}
  c: {run: "m:f", needs: {x: a}, writes: application/json}
"""
)
OLD = "0" * 12


class Killed(BaseException):
    """The process is killed here."""


class Namespace:
    """A ledger, artifacts and a queue, whose calls are counted, and any of which may be the last.

    A call that is the last one is either made, and its effect stays, or not.
    """

    def __init__(self) -> None:
        self.ledger, self.artifacts, self.queue = (
            MemoryLedger(),
            MemoryStore("gs://o"),
            MemoryQueue(),
        )
        entries = {
            f: Entry(job=job, state=State.DONE, order=5, checksums={"json": ""})
            for job, f in (*GRAPH.fingerprints.items(), ("a", OLD))
        }
        record = Record(uri=URI, version="5", order=5, arrived_at=utc_now(), results=entries)
        self.ledger.change([Change(uri=URI, transition=lambda _: (record, None))])
        for job, made, version in (
            *((job, made, "5") for job, made in GRAPH.fingerprints.items()),
            ("a", OLD, "5"),
            ("a", OLD, "4"),
            ("removed", "1" * 12, "3"),
        ):
            self.write(job, made, version)
        self.other = self.write("a", OLD, "5", "gs://music/b.wav")

    def write(self, job: str, made: str, version: str, uri: str = URI) -> str:
        name = build_artifact_name(job, made, uri.rpartition("/")[2], version, "json")
        lineage = Lineage(job=job, fingerprint=made, uri=uri, version=version)
        self.artifacts.create(
            name, b"{}", content_type="application/json", metadata=lineage.to_metadata()
        )
        return name

    @property
    def eraser(self) -> Eraser:
        return Eraser(graph=GRAPH, ledger=self.ledger, artifacts=self.artifacts, queue=self.queue)

    @property
    def place(self) -> Place:
        return Place(
            namespace="platform", is_own=True, ledger=self.ledger, artifacts=self.artifacts
        )

    @property
    def events(self) -> list[str]:
        found = [(e.topic, decode_message(e.data)) for e in self.queue.queued.values()]
        assert all(m.is_erased and m.is_deleted and m.uri == URI for _, m in found)
        return [topic for topic, _ in found]


def test_everything_of_a_file_goes_and_others_are_told():
    one = Namespace()
    before = one.place.inspect(URI)
    assert (before.state, len(before.artifacts)) == (FileState.PRESENT, 6)
    one.eraser.erase(URI)
    assert one.place.inspect(URI).state is FileState.ERASED
    assert one.place.is_done(one.place.inspect(URI))
    assert [found.name for found in one.artifacts.list()] == [one.other]
    assert one.events == ["source", "done-a", "done-b"]
    assert one.ledger.records[URI].results == {}


@pytest.mark.parametrize("is_made", [False, True])
@pytest.mark.parametrize("last", range(1, 16))
def test_a_run_that_was_killed_at_any_point_is_repaired_by_another(monkeypatch, last, is_made):
    one, calls = Namespace(), 0

    def count(call):
        def counted(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == last and not is_made:
                raise Killed
            result = call(*arguments, **options)
            if calls == last:
                raise Killed
            return result

        return counted

    with monkeypatch.context() as patched:
        for port, name in (
            (one.ledger, "read"),
            (one.ledger, "change"),
            (one.ledger, "sync"),
            (one.artifacts, "delete"),
            (one.artifacts, "sync"),
            (one.queue, "publish"),
            (one.queue, "sync"),
        ):
            patched.setattr(port, name, count(getattr(port, name)))
        is_over = False
        try:
            one.eraser.erase(URI)
            is_over = True
        except Killed:
            pass
    assert is_over == (calls < last)
    if not is_over:
        one.eraser.erase(URI)
    assert one.place.is_done(one.place.inspect(URI))
    assert {*one.events} == {"source", "done-a", "done-b"}
    assert [found.name for found in one.artifacts.list()] == [one.other]


def test_what_is_here_goes_even_if_nobody_can_be_told(monkeypatch):
    one = Namespace()

    def fail(_envelopes):
        raise Unavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(one.queue, "publish", fail)
        with pytest.raises(Unavailable):
            one.eraser.erase(URI)
    assert one.place.is_done(one.place.inspect(URI))
    assert one.events == []
    one.eraser.erase(URI)
    assert one.events == ["source", "done-a", "done-b"]


def test_a_file_that_is_not_known_gets_a_tombstone():
    one = Namespace()
    uri = "gs://music/unknown.wav"
    assert one.place.inspect(uri).state is FileState.UNKNOWN
    assert not one.place.is_done(one.place.inspect(uri))
    one.eraser.erase(uri)
    assert one.place.is_done(one.place.inspect(uri))


def test_what_runs_in_a_process_that_is_alive_is_waited_for():
    one = Namespace()
    now = utc_now()

    def hold(found):
        held = claim(found, GRAPH, ["a"], owner="elsewhere", now=now, lease_s=600)
        return claim(held, GRAPH, ["b"], owner="expired", now=now, lease_s=-1), None

    one.ledger.change([Change(uri=URI, transition=hold)])
    one.eraser.erase(URI)
    trace = one.place.inspect(URI)
    assert (trace.state, trace.running) == (FileState.RUNNING, ("a",))
    assert not one.place.is_done(trace)

    def end(_seconds):
        one.write("a", GRAPH.fingerprints["a"], "5")  # before its worker is killed
        gone = {OLD: Entry(job="a", state=State.QUEUED, order=5)}
        change = Change(uri=URI, transition=lambda r: (evolve(r, results=gone), None))
        one.ledger.change([change])

    shown: list[tuple[str, ...]] = []
    left = follow(one.eraser, [one.place], [URI], timeout_s=60, show=shown.append, sleep=end)
    assert one.place.is_done(left[URI, "platform"])
    assert shown == [("platform",)]


def test_the_sweep_and_garbage_collection_leave_the_tombstone_alone():
    one = Namespace()

    def want(found):
        wanted = {f: evolve(e, notify=(NOBODY,)) for f, e in found.results.items()}
        return evolve(found, results=wanted), None

    one.ledger.change([Change(uri=URI, transition=want)])
    one.eraser.erase(URI)
    tombstone = one.ledger.records[URI]
    late = one.write("a", OLD, "9")  # of a worker that was killed then
    later = utc_now() + timedelta(days=400)
    queue = MemoryQueue()
    swept = Sweeper(graph=GRAPH, ledger=one.ledger, queue=queue, clock=lambda: later).run()
    assert (swept.messages, queue.queued) == (0, {})
    collector = GarbageCollector(
        graph=GRAPH, ledger=one.ledger, artifacts=one.artifacts, before=later
    )
    removed = [found.artifact.object.name for found in collector.collect(collector.find())]
    assert removed == [late, one.other]  # the other file is unknown here
    assert one.ledger.records[URI] is tombstone


# --- other namespaces ---------------------------------------------------------------------------


def publish(
    namespace: str,
    *jobs: str,
    pins: tuple[str, ...] = (),
    source: str | None = None,
    folder: str = "",
) -> Manifest:
    published = PublishedJob(fingerprint=OLD, writes="application/json", pipeline="p")
    return Manifest(
        namespace=namespace,
        contact=f"{namespace}@example.org",
        ledger=f"sqlite:///{folder}/{namespace}.db",
        queue=f"sqlite:///{folder}/{namespace}-queue.db",
        artifacts=f"file://{folder}/{namespace}",
        jobs=dict.fromkeys(jobs, published),
        pins=dict.fromkeys(pins, OLD),
        source_namespace=source,
    )


def test_below_is_whoever_is_locked_to_what_is_published_there_and_so_on():
    manifests = [
        publish("platform", "a", pins=("loop/x",)),
        publish("moods", "mood", pins=("platform/a",)),
        publish("charts", pins=("moods/mood",)),
        publish("unpublished", pins=("platform/c",)),
        publish("gone", pins=("moods/removed",)),
        publish("beside", "x"),
        publish("loop", "x", pins=("beside/x", "platform/b")),
        publish("reader", "y", source="platform"),
        publish("under", pins=("reader/y",)),
        publish("far", source="moods"),  # which passes on what its jobs have finished
    ]
    found = find_below(GRAPH, {m.namespace: m for m in manifests})
    assert found == {"moods", "charts", "loop", "reader", "under"}


@pytest.fixture
def places(tmp_path):
    """The own namespace, one below it, one beside it, and one without a ledger."""
    one = Namespace()
    manifests = {
        "moods": publish("moods", "mood", pins=("platform/a",), folder=str(tmp_path)),
        "beside": publish("beside", "x", folder=str(tmp_path)),
        "empty": publish("empty", "x", folder=str(tmp_path)),
        "platform": publish("platform", "a", folder=str(tmp_path)),
    }
    for name in ("moods", "beside"):
        ledger = connect_ledger(manifests[name].ledger, name)
        record = Record(uri=URI, version="5", order=5, arrived_at=utc_now())
        ledger.change([Change(uri=URI, transition=lambda _, record=record: (record, None))])
        ledger.close()
        store = connect_store(manifests[name].artifacts)
        store.create(
            build_artifact_name("x", OLD, "a.wav", "5", "json"),
            b"{}",
            content_type="application/json",
            metadata={},
        )
    with ExitStack() as opened:
        found = opened.enter_context(open_places(GRAPH, one.ledger, one.artifacts, manifests))
        yield one, found, manifests


def test_each_namespace_is_looked_into(places):
    _, found, _ = places
    assert [(p.namespace, p.is_own, p.is_below) for p in found] == [
        ("platform", True, False),
        ("beside", False, False),
        ("empty", False, False),
        ("moods", False, True),
    ]
    traces = inspect_all(found, [URI])
    assert {name: (t.state, len(t.artifacts)) for (_, name), t in traces.items()} == {
        "platform": ("present", 6),
        "beside": ("present", 1),
        "empty": ("unknown", 0),
        "moods": ("present", 1),
    }
    assert [p.namespace for p in found if p.is_done(traces[URI, p.namespace])] == ["empty"]


def test_those_below_are_waited_for_and_no_others(places):
    one, found, manifests = places
    one.eraser.erase(URI)
    waits: list[float] = []

    def reach(seconds):
        waits.append(seconds)
        with ExitStack() as opened:
            ledger = connect_ledger(manifests["moods"].ledger, "moods")
            opened.callback(ledger.close)
            store = connect_store(manifests["moods"].artifacts)
            Eraser(graph=GRAPH, ledger=ledger, artifacts=store, queue=None).erase(URI)

    shown: list[tuple[str, ...]] = []
    left = follow(one.eraser, found, [URI], timeout_s=60, show=shown.append, sleep=reach)
    assert (len(waits), shown) == (1, [("moods",)])
    done = [p.namespace for p in found if p.is_done(left[URI, p.namespace])]
    assert done == ["platform", "empty", "moods"]


def test_the_wait_ends(places, monkeypatch):
    one, found, _ = places
    one.eraser.erase(URI)
    now = iter(range(100))
    monkeypatch.setattr(erasure.time, "monotonic", lambda: float(next(now)))
    left = follow(one.eraser, found, [URI], timeout_s=3, sleep=lambda _: None)
    assert left[URI, "moods"].state is FileState.PRESENT


def test_a_namespace_that_cannot_be_read_is_named_and_does_not_keep_the_others(places):
    one, found, manifests = places
    path = manifests["moods"].ledger.removeprefix("sqlite:///")
    with open(path, "wb") as file:
        file.write(b"not a database, but long enough to be taken for one" * 20)
    one.eraser.erase(URI)
    left = follow(one.eraser, found, [URI], timeout_s=0)
    assert left[URI, "platform"].state is FileState.ERASED
    assert left[URI, "moods"].state is FileState.UNREADABLE
    assert "moods.db" in left[URI, "moods"].reason
