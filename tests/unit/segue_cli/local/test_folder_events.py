"""A folder's changes become calls of the functions: all, in order, and no more than needed."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import Counter
from datetime import UTC, datetime

import pytest

from segue.adapters.folder import FolderStore
from segue.clock import utc_now
from segue.errors import ConfigurationError, DamagedRecord, Unavailable
from segue.log import LOGGER
from segue.model.ledger import Change, Query
from segue.model.media_file import MediaFile
from segue.model.object_store import REMEDIES, LeftOutReason
from segue.model.record import Record
from segue.model.transitions import arrive, claim, delete, erase
from segue_cli.local import folder_events
from segue_cli.local.folder_events import FolderEvents
from segue_functions import stack

PATIENCE_S = 20.0
NOW = datetime(2026, 1, 2, tzinfo=UTC)
GRAPH = """
catalogue: music
artifacts: music/artifacts
include: ["*.wav"]
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


class Place:
    """A catalogue, its ledger and queue, and what is logged."""

    def __init__(self, folder):
        self.music = folder / "music"
        self.services = stack.get_services()
        self.lines: list[dict] = []
        self.events = FolderEvents(str(self.music), self.services)

    def uri(self, name: str) -> str:
        return f"file://{self.music / name}"

    def write(self, name: str, data: bytes = b"sound") -> MediaFile:
        path = self.music / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        uri = self.uri(name)
        return FolderStore("/").identify(uri.removeprefix("file:///")).to_media_file(uri)

    def old(self, name: str) -> MediaFile:
        """Return another version of a file than the one that is there, if any."""
        return MediaFile(uri=self.uri(name), version="old", stat="0:0:0:0:0")

    def record(
        self,
        media: MediaFile,
        *,
        is_begun: bool = True,
        is_deleted: bool = False,
        now: datetime = NOW,
    ) -> None:
        """Record a version of a file in the ledger."""

        def transition(record):
            record, _ = arrive(record, media, now)
            if is_begun:
                graph = self.services.graph
                record = claim(record, graph, ["fine"], owner="me", now=now, lease_s=1.0)
            if is_deleted:
                record, _ = delete(record, media, now)
            return record, None

        self.services.ledger.change([Change(uri=media.uri, transition=transition)])

    def run(self) -> None:
        """Compare everything, as at the start, and wait until nothing is left to do."""
        self.events.start()
        self.wait_until(lambda: self.events.is_idle)

    def put(self, name: str, settle_s: float | None = None) -> None:
        self.events.put_file(str(self.music / name), settle_s)

    def wait_until(self, condition) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.005)

    def said(self, *actions: str) -> list[str]:
        """Return what was logged of files: ``action name``."""
        return [
            f"{line['action']} {os.path.basename(line['file'])}"
            for line in self.lines
            if "file" in line and (not actions or line["action"] in actions)
        ]

    def warnings(self) -> list[str]:
        return [line["reason"] for line in self.lines if line.get("process") == "up"]

    def records(self) -> list[Record]:
        return self.services.ledger.find(Query())

    def messages(self) -> int:
        return self.services.queue.measure_depth(["fine.source"])["fine.source"]


def hide(monkeypatch, folder) -> None:
    """Let a folder be unreadable, also for a superuser."""
    scan, look = os.scandir, os.stat

    def is_hidden(path) -> bool:
        return (
            f"{os.fspath(path)}/".startswith(f"{folder}/") if not isinstance(path, int) else False
        )

    def scandir(path="."):
        if is_hidden(path):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    def stat(path, *arguments, **options):
        if is_hidden(path) and os.fspath(path) != str(folder):
            raise PermissionError(13, "Permission denied", path)
        return look(path, *arguments, **options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "stat", stat)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folder_events, "TICK_S", 0.01)
    monkeypatch.setattr(folder_events, "SOON_S", 0.05)
    monkeypatch.setattr(folder_events, "FRESH_S", 0.05)
    monkeypatch.setattr(folder_events, "RETRY_S", 0.02)
    monkeypatch.setattr(folder_events, "FAILURE_PAUSE_S", 0.02)
    for name in ("GRAPH", "CATALOGUE", "ARTIFACTS", "LEDGER", "QUEUE"):
        monkeypatch.delenv(f"SEGUE_{name}", raising=False)
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    (tmp_path / "music").mkdir()
    handler = logging.Handler()
    monkeypatch.setattr(LOGGER, "handlers", [handler])
    monkeypatch.setattr(LOGGER, "propagate", False)
    level = LOGGER.level
    LOGGER.setLevel(logging.INFO)
    made = Place(tmp_path)
    handler.emit = lambda record: made.lines.append(record.segue)
    yield made
    made.events.stop()
    if made.events.thread.ident is not None:
        made.events.thread.join()
    stack.close()
    LOGGER.setLevel(level)


# --- the comparison at the start ------------------------------------------------------------------


def test_new_overwritten_and_deleted_files_are_found(place):
    place.write("new.wav")
    place.record(place.write("known.wav"))
    place.write("overwritten.wav")
    place.record(place.old("overwritten.wav"))
    place.record(place.write("gone.wav"))
    place.record(place.old("deleted.wav"), is_deleted=True)
    (place.music / "gone.wav").unlink()
    place.run()
    assert sorted(place.said()) == [
        "arrived new.wav",
        "arrived overwritten.wav",
        "deleted gone.wav",
    ]


def test_a_file_that_was_erased_does_not_arrive(place):
    media = place.write("erased.wav")
    place.record(media)
    change = Change(uri=media.uri, transition=lambda found: erase(found, media, NOW))
    place.services.ledger.change([change])
    place.write("erased.wav", b"other")
    place.run()
    place.put("erased.wav", 0.0)
    place.wait_until(lambda: place.events.is_idle)
    assert place.said() == []
    assert place.messages() == 0


def test_a_recorded_file_whose_jobs_were_never_notified_arrives_again(place):
    place.record(place.write("song.wav"), is_begun=False)
    place.run()
    assert place.said() == ["arrived song.wav"]
    assert place.messages() == 1


def test_neither_artifacts_nor_other_files_arrive(place):
    for name in ("artifacts/fine/song.wav", "notes.txt", "song.wav.part"):
        place.write(name)
    place.run()
    assert place.said() == []


def test_no_record_is_deleted_if_the_folder_is_empty(place):
    place.record(place.old("gone.wav"))
    place.run()
    assert place.said() == []
    assert "segue reconcile --allow-empty" in place.warnings()[0]


def test_what_cannot_be_processed_is_named_once(place):
    for name in (b"caf\xe9.wav", b"\xff.wav", b"\xff.txt"):
        with open(os.fsencode(place.music) + b"/" + name, "wb"):
            pass
    os.mkfifo(place.music / "radio.wav")
    os.symlink("nowhere", place.music / "lost.wav")
    place.run()
    assert place.warnings() == [
        f"left out: {place.music}/caf\\xe9.wav: its name is not UTF-8; rename it",
        f"left out: {place.music}/lost.wav: it is a link that leads nowhere; repair or remove it",
        f"left out: {place.music}/radio.wav: {REMEDIES[LeftOutReason.SPECIAL_FILE]}",
        f"left out: {place.music}/\\xff.wav: its name is not UTF-8; rename it",
    ]
    place.events.request_comparison()
    place.wait_until(lambda: place.events.is_idle)
    assert len(place.warnings()) == 4


def test_files_that_are_not_included_and_may_have_sound_are_said_once_for_each_suffix(place):
    for name in ("a.opus", "b.opus", "notes.txt"):
        place.write(name)
    place.run()
    [warning] = place.warnings()
    assert "3 files whose names match no pattern of the graph (2 .opus, 1 .txt)" in warning
    assert warning.endswith("add to 'include' of the graph: \"*.opus\"")
    for name in ("c.opus", "d.wma", "e.wma", "cover.jpg"):
        place.write(name)
        place.put(name)
    place.events.request_comparison()
    place.wait_until(lambda: place.events.is_idle)
    [warning] = place.warnings()[1:]
    assert warning.endswith('"*.wma"')


@pytest.mark.parametrize(
    ("names", "severity"), [(["notes.txt"], "WARNING"), (["notes.txt", "a.wav"], "INFO")]
)
def test_the_start_tells_what_is_no_media_and_warns_if_there_is_nothing_else(
    place, names, severity
):
    for name in names:
        place.write(name)
    place.run()
    place.write("b.jpg")
    place.put("b.jpg")
    place.events.request_comparison()
    place.wait_until(lambda: place.events.is_idle)
    [line] = [line for line in place.lines if line.get("process") == "up"]
    assert line["reason"].startswith("not included: 1 file")
    assert (line["action"], line["severity"]) == ("left_out", severity)


def test_a_folder_that_cannot_be_read_costs_only_itself(place, monkeypatch):
    place.record(place.write("lost+found/old.wav"))
    place.write("z/new.wav")
    hide(monkeypatch, place.music / "lost+found")
    place.run()
    assert place.said() == ["arrived new.wav"]  # and the recorded file is not deleted
    assert "lost+found/: it cannot be read" in place.warnings()[0]


def test_a_ledger_that_is_away_at_the_start_is_asked_again(place, monkeypatch):
    place.write("song.wav")
    find, answers = type(place.services.ledger).find, [Unavailable("away"), Unavailable("away")]

    def fail_first(*arguments, **options):
        if answers:
            raise answers.pop()
        return find(place.services.ledger, *arguments, **options)

    monkeypatch.setattr(place.services.ledger, "find", fail_first, raising=False)
    place.run()
    assert place.said() == ["arrived song.wav"]
    assert "could not be compared" in place.warnings()[0]


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), ConfigurationError("denied")])
def test_a_folder_that_cannot_be_read_is_reported_and_compared_again_later(
    place, monkeypatch, error
):
    def refuse(*_arguments, **_options):
        raise error

    place.write("song.wav")
    with monkeypatch.context() as patch:
        patch.setattr(place.events._files, "list", refuse)
        place.run()  # it gets idle; otherwise --until-idle would never end
        assert "could not be compared" in place.warnings()[0]
    place.events.request_comparison()
    place.wait_until(lambda: place.said() == ["arrived song.wav"])


def test_without_a_watch_the_folder_is_compared_until_it_can_be_watched(place, monkeypatch):
    place.run()
    with monkeypatch.context() as patch:

        def refuse(*_arguments, **_options):
            raise OSError(28, "inotify watch limit reached")

        patch.setattr("watchdog.observers.api.BaseObserver.schedule", refuse)
        os.rename(place.music, f"{place.music}.away")
        place.music.mkdir()
        place.wait_until(lambda: any("max_user_watches" in w for w in place.warnings()))
        place.write("song.wav")
        place.wait_until(lambda: place.said() == ["arrived song.wav"])
    place.wait_until(lambda: not place.events._watch.is_outdated and place.events.is_idle)
    place.write("tune.wav")
    place.wait_until(lambda: place.said() == ["arrived song.wav", "arrived tune.wav"])


# --- changes --------------------------------------------------------------------------------------


def test_files_that_are_copied_in_overwritten_and_deleted(place):
    place.run()
    first = place.write("song.wav").version
    place.wait_until(lambda: place.said() == ["arrived song.wav"])
    second = place.write("song.wav", b"other").version
    place.wait_until(lambda: place.said() == ["arrived song.wav"] * 2)
    (place.music / "song.wav").unlink()
    place.wait_until(lambda: place.said()[2:] == ["deleted song.wav"])
    assert [line["version"] for line in place.lines] == [first, second, second]


def test_all_files_of_a_burst_arrive_once(place):
    place.run()
    for number in range(100):
        place.write(f"album {number % 7}/{number}.wav")
    place.wait_until(lambda: len(place.said()) >= 100 and place.events.is_idle)
    assert Counter(place.said()) == {f"arrived {number}.wav": 1 for number in range(100)}


def test_a_file_is_waited_for_until_it_has_settled(place):
    place.run()
    place.put("song.wav", 3600.0)
    place.put("song.wav", 0.0)  # it may still be incomplete
    place.write("other.wav")
    place.wait_until(lambda: place.said() == ["arrived other.wav"])
    assert place.events.backlog == 1
    place.put("song.wav")
    place.wait_until(lambda: place.events.is_idle)


def test_a_change_that_changes_nothing_has_no_event(place):
    place.record(place.write("song.wav"))
    place.run()
    for name in ("song.wav", "never there.wav", "x" * 300 + ".wav"):
        place.put(name)
    place.wait_until(lambda: place.events.is_idle)
    assert place.said() == []


@pytest.mark.parametrize(("is_new", "said"), [(True, ["arrived song.wav"]), (False, [])])
def test_a_new_file_that_a_backfill_recorded_first_arrives_nevertheless(place, is_new, said):
    place.run()
    place.events.stop()
    place.events.thread.join()  # its event is late
    place.record(place.write("song.wav"), now=utc_now() if is_new else NOW)
    place.events._compare_file(str(place.music / "song.wav"))
    assert place.said() == said


def test_a_file_that_a_folder_replaced_is_deleted(place):
    place.record(place.write("song.wav"))
    place.run()
    (place.music / "song.wav").unlink()
    (place.music / "song.wav").mkdir()
    place.wait_until(lambda: place.said() == ["deleted song.wav"])


def test_the_only_file_is_deleted_even_if_others_were_before(place):
    place.record(place.write("old.wav"), is_deleted=True)
    (place.music / "old.wav").unlink()
    place.run()
    place.write("song.wav")
    place.wait_until(lambda: place.said() == ["arrived song.wav"])
    (place.music / "song.wav").unlink()
    place.wait_until(lambda: place.said("deleted") == ["deleted song.wav"])


def test_a_changed_file_of_a_disk_that_is_no_longer_mounted_is_not_deleted(place, tmp_path):
    place.record(place.write("song.wav"))
    place.write("tune.wav")
    place.run()
    place.put("song.wav", 0.3)  # it waits while the disk goes
    os.rename(place.music, tmp_path / "disk")
    place.music.mkdir()  # what a disk was mounted on
    place.wait_until(lambda: any("is empty" in w for w in place.warnings()))
    place.wait_until(lambda: place.events.is_idle)
    assert place.said("deleted") == []


def test_files_of_a_missing_catalogue_are_not_deleted(place):
    place.record(place.write("song.wav"))
    place.run()
    os.rename(place.music, f"{place.music}.away")
    place.wait_until(lambda: any("is missing" in w for w in place.warnings()))
    place.put("song.wav")
    place.wait_until(lambda: place.events.is_idle)
    os.rename(f"{place.music}.away", place.music)
    place.write("new.wav")
    place.wait_until(lambda: "arrived new.wav" in place.said())
    assert place.said("deleted") == []


def test_files_in_folders_that_come_and_go_are_found(place, tmp_path):
    place.run()
    for name in ("album", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.wav").write_bytes(b"sound")
    os.rename(tmp_path / "album", place.music / "album")
    os.symlink(tmp_path / "elsewhere", place.music / "linked")
    place.wait_until(lambda: place.said() == ["arrived 1.wav"] * 2)
    shutil.rmtree(place.music / "album")
    shutil.rmtree(tmp_path / "elsewhere")  # which may be a disk that is not mounted
    place.write("stays.wav")
    place.wait_until(lambda: any("leads nowhere" in w for w in place.warnings()))
    assert place.said("deleted") == ["deleted 1.wav"]
    (place.music / "linked").unlink()
    place.wait_until(lambda: place.said("deleted") == ["deleted 1.wav"] * 2)


def test_what_is_written_under_one_name_of_a_file_is_seen_under_the_other_too(place):
    place.run()
    place.write("song.wav")
    os.link(place.music / "song.wav", place.music / "tune.wav")
    place.wait_until(lambda: len(place.records()) == 2 and place.events.is_idle)
    content = place.write("song.wav", b"other").version
    place.wait_until(lambda: {r.version for r in place.records()} == {content})


def test_a_file_that_is_only_touched_keeps_its_version(place):
    version = place.write("song.wav").version
    place.record(place.write("song.wav"))
    place.run()
    os.chmod(place.music / "song.wav", 0o600)
    touched = FolderStore(str(place.music)).stat("song.wav").stat
    place.wait_until(lambda: [r.stat for r in place.records()] == [touched])
    assert [(r.version, r.order) for r in place.records()] == [(version, 1)]


def test_a_folder_that_is_moved_away_and_back_is_recorded_as_it_was(place, tmp_path):
    place.record(place.write("album/1.wav"))
    place.write("stays.wav")
    place.run()
    before = place.records()[0]
    os.rename(place.music / "album", tmp_path / "away")
    place.wait_until(lambda: place.said("deleted") == ["deleted 1.wav"])
    os.rename(tmp_path / "away", place.music / "album")
    place.wait_until(lambda: place.records()[0].deleted_at is None)
    assert place.records()[0] == before


def test_time_that_the_functions_take_does_not_postpone_the_next_comparison(
    place, tmp_path, monkeypatch
):
    publish = type(place.services.queue).publish

    def take_long(envelopes):
        time.sleep(1.0)
        return publish(place.services.queue, envelopes)

    monkeypatch.setattr(place.services.queue, "publish", take_long, raising=False)
    monkeypatch.setattr(folder_events, "PAUSE_FACTOR", 2 * PATIENCE_S)
    place.write("album/1.wav")
    place.write("stays.wav")
    place.run()
    os.rename(place.music / "album", tmp_path / "away")
    place.wait_until(lambda: place.said("deleted") == ["deleted 1.wav"])


def test_a_folder_is_swapped_for_one_with_older_files_and_back(place, tmp_path):
    old, new = place.write("old/1.wav", b"old").version, place.write("album/1.wav").version
    os.rename(place.music / "old", tmp_path / "old")
    place.run()
    place.wait_until(lambda: [r.version for r in place.records()] == [new])
    os.rename(place.music / "album", tmp_path / "new")
    os.rename(tmp_path / "old", place.music / "album")
    place.wait_until(lambda: [r.version for r in place.records()] == [old])
    os.rename(place.music / "album", tmp_path / "old")
    os.rename(tmp_path / "new", place.music / "album")
    place.wait_until(lambda: [r.version for r in place.records()] == [new])
    assert place.records()[0].deleted_at is None


def test_a_link_that_leads_back_to_itself_is_no_file(place):
    place.run()
    os.symlink("loop.wav", place.music / "loop.wav")
    place.put("loop.wav")
    place.wait_until(lambda: place.events.is_idle)
    assert place.said() == []


def test_a_name_that_is_not_text_is_reported_when_its_file_is_written(place):
    place.run()
    name = os.fsdecode(b"\xff.wav")
    (place.music / name).touch()
    place.wait_until(lambda: len(place.lines) == 1)
    assert place.lines[0]["action"] == "left_out"
    assert "rename it" in place.lines[0]["reason"]
    (place.music / name).unlink()
    place.wait_until(lambda: place.events.is_idle)
    assert len(place.lines) == 1


def test_more_changes_than_the_limit_lead_to_a_comparison(place, monkeypatch):
    place.run()
    monkeypatch.setattr(folder_events, "LIMIT", 2)
    for number in range(5):
        place.put(f"{number}.wav", 3600.0)
    assert place.events.backlog == 2
    for number in range(5):
        place.write(f"{number}.wav")
    place.wait_until(lambda: len(place.said()) == 5)


# --- failures -------------------------------------------------------------------------------------


def refuse(place, monkeypatch, name: str, errors: list[Exception]) -> None:
    """Let publishing messages about a file fail."""
    publish = type(place.services.queue).publish

    def fail(envelopes):
        if any(name.encode() in envelope.data for envelope in envelopes) and errors:
            raise errors.pop()
        return publish(place.services.queue, envelopes)

    monkeypatch.setattr(place.services.queue, "publish", fail, raising=False)


def test_a_function_is_called_until_it_succeeds(place, monkeypatch):
    refuse(place, monkeypatch, "song", [Unavailable("away"), Unavailable("away")])
    place.run()
    place.write("song.wav")
    place.wait_until(lambda: place.said("arrived") == ["arrived song.wav"])
    assert place.said("unavailable") == ["unavailable song.wav"] * 2
    assert place.messages() == 1


@pytest.mark.parametrize("is_running", [False, True])
def test_a_file_whose_event_always_fails_blocks_no_other(place, monkeypatch, is_running):
    refuse(place, monkeypatch, "song", [Unavailable("away")] * 1000)
    if is_running:
        place.run()
    for name in ("song.wav", "tune.wav", "air.wav"):
        place.write(name)
    if not is_running:
        place.events.start()
    place.wait_until(lambda: len(place.said("arrived")) == 2)
    assert sorted(place.said("arrived")) == ["arrived air.wav", "arrived tune.wav"]
    assert not place.events.is_idle


def test_an_error_that_no_retry_repairs_is_reported_and_harms_no_other_file(place, monkeypatch):
    refuse(place, monkeypatch, "song", [RuntimeError("a bug")])
    place.write("song.wav")
    place.write("tune.wav")
    place.run()
    assert place.said() == ["malformed song.wav", "arrived tune.wav"]
    assert place.lines[0]["reason"] == "RuntimeError: a bug; the event is dropped"
    assert place.lines[0]["severity"] == "ERROR"


def test_a_damaged_record_is_reported_once_and_harms_no_other_file(place, monkeypatch):
    error = DamagedRecord("it cannot be read", [place.uri("song.wav")])
    refuse(place, monkeypatch, "song", [error])
    place.write("song.wav")
    place.write("tune.wav")
    place.run()
    assert place.said() == ["damaged song.wav", "arrived tune.wav"]


def test_a_change_during_a_call_is_reported_after_it(place, monkeypatch):
    publish, hold, reached = (
        type(place.services.queue).publish,
        threading.Event(),
        threading.Event(),
    )

    def wait(envelopes):
        reached.set()
        assert hold.wait(PATIENCE_S)
        return publish(place.services.queue, envelopes)

    monkeypatch.setattr(place.services.queue, "publish", wait, raising=False)
    place.run()
    first = place.write("song.wav").version
    assert reached.wait(PATIENCE_S)
    second = place.write("song.wav", b"other").version
    hold.set()
    place.wait_until(lambda: len(place.lines) == 2)
    assert [line["version"] for line in place.lines] == [first, second]


def test_stopping_leaves_what_waits_to_the_next_start(place, monkeypatch):
    refuse(place, monkeypatch, "song", [Unavailable("away")] * 1000)
    place.write("song.wav")
    place.events.start()
    place.wait_until(lambda: place.said("unavailable"))
    place.events.stop()
    place.events.thread.join(PATIENCE_S)
    assert not place.events.thread.is_alive()
    monkeypatch.undo()
    again = FolderEvents(str(place.music), place.services)
    again.start()
    place.wait_until(lambda: place.messages() == 1)
    again.stop()
    again.thread.join(PATIENCE_S)
