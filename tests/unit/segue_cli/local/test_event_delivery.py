"""The delivery of events: in order, until each is taken, and no more of them than needed."""

from __future__ import annotations

import os
import threading
from collections import deque
from datetime import UTC, datetime

import pytest
from cloudevents.http import from_http

from segue.adapters.connect import connect_ledger, connect_store
from segue.errors import Unavailable
from segue.model.ledger import Change, arrive, delete
from segue.model.media_file import MediaFile
from segue_cli.local import event_delivery
from segue_cli.local.cloud_events import Refused, finalized
from segue_cli.local.event_delivery import ARRIVAL, DELETION, Delivery, EventMaker
from segue_functions.events import FINALIZED, MalformedEvent, media_of

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
def maker(ledger, lost):
    return EventMaker(connect_store("file:///"), ledger, is_lost=lambda: bool(lost))


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.wav"
    path.write_bytes(b"sound")
    return path


def known(ledger, path, generation: int) -> MediaFile:
    """Let the ledger know a version of a file."""
    media = MediaFile(uri=f"file://{path}", generation=generation)
    ledger.change([Change(uri=media.uri, transition=lambda r: (arrive(r, media, NOW)[0], None))])
    return media


def test_a_file_that_is_there_arrives_as_it_is(maker, song):
    to, media = maker.event(str(song))
    found = song.stat()
    assert to == ARRIVAL
    assert media.uri == f"file://{song}"
    assert (media.generation, media.size_bytes) == (found.st_ctime_ns, 5)
    assert media.content_type.startswith("audio/")


def test_a_file_that_is_gone_is_deleted_in_the_version_that_the_ledger_knows(maker, ledger, song):
    known(ledger, song, 17)
    song.unlink()
    to, media = maker.event(str(song))
    assert (to, media.generation) == (DELETION, 17)


def test_of_a_file_that_nobody_knew_there_is_nothing_to_tell(maker, ledger, song):
    song.unlink()
    assert maker.event(str(song)) is None
    media = known(ledger, song, 17)
    ledger.change([Change(uri=media.uri, transition=lambda r: (delete(r, media, NOW)[0], None))])
    assert maker.event(str(song)) is None


def test_files_of_a_catalogue_that_is_away_are_not_gone(maker, ledger, song, lost):
    known(ledger, song, 17)
    song.unlink()
    lost.append(True)
    assert maker.event(str(song)) is None


def test_a_name_that_is_no_text_is_told_once_and_never_asked_for(maker, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")
    with open(path, "wb") as file:
        file.write(b"sound")
    _, media = maker.event(path)
    received = from_http(finalized(media, now=NOW).headers(), finalized(media, now=NOW).body())
    with pytest.raises(MalformedEvent, match="rename the file"):
        media_of(received, FINALIZED)
    os.unlink(path)
    assert maker.event(path) is None


def test_a_folder_in_a_files_place_is_nothing_to_tell(maker, ledger, song):
    known(ledger, song, 17)
    song.unlink()
    song.mkdir()
    assert maker.event(str(song)) is None


class Function:
    """Takes events in place of a poster; each answer that was given is raised first."""

    def __init__(self):
        self.answers: deque[Exception] = deque()
        self.got: list[tuple[str, str, str]] = []
        self.at_once: list[int] = []
        self.under_way: dict[str, int] = {}
        self.hold = threading.Event()
        self.hold.set()
        self.changes = threading.Condition()

    def poster(self, _address):
        return self

    def post(self, to, event):
        name = str(event.data["name"])
        with self.changes:
            self.under_way[name] = self.under_way.get(name, 0) + 1
            self.at_once.append(self.under_way[name])
            self.changes.notify_all()
        try:
            assert self.hold.wait(PATIENCE_S)
            with self.changes:
                if self.answers:
                    raise self.answers.popleft()
                self.got.append((to, name.rpartition("/")[2], str(event.data["generation"])))
        finally:
            with self.changes:
                self.under_way[name] -= 1
                self.changes.notify_all()

    def close(self):
        pass

    def wait(self, condition):
        with self.changes:
            assert self.changes.wait_for(condition, PATIENCE_S), self.got


@pytest.fixture
def function(monkeypatch):
    made = Function()
    monkeypatch.setattr(event_delivery, "Poster", made.poster)
    return made


@pytest.fixture
def told():
    return []


@pytest.fixture
def delivery(maker, function, told):
    made = Delivery(maker, address=lambda: ("127.0.0.1", 1), told=told.append)
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


def test_an_event_is_sent_until_it_is_taken(delivery, function, song, told):
    function.answers += [Unavailable("away"), Unavailable("still away")]
    delivery.put(str(song))
    function.wait(lambda: len(function.got) == 1)
    delivery.stop()
    assert [d.refused for d in told] == [None]


def test_an_event_that_is_refused_is_dropped_and_told(maker, function, song, told):
    made = Delivery(maker, address=lambda: ("127.0.0.1", 1), told=told.append, connections=1)
    function.answers.append(Refused("no"))
    (song.parent / "next.wav").write_bytes(b"sound")
    made.put(str(song))
    made.put(str(song.parent / "next.wav"))
    made.start()
    function.wait(lambda: len(function.got) == 1)
    made.stop()
    assert {d.uri: d.refused for d in told} == {
        f"file://{song}": "no",
        f"file://{song.parent}/next.wav": None,
    }


def test_a_file_whose_event_is_never_taken_holds_up_no_other(
    maker, function, song, told, monkeypatch
):
    monkeypatch.setattr(event_delivery, "LONGEST_PAUSE_S", 0.01)
    made = Delivery(maker, address=lambda: ("127.0.0.1", 1), told=told.append, connections=1)
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


def test_events_of_one_file_are_never_under_way_together(delivery, function, song):
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


def test_a_version_is_told_of_once_unless_it_shall_be_again(delivery, function, song):
    delivery.put(str(song))
    function.wait(lambda: len(function.got) == 1)
    delivery.put(str(song))
    delivery.put(str(song), again=True)
    function.wait(lambda: len(function.got) == 2)
    delivery.stop()
    assert len(function.got) == 2


def test_no_more_files_wait_than_there_is_room_for(maker, function, song, monkeypatch):
    monkeypatch.setattr(event_delivery, "LIMIT", 2)
    made = Delivery(maker, address=lambda: ("127.0.0.1", 1), told=print)  # not started
    assert made.put("/a")
    assert made.put("/b")
    assert made.put("/b")
    assert not made.put("/c")
    assert made.backlog == 2
