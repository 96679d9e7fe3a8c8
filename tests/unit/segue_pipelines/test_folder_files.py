"""Files in folders are observed before a backfill works on them, and only if necessary."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue.adapters import folder
from segue.adapters.folder import FolderStore
from segue.errors import Superseded
from segue.ingest.observation import Observation
from segue.model.ledger import Snapshot
from segue.model.media_file import FileStat, MediaFile
from segue.model.object_store import LeftOutReason
from segue.model.outcome import Status
from segue.model.record import evolve
from segue_pipelines import folder_files
from segue_pipelines.folder_files import FolderFiles
from segue_support.ledger import MemoryLedger

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Music:
    """A folder, the ledger, and what was read."""

    def __init__(self, path: Path, monkeypatch) -> None:
        self.path = path
        self.ledger = MemoryLedger()
        self.left_out: list[Observation] = []
        self.read: list[str] = []
        digest = folder._compute_digest

        def note(path):
            self.read.append(os.path.basename(path))
            return digest(path)

        monkeypatch.setattr(folder, "_compute_digest", note)

    def write(self, name: str, data: bytes = b"sound") -> None:
        (self.path / name).write_bytes(data)

    def list(self) -> list[MediaFile]:
        store = FolderStore(str(self.path))
        return [found.to_media_file(store.uri(found.name)) for found in store.list()]

    def observe(self, files: list[MediaFile] | None = None, *, dry_run: bool = False):
        """Return the parts in which files come."""
        observed = FolderFiles(
            ledger=self.ledger,
            targets=("a", "b"),
            leave_out=self.left_out.append,
            dry_run=dry_run,
            clock=lambda: NOW,
        )
        return list(observed.observe(self.list() if files is None else files))

    def uri(self, name: str) -> str:
        return f"file://{self.path}/{name}"


@pytest.fixture
def music(tmp_path, monkeypatch) -> Music:
    return Music(tmp_path, monkeypatch)


def names(part) -> list[str]:
    return [os.path.basename(media.uri) for media in part.files]


def test_new_files_are_read_once_and_come_with_their_records(music):
    music.write("a.wav")
    music.write("b.wav")
    known, new = music.observe()
    assert known.files == []
    assert names(new) == ["a.wav", "b.wav"]
    for media, snapshot in zip(new.files, new.snapshots, strict=True):
        assert snapshot == music.ledger.read([media.uri])[0]
        assert snapshot.record is not None
        assert media == snapshot.record.media
        assert (media.order, len(media.version)) == (1, 24)
    assert sorted(music.read) == ["a.wav", "b.wav"]


def test_files_with_the_recorded_stat_cost_one_read_of_the_ledger(music, monkeypatch):
    music.write("a.wav")
    music.observe()
    files = music.list()
    monkeypatch.setattr(MemoryLedger, "change", None)
    monkeypatch.setattr(folder_files, "connect_store", None)
    music.read.clear()
    [known] = music.observe(files)
    assert names(known) == ["a.wav"]
    assert known.snapshots == music.ledger.read([music.uri("a.wav")])
    assert music.read == []


def test_changed_files_come_in_their_present_version_after_those_that_are_known(music):
    music.write("a.wav")
    music.write("b.wav")
    music.observe()
    music.write("a.wav", b"other")
    known, changed = music.observe()
    assert (names(known), names(changed)) == (["b.wav"], ["a.wav"])
    assert changed.files[0].order == 2


def test_a_file_that_changes_after_it_was_listed_comes_as_it_is_now(music):
    music.write("a.wav")
    files = music.list()
    music.write("a.wav", b"other")
    [_, found] = music.observe(files)
    content = FolderStore("/").identify(music.uri("a.wav").removeprefix("file:///"))
    assert found.files[0].version == content.digest


def test_a_file_that_is_gone_is_recorded_as_deleted(music):
    music.write("a.wav")
    music.write("b.wav")
    music.observe()
    (music.path / "a.wav").unlink()
    hint = MediaFile(uri=music.uri("a.wav"), version="")
    [_, found] = music.observe([hint])
    assert found.files == []
    assert [outcome.jobs for outcome in found.outcomes] == [
        {"a": Status.DELETED, "b": Status.DELETED}
    ]
    assert music.ledger.records[hint.uri].deleted_at == NOW


def test_a_file_that_is_being_written_is_left_to_the_next_run(music, monkeypatch):
    music.write("a.wav")

    def fail(path):
        raise Superseded(f"{path} is being written")

    monkeypatch.setattr(folder, "_compute_digest", fail)
    [_, found] = music.observe()
    assert [outcome.jobs for outcome in found.outcomes] == [
        {"a": Status.SUPERSEDED, "b": Status.SUPERSEDED}
    ]
    assert music.left_out == []


def test_a_file_that_cannot_be_read_is_left_out_by_name_and_the_others_come(music, monkeypatch):
    music.write("a.wav")
    music.write("b.wav")
    digest = folder._compute_digest

    def fail(path):
        if path.endswith("a.wav"):
            raise OSError(5, "Input/output error", path)
        return digest(path)

    monkeypatch.setattr(folder, "_compute_digest", fail)
    [_, found] = music.observe()
    assert names(found) == ["b.wav"]
    assert [(seen.uri, seen.reason) for seen in music.left_out] == [
        (music.uri("a.wav"), LeftOutReason.UNREADABLE)
    ]


def test_a_file_of_a_disk_that_is_not_mounted_is_left_out_and_not_deleted(music):
    (music.path / "disk").mkdir()
    music.write("disk/a.wav")
    music.observe()
    uri = music.uri("disk/a.wav")
    record = music.ledger.records[uri]
    elsewhere = FileStat.parse(record.stat)._replace(device=os.makedev(4000, 77))
    music.ledger._write(evolve(record, stat=str(elsewhere)), "9")
    (music.path / "disk/a.wav").unlink()
    [_, found] = music.observe([MediaFile(uri=uri, version="")])
    assert (found.files, found.outcomes) == ([], [])
    assert [seen.reason for seen in music.left_out] == [LeftOutReason.UNMOUNTED]
    assert music.ledger.records[uri].deleted_at is None


def test_a_dry_run_writes_nothing_and_reads_only_what_may_have_changed(music, monkeypatch):
    music.write("known.wav")
    music.write("touched.wav")
    music.write("changed.wav")
    music.observe()
    music.write("touched.wav")
    music.write("changed.wav", b"other")
    music.write("new.wav")
    music.read.clear()
    monkeypatch.setattr(MemoryLedger, "change", None)
    known, others = music.observe(dry_run=True)
    assert names(known) == ["known.wav"]
    assert names(others) == ["changed.wav", "new.wav", "touched.wav"]
    versions = dict(zip(names(others), others.files, strict=True))
    recorded = {os.path.basename(u): r.version for u, r in music.ledger.records.items()}
    assert versions["touched.wav"].version == recorded["touched.wav"]
    assert versions["changed.wav"].version != recorded["changed.wav"]
    assert versions["new.wav"].version == ""
    assert sorted(music.read) == ["changed.wav", "touched.wav"]


def test_a_damaged_record_comes_with_the_content_that_can_be_recorded_anew(music, monkeypatch):
    music.write("a.wav")
    damaged = Snapshot(record=None, damage="it cannot be read")
    monkeypatch.setattr(music.ledger, "read", lambda uris: [damaged for _ in uris], raising=False)
    [_, found] = music.observe()
    assert found.snapshots == [damaged]
    assert (len(found.files[0].version), found.files[0].order) == (24, None)
    assert music.left_out == []


def test_what_is_read_at_once_is_bounded(music, monkeypatch):
    for number in range(7):
        music.write(f"{number}.wav", b"x" * 10)
    monkeypatch.setattr(folder_files, "MAX_FILES", 3)
    assert [len(part.files) for part in music.observe()] == [0, 3, 3, 1]
    for number in range(7):
        music.write(f"{number}.wav", b"y" * 10)
    monkeypatch.setattr(folder_files, "MAX_BYTES", 20)
    assert [len(part.files) for part in music.observe()] == [0, 2, 2, 2, 1]
