"""The delivery of events: in order, until each is accepted, and no more of them than needed."""

from __future__ import annotations

import os
import threading
from collections import deque
from datetime import UTC, datetime

import pytest
from cloudevents.http import from_http

from segue.adapters.connect import connect_ledger, connect_store
from segue.backoff import Backoff
from segue.errors import Unavailable
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.transitions import arrive, delete
from segue_cli.local import event_delivery
from segue_cli.local.cloud_events import Refused, build_finalized_event
from segue_cli.local.event_delivery import ARRIVAL, DELETION, EventBuilder, EventDelivery
from segue_functions.events import FINALIZED, MalformedEvent, parse_media

PATIENCE_S = 20.0
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path):
    made = connect_ledger(f"sqlite:///{tmp_path}/ledger.db")
    yield made
    made.close()


@pytest.fixture
def lost():
    return []


@pytest.fixture
def builder(ledger, lost):
    return EventBuilder(connect_store("file:///"), ledger, is_lost=lambda: bool(lost))


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.wav"
    path.write_bytes(b"sound")
    return path


def record_version(ledger, path, generation: int) -> MediaFile:
    """Record a version of a file in the ledger."""
    media = MediaFile(uri=f"file://{path}", generation=generation)
    ledger.change([Change(uri=media.uri, transition=lambda r: (arrive(r, media, NOW)[0], None))])
    return media


def test_an_existing_file_arrives_in_its_current_version(builder, song):
    to, media = builder.build(str(song))
    found = song.stat()
    assert to == ARRIVAL
    assert media.uri == f"file://{song}"
    assert (media.generation, media.size_bytes) == (found.st_ctime_ns, 5)
    assert media.content_type.startswith("audio/")


def test_a_deleted_file_is_reported_in_the_recorded_version(builder, ledger, song):
    record_version(ledger, song, 17)
    song.unlink()
    to, media = builder.build(str(song))
    assert (to, media.generation) == (DELETION, 17)


def test_a_missing_file_without_a_record_has_no_event(builder, ledger, song):
    song.unlink()
    assert builder.build(str(song)) is None
    media = record_version(ledger, song, 17)
    ledger.change([Change(uri=media.uri, transition=lambda r: (delete(r, media, NOW)[0], None))])
    assert builder.build(str(song)) is None


def test_files_of_a_missing_catalogue_are_not_deleted(builder, ledger, song, lost):
    record_version(ledger, song, 17)
    song.unlink()
    lost.append(True)
    assert builder.build(str(song)) is None


def test_a_name_that_is_not_text_is_sent_once_and_never_looked_up(builder, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")
    with open(path, "wb") as file:
        file.write(b"sound")
    _, media = builder.build(path)
    event = build_finalized_event(media, now=NOW)
    received = from_http(event.build_headers(), event.encode_body())
    with pytest.raises(MalformedEvent, match="rename the file"):
        parse_media(received, FINALIZED)
    os.unlink(path)
    assert builder.build(path) is None


def test_a_folder_in_place_of_a_file_has_no_event(builder, ledger, song):
    record_version(ledger, song, 17)
    song.unlink()
    song.mkdir()
    assert builder.build(str(song)) is None


class Function:
    """Stands in for a poster: raises the given answers first, then accepts events."""

    def __init__(self):
        self.answers: deque[Exception] = deque()
        self.got: list[tuple[str, str, str]] = []
        self.at_once: list[int] = []
        self.in_progress: dict[str, int] = {}
        self.hold = threading.Event()
        self.hold.set()
        self.changes = threading.Condition()

    def poster(self, _address):
        return self

    def post(self, to, event):
        name = str(event.data["name"])
        with self.changes:
            self.in_progress[name] = self.in_progress.get(name, 0) + 1
            self.at_once.append(self.in_progress[name])
            self.changes.notify_all()
        try:
            assert self.hold.wait(PATIENCE_S)
            with self.changes:
                if self.answers:
                    raise self.answers.popleft()
                self.got.append((to, name.rpartition("/")[2], str(event.data["generation"])))
        finally:
            with self.changes:
                self.in_progress[name] -= 1
                self.changes.notify_all()

    def close(self):
        pass

    def wait(self, condition):
        with self.changes:
            assert self.changes.wait_for(condition, PATIENCE_S), self.got


@pytest.fixture
def function(monkeypatch):
    made = Function()
    monkeypatch.setattr(event_delivery, "EventPoster", made.poster)
    return made


@pytest.fixture
def delivered():
    return []


@pytest.fixture
def delivery(builder, function, delivered):
    made = EventDelivery(builder, address=lambda: ("127.0.0.1", 1), on_delivered=delivered.append)
    made.start()
    yield made
    function.hold.set()
    made.stop()


def test_all_files_arrive(delivery, function, tmp_path):
    for number in range(100):
        (tmp_path / f"{number}.wav").write_bytes(b"sound")
        assert delivery.put(str(tmp_path / f"{number}.wav"))
    function.wait(lambda: len(function.got) == 100)
    assert {name for _, name, _ in function.got} == {f"{n}.wav" for n in range(100)}


def test_an_event_is_sent_until_it_is_accepted(delivery, function, song, delivered):
    function.answers += [Unavailable("away"), Unavailable("still away")]
    delivery.put(str(song))
    function.wait(lambda: len(function.got) == 1)
    delivery.stop()
    assert [d.refused for d in delivered] == [None]


def test_a_refused_event_is_dropped_and_reported(builder, function, song, delivered):
    made = EventDelivery(
        builder, address=lambda: ("127.0.0.1", 1), on_delivered=delivered.append, connections=1
    )
    function.answers.append(Refused("no"))
    (song.parent / "next.wav").write_bytes(b"sound")
    made.put(str(song))
    made.put(str(song.parent / "next.wav"))
    made.start()
    function.wait(lambda: len(function.got) == 1)
    made.stop()
    assert {d.uri: d.refused for d in delivered} == {
        f"file://{song}": "no",
        f"file://{song.parent}/next.wav": None,
    }


def test_a_file_whose_event_is_never_accepted_blocks_no_other(
    builder, function, song, delivered, monkeypatch
):
    monkeypatch.setattr(event_delivery, "BACKOFF", Backoff(0.01, 0.01))
    made = EventDelivery(
        builder, address=lambda: ("127.0.0.1", 1), on_delivered=delivered.append, connections=1
    )
    post = function.post

    def refuse(to, event):
        if str(event.data["name"]).endswith("song.wav"):
            raise Unavailable("a fault of the function")
        post(to, event)

    monkeypatch.setattr(function, "post", refuse)
    (song.parent / "other.wav").write_bytes(b"sound")
    made.put(str(song))
    made.put(str(song.parent / "other.wav"))
    made.start()
    function.wait(lambda: [name for _, name, _ in function.got] == ["other.wav"])
    made.stop()
    assert made.backlog == 1


def test_events_of_one_file_are_never_in_progress_together(delivery, function, song):
    function.hold.clear()
    delivery.put(str(song))
    function.wait(lambda: len(function.at_once) == 1)
    first = song.stat().st_ctime_ns
    while song.stat().st_ctime_ns == first:  # the clock of a file system is coarse
        song.write_bytes(b"other")
    delivery.put(str(song))
    delivery.put(str(song))
    function.hold.set()
    function.wait(lambda: len(function.got) == 2)
    assert max(function.at_once) == 1
    assert [int(g) for _, _, g in function.got] == [first, song.stat().st_ctime_ns]


def test_a_version_is_sent_once_unless_again_is_set(delivery, function, song):
    delivery.put(str(song))
    function.wait(lambda: len(function.got) == 1)
    delivery.put(str(song))
    delivery.put(str(song), again=True)
    function.wait(lambda: len(function.got) == 2)
    delivery.stop()
    assert len(function.got) == 2


def test_no_more_files_wait_than_the_limit(builder, function, song, monkeypatch):
    monkeypatch.setattr(event_delivery, "LIMIT", 2)
    made = EventDelivery(
        builder, address=lambda: ("127.0.0.1", 1), on_delivered=print
    )  # not started
    assert made.put("/a")
    assert made.put("/b")
    assert made.put("/b")
    assert not made.put("/c")
    assert made.backlog == 2
