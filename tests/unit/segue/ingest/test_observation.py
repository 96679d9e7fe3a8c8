"""The ledger ends up saying what each file of a folder is, whoever looks and writes meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from segue.adapters.folder import FolderStore
from segue.adapters.sqlite_ledger import SqliteLedger
from segue.errors import (
    ConfigurationError,
    Contended,
    DamagedRecord,
    MissingInput,
    Superseded,
    Unavailable,
)
from segue.ingest import observation
from segue.ingest.observation import Observation, look, observe
from segue.model.ledger import Change, Changed, Snapshot
from segue.model.media_file import MediaFile
from segue.model.object_store import LeftOutReason, Object
from segue.model.record import Entry, Record, State, evolve
from segue.model.transitions import Arrival, arrive, erase
from segue_support.ledger import MemoryLedger

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
URI = "file:///music/a.wav"
OTHER = "file:///music/b.wav"
HISTORIES = 3000


@dataclass
class Disk:
    """A file system whose calls can be intercepted."""

    files: dict[str, tuple[str, str]] = field(default_factory=dict)  # name → content, stat
    errors: dict[str, Exception] = field(default_factory=dict)  # by name
    doubts: dict[str, LeftOutReason] = field(default_factory=dict)
    before: Callable[[str], None] = lambda _call: None
    read: list[str] = field(default_factory=list)
    location: str = "file:///"

    def put(self, uri: str, content: str, stat: str | None = None) -> None:
        self.files[uri.removeprefix("file:///")] = (content, stat or f"stat of {content}")

    def remove(self, uri: str) -> None:
        del self.files[uri.removeprefix("file:///")]

    def stat(self, name: str) -> Object:
        self.before("stat")
        stat = self._find(name)[1]
        return Object(name=name, generation=1, size_bytes=1, stat=stat)

    def identify(self, name: str) -> Object:
        self.before("identify")
        content, stat = self._find(name)
        self.read.append(name)
        return Object(name=name, generation=1, size_bytes=1, stat=stat, digest=content)

    def doubt_absence(self, name: str, *, stat: str | None) -> LeftOutReason | None:
        return self.doubts.get(name) if stat is not None else None

    def _find(self, name: str) -> tuple[str, str]:
        if name in self.errors:
            raise self.errors[name]
        if name not in self.files:
            raise MissingInput(name) from FileNotFoundError()
        return self.files[name]


class System:
    """A disk and a ledger."""

    def __init__(self) -> None:
        self.disk = Disk()
        self.ledger = MemoryLedger()

    def observe(self, uri: str = URI, **options: Any) -> Observation:
        file = MediaFile(uri=uri, version="")
        [found] = observe(self.disk, self.ledger, [file], NOW, **options)
        return found

    @property
    def record(self) -> Record | None:
        return self.ledger.records.get(URI)


@pytest.fixture
def system() -> System:
    return System()


def forbid() -> MissingInput:
    error = MissingInput("it is not accessible")
    error.__cause__ = PermissionError(13, "Permission denied")
    return error


# --- what one observer does -----------------------------------------------------------------------


def test_a_new_file_is_read_and_recorded(system):
    system.disk.put(URI, "x")
    seen = system.observe()
    assert system.record == Record(
        uri=URI, version="x", order=1, stat="stat of x", size_bytes=1, arrived_at=NOW
    )
    assert (seen.arrival, seen.is_first, seen.error) == (Arrival.NEW, True, None)
    assert seen.snapshot == system.ledger.read([URI])[0]
    assert system.disk.read == ["music/a.wav"]


def test_a_file_with_the_recorded_stat_is_not_read_and_nothing_is_written(system, monkeypatch):
    system.disk.put(URI, "x")
    system.observe()
    system.disk.read.clear()
    monkeypatch.setattr(MemoryLedger, "change", None)
    seen = system.observe()
    assert (seen.arrival, seen.is_first) == (Arrival.DUPLICATE, False)
    assert system.disk.read == []


def test_a_stat_of_a_listing_saves_the_call(system):
    system.disk.put(URI, "x")
    system.observe()
    system.disk.before = pytest.fail
    listed = MediaFile(uri=URI, version="", stat="stat of x")
    [seen] = observe(system.disk, system.ledger, [listed], NOW)
    assert seen.arrival is Arrival.DUPLICATE


def test_a_stat_of_a_listing_does_not_restore_a_file_that_was_deleted_since(system, monkeypatch):
    system.disk.put(URI, "x")
    system.observe()
    system.disk.remove(URI)
    system.observe()
    monkeypatch.setattr(
        MemoryLedger, "change", None
    )  # whoever writes may die before it looks again
    listed = MediaFile(uri=URI, version="", stat="stat of x")
    [seen] = observe(system.disk, system.ledger, [listed], NOW)
    assert (seen.media, seen.error) == (None, None)


def test_the_same_content_with_another_stat_stays_what_it_was(system):
    system.disk.put(URI, "x")
    system.observe()
    done = {"f": Entry(job="a", state=State.DONE, order=1)}
    record = evolve(system.record, results=done)
    system.ledger.change([Change(uri=URI, transition=lambda _: (record, None))])
    system.disk.put(URI, "x", "touched")
    seen = system.observe()
    assert system.record == evolve(record, stat="touched")
    assert (seen.arrival, seen.is_first) == (Arrival.DUPLICATE, False)


def test_a_file_on_a_device_with_another_number_is_not_read_again(system):
    system.disk.put(URI, "x", "1:2:3:4:567")
    system.observe()
    system.disk.put(URI, "x", "9:2:3:4:567")
    seen = system.observe()
    assert system.record.stat == "9:2:3:4:567"
    assert (seen.arrival, seen.is_touched) == (Arrival.DUPLICATE, True)
    assert len(system.disk.read) == 1


def test_another_content_is_a_newer_version_and_one_that_comes_back_is_read_once(system):
    system.disk.put(URI, "x")
    system.observe()
    done = {"f": Entry(job="a", state=State.DONE, order=1)}
    record = evolve(system.record, results=done)
    system.ledger.change([Change(uri=URI, transition=lambda _: (record, None))])
    system.disk.put(URI, "y")
    assert system.observe().arrival is Arrival.NEWER
    assert (system.record.version, system.record.order, system.record.results) == ("y", 2, {})
    system.disk.put(URI, "x")
    assert system.observe().arrival is Arrival.NEWER
    assert (system.record.version, system.record.order) == ("x", 3)
    assert system.record.results["f"].state is State.DONE
    assert len(system.disk.read) == 3


def test_a_file_that_is_gone_is_recorded_as_deleted_once_and_its_return_too(system):
    assert system.observe() == Observation(uri=URI, snapshot=Snapshot(record=None))
    system.disk.put(URI, "x")
    system.observe()
    system.disk.remove(URI)
    seen = system.observe()
    assert (seen.is_deleted, seen.arrival, system.record.deleted_at) == (True, None, NOW)
    assert not system.observe().is_deleted
    system.disk.read.clear()
    system.disk.put(URI, "x")
    seen = system.observe()
    assert (seen.arrival, seen.is_deleted) == (Arrival.NEWER, False)
    assert (system.record.deleted_at, system.record.order) == (None, 1)
    assert system.disk.read == []  # a folder that was moved away and back


@pytest.mark.parametrize("content", ["x", "y", None])
def test_a_file_that_was_erased_has_no_arrival_and_no_deletion(system, content):
    system.disk.put(URI, "x")
    system.observe()
    media = MediaFile(uri=URI, version="")
    system.ledger.change([Change(uri=URI, transition=lambda r: erase(r, media, NOW))])
    erased = system.record
    if content is None:
        system.disk.remove(URI)
    else:
        system.disk.put(URI, content)
    seen = system.observe()
    assert (seen.arrival, seen.is_deleted, seen.is_first, seen.error) == (None, False, False, None)
    assert system.record is erased


@pytest.mark.parametrize(
    "cause", [FileNotFoundError, NotADirectoryError, IsADirectoryError, KeyError]
)
def test_what_is_no_file_any_more_is_gone(system, cause):
    system.disk.put(URI, "x")
    system.observe()
    error = MissingInput("a pipe")
    error.__cause__ = cause()
    system.disk.errors["music/a.wav"] = error
    assert system.observe().is_deleted
    assert look(system.disk, MediaFile(uri=URI, version="")).other == (
        "a pipe" if cause is IsADirectoryError else ""
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (forbid(), LeftOutReason.UNREADABLE),
        (Unavailable("Input/output error"), LeftOutReason.UNREADABLE),
        (Superseded("it is being written"), LeftOutReason.CHANGING),
        (ConfigurationError("the name is too long"), LeftOutReason.UNREADABLE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_read_is_unknown_and_stays_as_it_is_and_the_rest_goes_on(
    system, error, reason
):
    system.disk.put(URI, "x")
    system.observe()
    record = system.record
    system.disk.errors["music/a.wav"] = error
    system.disk.put(OTHER, "y")
    seen, other = observe(
        system.disk, system.ledger, [MediaFile(uri=u, version="") for u in (URI, OTHER)], NOW
    )
    assert (seen.error, seen.reason, seen.arrival) == (error, reason, None)
    assert seen.explanation
    assert system.record == record
    assert other.arrival is Arrival.NEW


def test_a_file_that_may_be_there_is_unknown_unless_its_absence_is_trusted(system):
    system.disk.put(URI, "x")
    system.observe()
    system.disk.remove(URI)
    system.disk.doubts["music/a.wav"] = LeftOutReason.UNMOUNTED
    seen = system.observe()
    assert (type(seen.error), seen.reason) == (Unavailable, LeftOutReason.UNMOUNTED)
    assert system.record.deleted_at is None
    assert system.observe(trust_absence=True).is_deleted


def test_a_damaged_record_is_read_and_left_alone(tmp_path):
    disk, ledger = Disk(), SqliteLedger(str(tmp_path / "ledger.db"))
    files = [MediaFile(uri=uri, version="") for uri in (URI, OTHER)]
    for file in files:
        disk.put(file.uri, "x")
    observe(disk, ledger, files, NOW)
    with ledger._session(), ledger._transaction():
        ledger._db.execute("UPDATE files SET record = '{' WHERE uri = ?", (URI,))
    disk.put(OTHER, "y")
    seen, other = observe(disk, ledger, files, NOW)
    assert isinstance(seen.error, DamagedRecord)
    assert (seen.media.version, seen.arrival) == ("x", None)
    assert other.arrival is Arrival.NEWER
    ledger.close()


def test_a_record_that_is_damaged_meanwhile_costs_its_file_only(system, monkeypatch):
    system.disk.put(URI, "x")
    system.disk.put(OTHER, "y")
    change, read = system.ledger.change, system.ledger.read

    def damage(changes):
        monkeypatch.setattr(system.ledger, "change", change)
        change([one for one in changes if one.uri != URI])
        raise DamagedRecord("it is damaged", [URI])

    def read_damaged(uris):
        damaged = Snapshot(record=None, damage="it is damaged")
        return [damaged if s.record is None else s for s in read(uris)]

    files = [MediaFile(uri=uri, version="") for uri in (URI, OTHER)]
    snapshots = read([URI, OTHER])
    monkeypatch.setattr(system.ledger, "change", damage)
    monkeypatch.setattr(system.ledger, "read", read_damaged)
    seen, other = observe(system.disk, system.ledger, files, NOW, snapshots=snapshots)
    assert isinstance(seen.error, DamagedRecord)
    assert (other.arrival, other.error) == (Arrival.NEWER, None)
    assert list(system.ledger.records) == [OTHER]


def test_a_dry_run_writes_nothing_and_reads_no_new_file(system, monkeypatch):
    system.disk.put(URI, "x")
    system.observe()
    system.disk.read.clear()
    system.disk.put(URI, "x", "touched")
    system.disk.put(OTHER, "y")
    monkeypatch.setattr(MemoryLedger, "change", None)
    assert system.observe(dry_run=True).arrival is Arrival.DUPLICATE
    new = system.observe(OTHER, dry_run=True)
    assert (new.arrival, new.media.version) == (Arrival.NEW, "")
    assert system.disk.read == ["music/a.wav"]
    system.disk.put(URI, "z")
    seen = system.observe(dry_run=True)
    assert (seen.arrival, seen.media.version, seen.snapshot.record.version) == (
        Arrival.NEWER,
        "z",
        "x",
    )
    system.disk.remove(URI)
    assert system.observe(dry_run=True).is_deleted


def test_a_file_that_changes_after_it_was_recorded_is_recorded_again(system, monkeypatch):
    system.disk.put(URI, "x")
    change, contents = system.ledger.change, ["z", "y"]

    def change_meanwhile(changes):
        made = change(changes)
        if contents:
            system.disk.put(URI, contents.pop())
        return made

    monkeypatch.setattr(system.ledger, "change", change_meanwhile)
    seen = system.observe()
    assert (system.record.version, system.record.order) == ("z", 3)
    assert (seen.arrival, seen.is_first) == (Arrival.NEWER, False)
    assert seen.snapshot.record == system.record


def test_a_file_that_never_stops_changing_is_contended(system, monkeypatch):
    system.disk.put(URI, "0")
    change, count = system.ledger.change, iter(range(1, 1000))

    def change_meanwhile(changes):
        made = change(changes)
        system.disk.put(URI, str(next(count)))
        return made

    monkeypatch.setattr(system.ledger, "change", change_meanwhile)
    seen = system.observe()
    assert (type(seen.error), seen.reason) == (Contended, LeftOutReason.CHANGING)
    assert seen.arrival is not None  # it is recorded, and nobody else notifies of it
    assert next(count) <= observation.LOOKS + 1


@pytest.mark.parametrize("first", [None, "a", "gone"])
def test_an_older_look_does_not_replace_what_somebody_else_has_seen_since(
    system, monkeypatch, first
):
    """The content would come back with the next look, but not what is unfinished of it."""
    system.disk.put(URI, "a")
    if first is not None:
        system.observe()
    if first == "gone":
        system.disk.remove(URI)
        system.observe()
    system.disk.put(URI, "older")
    change = system.ledger.change

    def work(found: Record) -> tuple[Record, None]:
        entry = Entry(job="a", state=State.FAILED, order=found.order, attempts=1)
        return evolve(found, results={"f": entry}), None

    def change_late(changes):
        monkeypatch.setattr(system.ledger, "change", change)
        system.disk.put(URI, "newer")
        system.observe()
        change([Change(uri=URI, transition=work)])
        return change(changes)

    monkeypatch.setattr(system.ledger, "change", change_late)
    seen = system.observe()
    assert system.record.version == "newer"
    assert system.record.results["f"].state is State.FAILED
    assert system.record.earlier == {}
    assert (seen.arrival, seen.is_first, seen.is_touched) == (Arrival.DUPLICATE, False, False)


def test_whoever_made_a_record_that_another_one_has_replaced_is_not_its_first(system, monkeypatch):
    """Its event would say what the record contains, and by now results may be in it."""
    system.disk.put(URI, "a")
    change = system.ledger.change

    def change_meanwhile(changes):
        made = change(changes)
        monkeypatch.setattr(system.ledger, "change", change_late)
        system.disk.put(URI, "b")
        return made

    def change_late(changes):
        monkeypatch.setattr(system.ledger, "change", change)
        system.observe()
        return change(changes)

    monkeypatch.setattr(system.ledger, "change", change_meanwhile)
    seen = system.observe()
    assert (system.record.version, system.record.order) == ("b", 2)
    assert (seen.arrival, seen.is_first) == (Arrival.NEW, False)


def test_a_file_that_is_recorded_and_then_unknown_is_notified_of(system, monkeypatch):
    system.disk.put(URI, "x")
    change = system.ledger.change

    def change_and_forbid(changes):
        made = change(changes)
        system.disk.errors["music/a.wav"] = forbid()
        return made

    monkeypatch.setattr(system.ledger, "change", change_and_forbid)
    seen = system.observe()
    assert isinstance(seen.error, MissingInput)
    assert (seen.arrival, seen.is_first) == (Arrival.NEW, True)


def test_files_of_a_slow_disk_are_read_at_once(system):
    together = threading.Barrier(4, timeout=20)

    def wait(call: str) -> None:
        if call == "identify" and not system.disk.read:
            time.sleep(observation.ALONE_S)
        elif call == "identify":
            together.wait()

    system.disk.before = wait
    files = [MediaFile(uri=f"file:///music/{n}.wav", version="") for n in range(5)]
    for file in files:
        system.disk.put(file.uri, file.uri)
    seen = observe(system.disk, system.ledger, files, NOW)
    assert [one.snapshot.record.version for one in seen] == [file.uri for file in files]


def test_files_of_a_fast_disk_are_read_by_one_thread(system, monkeypatch):
    monkeypatch.setattr(observation, "ALONE_S", 60.0)
    threads = set()
    system.disk.before = lambda _call: threads.add(threading.get_ident())
    files = [MediaFile(uri=f"file:///music/{n}.wav", version="") for n in range(5)]
    for file in files:
        system.disk.put(file.uri, file.uri)
    seen = observe(system.disk, system.ledger, files, NOW)
    assert [one.snapshot.record.version for one in seen] == [file.uri for file in files]
    assert threads == {threading.get_ident()}


def test_files_of_a_real_folder(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"sound")
    ledger, store = MemoryLedger(), FolderStore("/")
    uri = f"file://{tmp_path}/a.wav"
    file = MediaFile(uri=uri, version="")
    assert observe(store, ledger, [file], NOW)[0].arrival is Arrival.NEW
    assert ledger.records[uri].stat == store.stat(uri.removeprefix("file:///")).stat
    assert len(ledger.records[uri].version) == 24
    (tmp_path / "a.wav").rename(tmp_path / "b.wav")
    assert observe(store, ledger, [file], NOW)[0].is_deleted
    (tmp_path / "b.wav").rename(tmp_path / "a.wav")
    assert observe(store, ledger, [file], NOW)[0].arrival is Arrival.NEWER


# --- several observers and writers, in any order --------------------------------------------------


class Scheduler:
    """Lets one thread run at a time, and chooses the next one at each call to disk and ledger."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._waiting: dict[int, threading.Semaphore] = {}
        self._back = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._local = threading.local()
        self.errors: list[BaseException] = []

    def start(self, work: Callable[[], None]) -> None:
        number = len(self._threads)
        gate = self._waiting[number] = threading.Semaphore(0)

        def run() -> None:
            self._local.number = number
            gate.acquire()
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - the main thread raises it
                self.errors.append(error)
            self._back.release()

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def give_way(self, _call: str = "") -> None:
        number = getattr(self._local, "number", None)
        if number is None:
            return
        gate = self._waiting[number] = threading.Semaphore(0)
        self._back.release()
        gate.acquire()

    def is_idle(self) -> bool:
        return not self._waiting

    def run_one(self) -> None:
        number = self._rng.choice(sorted(self._waiting))
        gate = self._waiting.pop(number)
        gate.release()
        assert self._back.acquire(timeout=20)


class WatchedLedger(MemoryLedger):
    """Gives way to others before each call, and checks each write."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def read(self, uris):
        self._world.scheduler.give_way()
        return super().read(uris)

    def change(self, changes) -> list[Changed[Any]]:
        self._world.scheduler.give_way()
        before = {c.uri: self.records.get(c.uri) for c in changes}
        made = super().change(changes)
        for uri, old in before.items():
            self._world.check_write(uri, old, self.records.get(uri))
        return made


class World:
    """A folder that changes, those who observe it, and what may not happen."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.scheduler = Scheduler(self.rng)
        self.disk = Disk(before=self.scheduler.give_way)
        self.ledger = WatchedLedger(self)
        self.uris = [URI, OTHER][: self.rng.randint(1, 2)]
        self.stats = iter(range(1, 1000))
        self.aside: dict[str, tuple[str, str] | None] = dict.fromkeys(self.uris)
        self.missing_at: dict[str, int] = dict.fromkeys(self.uris, 0)  # when it was last missing
        self.time = 0
        self.began = threading.local()
        self.seen: list[Observation] = []
        self.listed: list[MediaFile] = []
        self.faults: list[str] = []

    def run(self) -> list[str]:
        """Return what went wrong."""
        changes = self.rng.randint(1, 6)
        while changes or not self.scheduler.is_idle():
            self.time += 1
            for uri in self.uris:
                if uri.removeprefix("file:///") not in self.disk.files:
                    self.missing_at[uri] = self.time
            if changes and (self.scheduler.is_idle() or self.rng.random() < 0.3):
                changes -= 1
                self.change()
            else:
                self.scheduler.run_one()
        if self.scheduler.errors:
            raise self.scheduler.errors[0]
        return self.faults + [fault for uri in self.uris for fault in self.check(uri)]

    def change(self) -> None:
        """Change a file, and have it looked at: once at least, and perhaps in an old listing."""
        uri = self.rng.choice(self.uris)
        name = uri.removeprefix("file:///")
        if self.rng.random() < 0.2:
            self.disk.errors[name] = self.rng.choice((forbid(), Unavailable("a bad disk")))
        elif self.rng.random() < 0.7:
            self.disk.errors.pop(name, None)
        there = self.disk.files.pop(name, None)
        match self.rng.choice(("write", "touch", "remove", "swap")):
            case "write":
                self.disk.put(uri, self.rng.choice("xyz"), str(next(self.stats)))
            case "touch" if there is not None:
                self.disk.put(uri, there[0], str(next(self.stats)))
            case "swap":
                aside, self.aside[uri] = self.aside[uri], there
                if aside is not None:
                    self.disk.files[name] = aside
        for _ in range(self.rng.choice((1, 1, 2))):
            self.notify(uri)
        if self.listed and self.rng.random() < 0.3:
            self.scheduler.start(lambda files=self.listed: self.observe(files))
        if self.rng.random() < 0.3:
            self.listed = self.list_files()

    def list_files(self) -> list[MediaFile]:
        listed = [(uri, self.disk.files.get(uri.removeprefix("file:///"))) for uri in self.uris]
        return [MediaFile(uri=u, version="", stat=file[1]) for u, file in listed if file]

    def notify(self, uri: str) -> None:
        """Deliver an event until its file is known."""

        def handle() -> None:
            while self.observe([MediaFile(uri=uri, version="")])[0].error is not None:
                self.disk.errors.pop(uri.removeprefix("file:///"), None)

        self.scheduler.start(handle)

    def observe(self, files: list[MediaFile]) -> list[Observation]:
        self.began.time = self.time
        seen = observe(self.disk, self.ledger, files, NOW)
        self.seen += seen
        return seen

    def check_write(self, uri: str, old: Record | None, new: Record | None) -> None:
        """Check that time goes forward, and that nothing is deleted that was there."""
        if old is None or new is None:
            return
        if new.order < old.order or (new.order == old.order) != (new.version == old.version):
            self.faults.append(f"{uri}: order {old.order} of {old.version} → {new.order}")
        if new.deleted_at and not old.deleted_at and self.missing_at[uri] < self.began.time:
            self.faults.append(f"{uri}: deleted, and was there all the time")

    def check(self, uri: str) -> Iterator[str]:
        """Check that the record agrees with the folder, and that somebody was notified."""
        there = self.disk.files.get(uri.removeprefix("file:///"))
        record = self.ledger.records.get(uri)
        if record is None or record.deleted_at is not None:
            if there is not None:
                yield f"{uri}: {there} is not recorded"
            return
        if there != (record.version, record.stat):
            yield f"{uri}: {(record.version, record.stat)} is recorded, and there is {there}"
        notified = [
            one.snapshot.record.order
            for one in self.seen
            if one.uri == uri and one.arrival in (Arrival.NEW, Arrival.NEWER)
        ]
        if record.order not in notified:
            yield f"{uri}: nobody was notified of order {record.order}"


@pytest.fixture
def _one_thread_each(monkeypatch):
    monkeypatch.setattr(observation, "map_in_threads", lambda f, items: [f(i) for i in items])


@pytest.mark.usefixtures("_one_thread_each")
@pytest.mark.parametrize("part", range(10))
def test_in_the_end_the_ledger_says_what_is_in_the_folder(part):
    size = HISTORIES // 10
    faults = {seed: World(seed).run() for seed in range(part * size, (part + 1) * size)}
    assert {seed: found for seed, found in faults.items() if found} == {}


def plant_no_second_look(monkeypatch) -> None:
    check = observation._Watch.is_to_be_written

    def is_to_be_written(watch):
        return not (watch.arrivals or watch.is_deleted) and check(watch)

    monkeypatch.setattr(observation._Watch, "is_to_be_written", is_to_be_written)


def plant_forbidden_is_gone(monkeypatch) -> None:
    monkeypatch.setattr(observation, "ABSENT", (FileNotFoundError, PermissionError))


def plant_order_decides(monkeypatch) -> None:
    def arrive_in_order(found, media, now):
        return arrive(found, evolve(media, order=int(media.stat)), now)

    monkeypatch.setattr(observation, "arrive", arrive_in_order)


@pytest.mark.usefixtures("_one_thread_each")
@pytest.mark.parametrize(
    "plant", [plant_no_second_look, plant_forbidden_is_gone, plant_order_decides]
)
def test_planted_faults_are_found(plant, monkeypatch):
    plant(monkeypatch)
    assert any(World(seed).run() for seed in range(HISTORIES))
