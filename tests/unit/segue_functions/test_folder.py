"""An event of a file in a folder is a hint: what counts is the file itself."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from segue.clock import utc_now
from segue.errors import Contended, DamagedRecord, Superseded, Unavailable
from segue.ingest import observation
from segue.ingest.events import GRACE
from segue.model.graph import SOURCE
from segue.model.ledger import Change, Snapshot
from segue.model.media_file import MediaFile
from segue.model.record import Entry, State, evolve
from segue.model.transitions import erase
from segue_functions import folder
from segue_functions.arrival import handle_arrival
from segue_functions.deletion import handle_deletion
from segue_support.cloud_events import build_object_event

HANDLERS = {"arrival": (handle_arrival, "finalized"), "deletion": (handle_deletion, "deleted")}
handlers = pytest.mark.parametrize("kind", HANDLERS)


class Files:
    """A folder of music, and its events."""

    def __init__(self, memory) -> None:
        self.memory = memory
        self.uri = memory.music.uri("a.wav")
        self.path = Path(self.uri.removeprefix("file://"))
        self.path.parent.mkdir()

    def write(self, data: bytes = b"sound") -> None:
        self.path.write_bytes(data)

    def send(self, kind: str, uri: str | None = None) -> None:
        handle, change = HANDLERS[kind]
        # The generation and size that it claims mean nothing.
        media = MediaFile(uri=uri or self.uri, version="5", order=2**63 - 1, size_bytes=99)
        handle(build_object_event(change, media))

    def have_done(self, *, triggered_by: str | None, **changes) -> None:
        """Record a result of a job that reads the file."""
        job = self.memory.services.graph.children[SOURCE][0]
        done = Entry(job=job, state=State.DONE, order=1, triggered_by=triggered_by)
        record = evolve(self.record, results={"0" * 12: done}, **changes)
        change = Change(uri=self.uri, transition=lambda _: (record, None))
        self.memory.ledger.change([change])

    @property
    def record(self):
        return self.memory.ledger.records.get(self.uri)


@pytest.fixture
def files(memory) -> Files:
    return Files(memory)


@handlers
def test_a_file_that_is_there_arrives_whatever_the_event_says(files, logged, kind):
    files.write()
    files.send(kind)
    found = files.record
    assert (len(found.version), found.order, found.size_bytes, found.deleted_at) == (24, 1, 5, None)
    [message] = files.memory.messages
    assert (message.trigger, message.version, message.order) == ("source", found.version, 1)
    assert message.arrived.stat == found.stat
    assert [(x["action"], x["ledger"], x["version"]) for x in logged] == [
        ("arrived", "new", found.version)
    ]


@handlers
def test_a_file_that_is_gone_is_deleted_whatever_the_event_says(files, logged, kind):
    files.write()
    files.send("arrival")
    files.path.unlink()
    files.send(kind)
    files.send(kind)
    assert files.record.deleted_at is not None
    assert [line["action"] for line in logged] == ["arrived", "deleted", "ignored"]
    assert len(files.memory.messages) == 1


@handlers
def test_a_file_that_was_erased_is_ignored_whatever_comes(files, logged, kind):
    files.write()
    files.send("arrival")
    change = Change(uri=files.uri, transition=lambda found: erase(found, found.media, utc_now()))
    files.memory.ledger.change([change])
    erased, sent = files.record, len(files.memory.messages)
    files.write(b"other")
    files.send(kind)
    files.path.unlink()
    files.send(kind)
    assert files.record is erased
    assert len(files.memory.messages) == sent
    reasons = [line["reason"] for line in logged if line["action"] == "ignored"]
    assert reasons == ["the file was erased"] * 2


def test_a_file_that_comes_back_is_told_of(files, logged):
    files.write()
    files.send("arrival")
    os.rename(files.path.parent, f"{files.path.parent}.away")
    files.path.parent.mkdir()
    (files.path.parent / "b.wav").touch()
    files.send("deletion")
    assert files.record.deleted_at is not None
    files.path.parent.joinpath("b.wav").unlink()
    files.path.parent.rmdir()
    os.rename(f"{files.path.parent}.away", files.path.parent)
    files.send("deletion")
    assert files.record.deleted_at is None
    assert [line.get("ledger") for line in logged] == ["new", None, "newer"]
    assert [m.arrived is None for m in files.memory.messages] == [False, True]


def test_the_same_bytes_are_the_same_version_and_a_repeated_event_tells_again(files, logged):
    for data in (b"sound", b"sound", b"other", b"sound"):
        files.write(data)
        files.send("arrival")
    assert [line["ledger"] for line in logged] == ["new", "duplicate", "newer", "newer"]
    told = [(m.order, m.version == files.record.version) for m in files.memory.messages]
    assert told == [(1, True), (1, True), (2, False), (3, True)]


def test_a_file_that_was_only_touched_is_told_of_if_perhaps_nobody_has(files, logged):
    files.write()
    files.send("arrival")
    os.utime(files.path)
    files.send("arrival")
    assert len(files.memory.messages) == 2
    stat = files.record.stat
    files.have_done(triggered_by="source@beats")
    os.utime(files.path)
    files.send("arrival")
    assert files.record.stat != stat
    assert len(files.memory.messages) == 2
    files.send("arrival")  # as if the first event had come again
    assert len(files.memory.messages) == 3
    assert {line["ledger"] for line in logged[1:]} == {"duplicate"}


def test_a_new_file_that_a_backfill_recorded_is_told_of_even_if_it_was_touched(files):
    files.write()
    files.send("arrival")
    files.have_done(triggered_by=None)
    os.utime(files.path)
    files.send("arrival")
    assert len(files.memory.messages) == 2


def test_an_old_file_that_is_touched_is_not_told_of_whoever_had_its_results_computed(files):
    files.write()
    files.send("arrival")
    files.have_done(triggered_by=None, arrived_at=utc_now() - GRACE)
    os.utime(files.path)
    files.send("arrival")
    assert len(files.memory.messages) == 1


def test_a_file_that_never_existed_is_ignored(files, logged):
    files.send("deletion")
    assert files.record is None
    assert logged[0]["reason"] == "there is no such file, and none in the ledger"


def test_a_name_that_no_file_can_have_is_malformed(files, logged):
    files.send("arrival", files.uri.replace("a.wav", "x" * 300 + ".wav"))
    assert [line["action"] for line in logged] == ["malformed"]


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied"),
        OSError(5, "Input/output error"),
        Superseded("it is being written"),
    ],
    ids=str,
)
def test_what_cannot_be_read_has_its_event_delivered_again(files, logged, monkeypatch, error):
    files.write()
    files.send("arrival")
    record = files.record

    def fail(_path):
        raise error

    files.write(b"other")
    with monkeypatch.context() as patch:
        patch.setattr("segue.adapters.folder._compute_digest", fail)
        with pytest.raises((Unavailable, Superseded)):
            files.send("deletion")
    assert files.record == record
    assert logged[-1]["action"] == "unavailable"
    files.send("deletion")
    assert files.record.order == 2


def test_a_file_that_keeps_changing_has_its_event_delivered_again(files, monkeypatch):
    files.write()
    monkeypatch.setattr(observation, "LOOKS", 1)
    with pytest.raises(Contended):
        files.send("arrival")
    assert len(files.memory.messages) == 1  # nobody else may tell of what was recorded


def test_a_damaged_record_is_raised(files, logged, monkeypatch):
    files.write()
    damaged = Snapshot(record=None, damage="it cannot be read")
    monkeypatch.setattr(files.memory.ledger, "read", lambda _uris: [damaged], raising=False)
    with pytest.raises(DamagedRecord):
        files.send("arrival")
    assert [line["action"] for line in logged] == ["damaged"]


def test_a_queue_that_was_away_after_the_record_was_written_is_repaired_by_redelivery(
    files, monkeypatch
):
    def away(*_arguments, **_options):
        raise Unavailable("the queue is away; try again later")

    files.write()
    with monkeypatch.context() as patch:
        patch.setattr(files.memory.queue, "publish", away)
        with pytest.raises(Unavailable):
            files.send("arrival")
    files.send("arrival")
    assert len(files.memory.messages) == 1


def test_a_file_that_many_threads_write_and_look_at_is_recorded_as_it_is_in_the_end(files):
    files.write(b"0")
    start = threading.Barrier(8)

    def change(number: int) -> None:
        start.wait()
        for turn in range(5):
            if (number + turn) % 3:
                fresh = files.path.with_suffix(f".{number}")
                fresh.write_bytes(b"%d" % (number % 4))
                fresh.replace(files.path)
            else:
                files.path.unlink(missing_ok=True)
            handle(number)

    def handle(number: int) -> None:
        while True:
            try:
                files.send("arrival" if number % 2 else "deletion")
            except (Contended, Superseded):
                continue
            return

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(8)))
    record = files.record
    if files.path.exists():
        store = folder.connect_store("file:///")
        seen = store.identify(files.uri.removeprefix("file:///"))
        assert (record.version, record.stat) == (seen.digest, seen.stat)
        assert record.deleted_at is None
    else:
        assert record.deleted_at is not None
