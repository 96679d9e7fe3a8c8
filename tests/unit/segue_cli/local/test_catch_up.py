"""Changes that no event reported are found by comparing the folder with the ledger."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.errors import ConfigurationError
from segue.ingest.media_filter import build_media_filter
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.settings import Settings
from segue.model.transitions import arrive, claim, delete
from segue_cli.local.catch_up import CatchUp
from segue_cli.local.programs import SystemConfig, find_catalogue_folder
from segue_cli.local.watcher import FileChange

PATIENCE_S = 20.0
NOW = datetime(2026, 1, 2, tzinfo=UTC)
GRAPH = """
catalogue: CATALOGUE
artifacts: CATALOGUE/artifacts
include: ["*.wav"]
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


class Recorder:
    """Stands in for both the watcher and the delivery."""

    def __init__(self):
        self.put_: list[tuple[str, bool]] = []
        self.changes: list[tuple[str, FileChange]] = []
        self.pending: set[str] = set()
        self.notes: list[str] = []

    def put(self, path, *, again=False, wait=False):
        assert wait
        self.put_.append((os.path.basename(path), again))
        return True

    def record_change(self, path, change):
        self.changes.append((os.path.basename(path), change))

    def is_pending(self, path):
        return os.path.basename(path) in self.pending

    def refresh_watches(self, folder):
        pass


class Place:
    """A catalogue and its ledger."""

    def __init__(self, folder):
        self.folder = folder
        self.recorder = Recorder()
        self.graph = parse_graph(GRAPH.replace("CATALOGUE", str(folder)), environ={})
        self.ledger = connect_ledger(f"sqlite:///{folder}.db")

    def file(self, name: str, *, is_old: bool = True) -> MediaFile:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
        generation = path.stat().st_ctime_ns
        if is_old:
            self.waits_until = generation + 1_050_000_000
        return MediaFile(uri=f"file://{path}", generation=generation)

    def record(self, media: MediaFile, *, is_begun: bool = True, is_deleted: bool = False):
        def transition(record):
            record, _ = arrive(record, media, NOW)
            if is_begun:
                record = claim(record, self.graph, ["fine"], owner="me", now=NOW, lease_s=1.0)
            if is_deleted:
                record, _ = delete(record, media, NOW)
            return record, None

        self.ledger.change([Change(uri=media.uri, transition=transition)])

    def compare(self, *, until_old: bool = True) -> Recorder:
        """Compare once, as at the start."""
        if until_old and hasattr(self, "waits_until"):
            time.sleep(max(self.waits_until - time.time_ns(), 0) / 1e9)
        made = CatchUp(
            str(self.folder),
            graph=self.graph,
            files=connect_store("file:///"),
            ledger=self.ledger,
            media_filter=build_media_filter(self.graph, Settings()),
            watcher=self.recorder,
            delivery=self.recorder,
            on_warning=self.recorder.notes.append,
        )
        made.start()
        deadline = time.monotonic() + PATIENCE_S
        while not made.is_idle and time.monotonic() < deadline:
            time.sleep(0.01)
        assert made.is_idle
        made.stop()
        return self.recorder


@pytest.fixture
def place(tmp_path):
    (tmp_path / "music").mkdir()
    made = Place(tmp_path / "music")
    yield made
    made.ledger.close()


def test_new_overwritten_and_deleted_files_are_found(place):
    place.file("new.wav")
    place.record(place.file("known.wav"))
    old = place.file("overwritten.wav")
    place.record(MediaFile(uri=old.uri, generation=1))
    place.record(MediaFile(uri=f"file://{place.folder}/gone.wav", generation=1))
    deleted = MediaFile(uri=f"file://{place.folder}/deleted.wav", generation=1)
    place.record(deleted, is_deleted=True)
    recorder = place.compare()
    assert sorted(recorder.put_) == [
        ("gone.wav", False),
        ("new.wav", False),
        ("overwritten.wav", False),
    ]


def test_a_recorded_file_whose_jobs_were_never_notified_is_sent_again(place):
    place.record(place.file("song.wav"), is_begun=False)
    assert place.compare().put_ == [("song.wav", True)]


def test_a_file_that_was_just_written_is_left_to_the_watcher(place):
    place.file("song.wav", is_old=False)
    recorder = place.compare()
    assert (recorder.put_, recorder.changes) == ([], [("song.wav", FileChange.APPEARED)])


def test_a_pending_file_is_left_to_the_watcher(place):
    place.file("song.wav", is_old=False)
    place.recorder.pending.add("song.wav")
    recorder = place.compare()
    assert (recorder.put_, recorder.changes) == ([], [])


def test_neither_artifacts_nor_other_files_arrive(place):
    place.file("artifacts/fine/song.wav")
    place.file("notes.txt")
    place.file("song.wav.part")
    recorder = place.compare(until_old=False)
    assert (recorder.put_, recorder.changes) == ([], [])


def test_no_record_is_deleted_if_the_folder_is_empty(place):
    place.record(MediaFile(uri=f"file://{place.folder}/gone.wav", generation=1))
    recorder = place.compare()
    assert recorder.put_ == []
    assert "segue reconcile --allow-empty" in recorder.notes[0]


def test_a_catalogue_has_to_be_an_existing_folder(tmp_path):
    graph = parse_graph(GRAPH.replace("CATALOGUE", str(tmp_path / "none")), environ={})
    with pytest.raises(ConfigurationError, match="there is no folder"):
        find_catalogue_folder(graph)
    graph = parse_graph(GRAPH.replace("CATALOGUE", "gs://acme/masters"), environ={})
    with pytest.raises(ConfigurationError, match="Eventarc"):
        find_catalogue_folder(graph)
    graph = parse_graph(GRAPH.replace("catalogue: CATALOGUE\n", ""), environ={})
    with pytest.raises(ConfigurationError, match="segue up FOLDER"):
        find_catalogue_folder(graph)


def test_each_program_gets_all_settings(place):
    from segue_cli.local.programs import build_programs

    up = SystemConfig(
        settings=Settings(ledger="sqlite:///l.db"), processes=3, separate=True, port=8123
    )
    functions, stream = build_programs(up, place.graph, str(place.folder))
    assert functions.command[-1] == "--port=8123"
    assert stream.name == "stream fine"
    assert stream.command[-3:] == ("--job", "fine", "--processes=3")
    for program in (functions, stream):
        assert program.environ["SEGUE_LEDGER"] == "sqlite:///l.db"
        assert program.environ["SEGUE_CATALOGUE"] == str(place.folder)
        assert os.path.isabs(program.environ["SEGUE_GRAPH"])
