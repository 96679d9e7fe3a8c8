"""The watcher on real folders: when a file counts as complete, and how trees are handled."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time

import pytest

from segue_cli.local.watcher import FileChange, Watcher

PATIENCE_S = 20.0
# The kernel reports on these platforms when a file is closed after writing.
REPORTS_CLOSE = sys.platform == "linux"
needs_closing = pytest.mark.skipif(
    not REPORTS_CLOSE, reason="only Linux reports that a file was closed"
)


class Reports:
    """The files and folders that a watcher reported."""

    def __init__(self):
        self.files: list[str] = []
        self.folders: list[str] = []
        self._changes = threading.Condition()

    def add_file(self, path: str) -> bool:
        with self._changes:
            self.files.append(path)
            self._changes.notify_all()
        return True

    def add_folder(self, folder: str) -> None:
        with self._changes:
            self.folders.append(folder)
            self._changes.notify_all()

    def wait(self, *paths: object) -> None:
        """Wait until each of these files is reported."""
        wanted = {str(p) for p in paths}
        with self._changes:
            assert self._changes.wait_for(lambda: wanted <= set(self.files), PATIENCE_S), (
                wanted - set(self.files)
            )

    def wait_for_rescan(self, folder: object) -> None:
        with self._changes:
            assert self._changes.wait_for(lambda: str(folder) in self.folders, PATIENCE_S)


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    return folder


@pytest.fixture
def watcher(music, reports):
    made = Watcher(
        str(music),
        is_wanted=lambda path: path.endswith(".wav"),
        on_change=reports.add_file,
        on_rescan=reports.add_folder,
    )
    made.start()
    yield made
    made.stop()


def test_a_file_is_reported_once_it_is_closed(watcher, reports, music):
    (music / "song.wav").write_bytes(b"sound")
    reports.wait(music / "song.wav")


@needs_closing
def test_a_file_that_is_open_for_writing_is_waited_for(watcher, reports, music):
    with (music / "song.wav").open("wb") as file:
        file.write(b"half")
        file.flush()
        (music / "other.wav").write_bytes(b"sound")
        reports.wait(music / "other.wav")
        time.sleep(0.2)  # several times as long as an unchanged file would have to be unchanged
        assert reports.files == [str(music / "other.wav")]
        assert watcher.is_pending(str(music / "song.wav"))
    reports.wait(music / "song.wav")


@needs_closing
def test_a_burst_of_writes_is_one_change(watcher, reports, music):
    for _ in range(5):
        with (music / "song.wav").open("ab") as file:
            file.write(b"x" * 1000)
    (music / "last.wav").write_bytes(b"sound")
    reports.wait(music / "last.wav", music / "song.wav")
    assert len(reports.files) < 6


def test_unwanted_files_are_not_reported(watcher, reports, music):
    (music / ".song.wav.part").write_bytes(b"half")
    (music / "song.wav~").write_bytes(b"half")
    os.rename(music / ".song.wav.part", music / "song.wav")
    reports.wait(music / "song.wav")
    assert set(reports.files) == {str(music / "song.wav")}


def test_a_deleted_file_is_reported(watcher, reports, music):
    (music / "song.wav").write_bytes(b"sound")
    reports.wait(music / "song.wav")
    reports.files.clear()
    (music / "song.wav").unlink()
    reports.wait(music / "song.wav")


def test_a_renamed_file_is_reported_under_both_names(watcher, reports, music):
    (music / "old.wav").write_bytes(b"sound")
    reports.wait(music / "old.wav")
    reports.files.clear()
    os.rename(music / "old.wav", music / "new.wav")
    reports.wait(music / "old.wav", music / "new.wav")


def test_a_file_whose_attributes_change_has_a_new_generation(watcher, reports, music):
    (music / "song.wav").write_bytes(b"sound")
    reports.wait(music / "song.wav")
    reports.files.clear()
    (music / "song.wav").chmod(0o600)
    reports.wait(music / "song.wav")


def test_a_link_is_complete_without_being_closed(watcher, reports, music, tmp_path):
    (tmp_path / "elsewhere.wav").write_bytes(b"sound")
    os.link(tmp_path / "elsewhere.wav", music / "hard.wav")
    os.symlink(tmp_path / "elsewhere.wav", music / "soft.wav")
    reports.wait(music / "hard.wav", music / "soft.wav")


def test_files_in_new_folders_are_reported(watcher, reports, music):
    deep = music / "artist" / "album"
    deep.mkdir(parents=True)
    (deep / "1.wav").write_bytes(b"sound")
    reports.wait(deep / "1.wav")
    reports.wait_for_rescan(music / "artist")


def test_a_tree_that_is_moved_in_is_reported_and_compared(watcher, reports, music, tmp_path):
    (tmp_path / "album/disc").mkdir(parents=True)
    (tmp_path / "album/disc/1.wav").write_bytes(b"sound")
    os.rename(tmp_path / "album", music / "album")
    reports.wait(music / "album/disc/1.wav")
    (music / "album/disc/2.wav").write_bytes(b"sound")
    reports.wait(music / "album/disc/2.wav")


def test_a_tree_that_is_moved_out_is_compared(watcher, reports, music, tmp_path):
    (music / "album").mkdir()
    reports.wait_for_rescan(music / "album")
    reports.folders.clear()
    os.rename(music / "album", tmp_path / "album")
    reports.wait_for_rescan(music / "album")


def test_after_folders_were_moved_all_is_watched_under_its_present_name(watcher, reports, music):
    (music / "a/b").mkdir(parents=True)
    (music / "c").mkdir()
    reports.wait_for_rescan(music / "c")
    os.rename(music / "a/b", music / "c/b")
    os.rename(music / "c", music / "a/c")
    os.rename(music / "a", music / "d")
    reports.wait_for_rescan(music)
    time.sleep(1.0)  # the library pairs the two halves of a move within half a second
    watcher.refresh_watches(str(music))
    (music / "d/c/b/song.wav").write_bytes(b"sound")
    reports.wait(music / "d/c/b/song.wav")


def test_a_new_hard_link_of_a_file_requests_a_rescan(watcher, reports, music):
    (music / "song.wav").write_bytes(b"sound")
    reports.wait(music / "song.wav")
    os.link(music / "song.wav", music / "again.wav")
    reports.wait_for_rescan(music)


def test_folders_behind_links_are_watched_under_the_name_of_the_link(
    music, reports, watcher, tmp_path
):
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, music / "linked")
    reports.wait_for_rescan(music / "linked")
    watcher.refresh_watches(str(music / "linked"))
    (outside / "song.wav").write_bytes(b"sound")
    reports.wait(music / "linked/song.wav")
    reports.folders.clear()
    (music / "linked").unlink()
    reports.wait_for_rescan(music / "linked")


def test_a_link_that_leads_back_to_its_own_folder_ends(music, reports, tmp_path):
    os.symlink(music, music / "again")
    made = Watcher(
        str(music),
        is_wanted=lambda _: True,
        on_change=reports.add_file,
        on_rescan=reports.add_folder,
    )
    made.start()
    try:
        (music / "song.wav").write_bytes(b"sound")
        reports.wait(music / "song.wav", music / "again/song.wav")
    finally:
        made.stop()


def test_a_folder_that_goes_away_is_watched_again_when_it_is_back(watcher, reports, music):
    shutil.rmtree(music)
    deadline = time.monotonic() + PATIENCE_S
    while not watcher.is_lost and time.monotonic() < deadline:
        time.sleep(0.01)
    assert watcher.is_lost
    music.mkdir()
    reports.wait_for_rescan(music)
    watcher.refresh_watches(str(music))
    (music / "song.wav").write_bytes(b"sound")
    reports.wait(music / "song.wav")
    assert not watcher.is_lost


def test_a_folder_may_be_a_link_itself(music, reports, tmp_path):
    os.symlink(music, tmp_path / "link")
    made = Watcher(
        str(tmp_path / "link"),
        is_wanted=lambda _: True,
        on_change=reports.add_file,
        on_rescan=reports.add_folder,
    )
    made.start()
    try:
        (music / "song.wav").write_bytes(b"sound")
        reports.wait(tmp_path / "link/song.wav")
    finally:
        made.stop()


def test_without_close_events_a_file_has_to_be_unchanged_for_a_while(music, reports):
    made = Watcher(
        str(music),
        is_wanted=lambda _: True,
        on_change=reports.add_file,
        on_rescan=reports.add_folder,
        reports_close=False,
    )
    made.start()
    try:
        (music / "song.wav").write_bytes(b"sound")
        made.record_change(str(music / "song.wav"), FileChange.WRITTEN)
        reports.wait(music / "song.wav")
    finally:
        made.stop()


def test_a_file_that_cannot_be_accepted_requests_a_rescan(music, reports):
    made = Watcher(
        str(music),
        is_wanted=lambda _: True,
        on_change=lambda _: False,
        on_rescan=reports.add_folder,
    )
    made.start()
    try:
        (music / "song.wav").write_bytes(b"sound")
        reports.wait_for_rescan(music)
    finally:
        made.stop()


@needs_closing
def test_events_that_the_kernel_dropped_request_a_rescan(watcher, reports, music):
    from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent

    lost = InotifyEvent(-1, InotifyConstants.IN_Q_OVERFLOW, 0, b"")
    watcher._watches._observer._inotify_fd.handle_event(lost)
    reports.wait_for_rescan(music)
    (music / "song.wav").write_bytes(b"sound")
    reports.wait(music / "song.wav")
