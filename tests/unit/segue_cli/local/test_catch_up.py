"""What happened to a folder while nobody watched is found when it is compared with the ledger."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.errors import ConfigurationError
from segue.model.graph import parse
from segue.model.ledger import Change, arrive, claim, delete
from segue.model.media_file import MediaFile
from segue.model.settings import Settings
from segue_cli.local.catch_up import CatchUp
from segue_cli.local.programs import Up, catalogue_folder, intake_of
from segue_cli.local.watcher import Sign

PATIENCE_S = 20.0
NOW = datetime(2026, 1, 2, tzinfo=UTC)
GRAPH = """
catalogue: CATALOGUE
artifacts: CATALOGUE/artifacts
include: ["*.wav"]
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


class Told:
    """Both the watcher and the delivery, as the comparison sees them."""

    def __init__(self):
        self.put_: list[tuple[str, bool]] = []
        self.seen: list[tuple[str, Sign]] = []
        self.awaited: set[str] = set()
        self.notes: list[str] = []

    def put(self, path, *, again=False, wait=False):
        assert wait
        self.put_.append((os.path.basename(path), again))
        return True

    def saw(self, path, sign):
        self.seen.append((os.path.basename(path), sign))

    def is_awaited(self, path):
        return os.path.basename(path) in self.awaited

    def renew(self, folder):
        pass


class Place:
    """A catalogue and its ledger."""

    def __init__(self, folder):
        self.folder = folder
        self.told = Told()
        self.graph = parse(GRAPH.replace("CATALOGUE", str(folder)), environ={})
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

    def compare(self, *, until_old: bool = True) -> Told:
        """Compare once, as at the start."""
        if until_old and hasattr(self, "waits_until"):
            time.sleep(max(self.waits_until - time.time_ns(), 0) / 1e9)
        made = CatchUp(
            str(self.folder),
            graph=self.graph,
            files=connect_store("file:///"),
            ledger=self.ledger,
            intake=intake_of(self.graph, Settings()),
            watcher=self.told,
            delivery=self.told,
            note=self.told.notes.append,
        )
        made.start()
        deadline = time.monotonic() + PATIENCE_S
        while not made.is_quiet and time.monotonic() < deadline:
            time.sleep(0.01)
        assert made.is_quiet
        made.stop()
        return self.told


@pytest.fixture
def place(tmp_path):
    (tmp_path / "music").mkdir()
    made = Place(tmp_path / "music")
    yield made
    made.ledger.close()


def test_what_is_new_overwritten_or_gone_is_found(place):
    place.file("new.wav")
    place.record(place.file("known.wav"))
    old = place.file("overwritten.wav")
    place.record(MediaFile(uri=old.uri, generation=1))
    place.record(MediaFile(uri=f"file://{place.folder}/gone.wav", generation=1))
    buried = MediaFile(uri=f"file://{place.folder}/buried.wav", generation=1)
    place.record(buried, is_deleted=True)
    told = place.compare()
    assert sorted(told.put_) == [
        ("gone.wav", False),
        ("new.wav", False),
        ("overwritten.wav", False),
    ]


def test_a_file_that_was_recorded_and_of_which_nobody_was_told_is_told_of_again(place):
    place.record(place.file("song.wav"), is_begun=False)
    assert place.compare().put_ == [("song.wav", True)]


def test_a_file_that_was_just_written_may_be_written_to_still(place):
    place.file("song.wav", is_old=False)
    told = place.compare()
    assert (told.put_, told.seen) == ([], [("song.wav", Sign.APPEARED)])


def test_what_the_watcher_waits_for_is_left_to_it(place):
    place.file("song.wav", is_old=False)
    place.told.awaited.add("song.wav")
    told = place.compare()
    assert (told.put_, told.seen) == ([], [])


def test_neither_artifacts_nor_other_files_arrive(place):
    place.file("artifacts/fine/song.wav")
    place.file("notes.txt")
    place.file("song.wav.part")
    told = place.compare(until_old=False)
    assert (told.put_, told.seen) == ([], [])


def test_nothing_is_buried_where_nothing_at_all_is_left(place):
    place.record(MediaFile(uri=f"file://{place.folder}/gone.wav", generation=1))
    told = place.compare()
    assert told.put_ == []
    assert "segue reconcile --allow-empty" in told.notes[0]


def test_a_catalogue_has_to_be_a_folder_that_exists(tmp_path):
    graph = parse(GRAPH.replace("CATALOGUE", str(tmp_path / "none")), environ={})
    with pytest.raises(ConfigurationError, match="there is no folder"):
        catalogue_folder(graph)
    graph = parse(GRAPH.replace("CATALOGUE", "gs://acme/masters"), environ={})
    with pytest.raises(ConfigurationError, match="Eventarc"):
        catalogue_folder(graph)
    graph = parse(GRAPH.replace("catalogue: CATALOGUE\n", ""), environ={})
    with pytest.raises(ConfigurationError, match="segue up FOLDER"):
        catalogue_folder(graph)


def test_each_program_gets_all_settings(place):
    from segue_cli.local.programs import programs

    up = Up(settings=Settings(ledger="sqlite:///l.db"), processes=3, separate=True, port=8123)
    functions, stream = programs(up, place.graph, str(place.folder))
    assert functions.command[-1] == "--port=8123"
    assert stream.name == "stream fine"
    assert stream.command[-3:] == ("--job", "fine", "--processes=3")
    for program in (functions, stream):
        assert program.environ["SEGUE_LEDGER"] == "sqlite:///l.db"
        assert program.environ["SEGUE_CATALOGUE"] == str(place.folder)
        assert os.path.isabs(program.environ["SEGUE_GRAPH"])
