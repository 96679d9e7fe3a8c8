"""The watch on real folders: when a file counts as complete, and how trees are handled."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time

import pytest

from segue.errors import ConfigurationError
from segue_cli.local import folder_watch
from segue_cli.local.folder_watch import SETTLE_S, WRITER_S, FolderWatch

PATIENCE_S = 20.0
# The kernel reports on these platforms when a file is closed after writing.
needs_closing = pytest.mark.skipif(
    not folder_watch.REPORTS_CLOSE, reason="only Linux reports that a file was closed"
)


class Reports:
    """What a watch reported."""

    def __init__(self):
        self.files: dict[str, float | None] = {}  # path → how long it has to settle
        self.unclear = 0
        self._changes = threading.Condition()

    def add_file(self, path: str, settle_s: float | None) -> None:
        with self._changes:
            self.files[path] = settle_s
            self._changes.notify_all()

    def count_unclear(self) -> None:
        with self._changes:
            self.unclear += 1
            self._changes.notify_all()

    def wait(self, *paths: object, settle_s: float | None = None) -> None:
        """Wait until each of these files has to settle for so long."""
        wanted = {str(p): settle_s for p in paths}
        with self._changes:
            assert self._changes.wait_for(
                lambda: wanted.items() <= self.files.items(), PATIENCE_S
            ), self.files

    def wait_for(self, path: object) -> None:
        """Wait until a file is reported, however long it has to settle."""
        with self._changes:
            assert self._changes.wait_for(lambda: str(path) in self.files, PATIENCE_S), self.files

    def wait_until_unclear(self) -> None:
        """Wait until anything may have changed, since the last call."""
        with self._changes:
            assert self._changes.wait_for(lambda: self.unclear, PATIENCE_S)
            self.unclear = 0


@pytest.fixture
def reports():
    return Reports()


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    return folder


@contextlib.contextmanager
def watching(folder, reports):
    watch = FolderWatch(str(folder), on_change=reports.add_file, on_unclear=reports.count_unclear)
    try:
        watch.start()
        yield watch
    finally:
        watch.stop()


@pytest.fixture
def watch(music, reports):
    with watching(music, reports) as made:
        yield made


@needs_closing
def test_a_file_is_complete_once_it_is_closed(watch, reports, music):
    with (music / "song.wav").open("wb") as file:
        file.write(b"half")
        file.flush()
        reports.wait(music / "song.wav", settle_s=WRITER_S)
    reports.wait(music / "song.wav")


def test_without_close_events_a_file_has_to_be_unchanged_for_a_while(
    watch, reports, music, monkeypatch
):
    monkeypatch.setattr(folder_watch, "REPORTS_CLOSE", False)
    with (music / "song.wav").open("wb") as file:
        file.write(b"half")
        file.flush()
        reports.wait(music / "song.wav", settle_s=SETTLE_S)


def test_a_deleted_file_is_reported(watch, reports, music):
    (music / "song.wav").write_bytes(b"sound")
    reports.wait(music / "song.wav")
    reports.files.clear()
    (music / "song.wav").unlink()
    reports.wait(music / "song.wav")


def test_a_renamed_file_is_reported_under_both_names(watch, reports, music):
    (music / "old.wav").write_bytes(b"sound")
    reports.wait(music / "old.wav")
    reports.files.clear()
    os.rename(music / "old.wav", music / "new.wav")
    reports.wait(music / "old.wav", music / "new.wav")


def test_a_file_whose_attributes_change_has_a_new_generation(watch, reports, music):
    (music / "song.wav").write_bytes(b"sound")
    reports.wait(music / "song.wav")
    (music / "song.wav").chmod(0o600)
    reports.wait(music / "song.wav", settle_s=SETTLE_S)


def test_a_link_is_reported_without_being_closed(watch, reports, music, tmp_path):
    (tmp_path / "elsewhere.wav").write_bytes(b"sound")
    os.link(tmp_path / "elsewhere.wav", music / "hard.wav")
    os.symlink(tmp_path / "elsewhere.wav", music / "soft.wav")
    reports.wait(music / "hard.wav", music / "soft.wav", settle_s=SETTLE_S)


def test_files_in_new_folders_are_reported(watch, reports, music):
    deep = music / "artist" / "album"
    deep.mkdir(parents=True)
    (deep / "1.wav").write_bytes(b"sound")
    reports.wait_until_unclear()
    reports.wait_for(deep / "1.wav")  # it may have been closed before its folder was watched
    (deep / "2.wav").write_bytes(b"sound")
    reports.wait(deep / "2.wav")


def test_a_tree_that_is_moved_in_is_watched_and_compared(watch, reports, music, tmp_path):
    (tmp_path / "album/disc").mkdir(parents=True)
    os.rename(tmp_path / "album", music / "album")
    reports.wait_until_unclear()
    (music / "album/disc/2.wav").write_bytes(b"sound")
    reports.wait(music / "album/disc/2.wav")


def test_a_tree_that_is_moved_out_is_compared(watch, reports, music, tmp_path):
    (music / "album").mkdir()
    reports.wait_until_unclear()
    os.rename(music / "album", tmp_path / "album")
    reports.wait_until_unclear()


def test_a_folder_whose_permissions_change_is_compared(music, reports):
    (music / "album").mkdir()
    with watching(music, reports):
        (music / "album").chmod(0o700)
        reports.wait_until_unclear()


def test_after_folders_were_moved_all_is_watched_under_its_present_name(watch, reports, music):
    (music / "a/b").mkdir(parents=True)
    (music / "c").mkdir()
    reports.wait_until_unclear()
    os.rename(music / "a/b", music / "c/b")
    os.rename(music / "c", music / "a/c")
    os.rename(music / "a", music / "d")
    reports.wait_until_unclear()
    time.sleep(1.0)  # the library pairs the two halves of a move within half a second
    watch.refresh()
    (music / "d/c/b/song.wav").write_bytes(b"sound")
    reports.wait(music / "d/c/b/song.wav")


def test_folders_behind_links_are_watched_under_the_name_of_the_link(
    music, reports, watch, tmp_path
):
    outside = tmp_path / "outside"
    outside.mkdir()
    (music / "album").mkdir()
    reports.wait_until_unclear()
    os.symlink(outside, music / "album/linked")
    reports.wait_until_unclear()
    watch.refresh()
    (outside / "song.wav").write_bytes(b"sound")
    reports.wait(music / "album/linked/song.wav")
    (music / "album/linked").unlink()
    reports.wait_until_unclear()
    watch.refresh()


def test_a_link_whose_target_was_replaced_is_watched_again(music, reports, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, music / "linked")
    with watching(music, reports) as watch:
        os.rename(outside, tmp_path / "old")
        outside.mkdir()
        watch.refresh()
        (outside / "song.wav").write_bytes(b"sound")
        reports.wait(music / "linked/song.wav")


def test_a_file_that_is_closed_while_all_is_watched_anew_is_reported(
    watch, reports, music, monkeypatch
):
    schedule = FolderWatch._schedule_all

    def close_first(self):
        file.close()
        reports.wait(music / "song.wav")
        schedule(self)

    (music / "album").mkdir()
    (music / "album").rmdir()
    reports.wait_until_unclear()
    monkeypatch.setattr(FolderWatch, "_schedule_all", close_first)
    with (music / "song.wav").open("wb") as file:
        reports.wait(music / "song.wav", settle_s=WRITER_S)
        while not watch._is_stale:
            time.sleep(0.01)
        watch.refresh()
    assert file.closed


def test_only_the_links_that_a_listing_follows_are_watched(music, reports, tmp_path):
    for name in ("music/album", "outside"):
        (tmp_path / name).mkdir(exist_ok=True)
    os.symlink(music, music / "again")
    os.symlink("album", music / "best")
    os.symlink("loop", music / "loop")
    os.symlink(tmp_path / "outside", music / "linked")
    os.symlink(tmp_path / "outside", music / "linked2")
    with watching(music, reports):
        (tmp_path / "outside/tune.wav").write_bytes(b"sound")
        reports.wait(music / "linked/tune.wav")
        (music / "album/song.wav").write_bytes(b"sound")
        reports.wait(music / "album/song.wav")
    assert set(reports.files) == {str(music / "linked/tune.wav"), str(music / "album/song.wav")}


def test_a_file_that_a_link_outside_leads_back_to_is_reported_under_its_own_name(
    music, reports, tmp_path
):
    (tmp_path / "outside").mkdir()
    os.symlink(music, tmp_path / "outside/back")
    os.symlink(tmp_path, music / "above")
    with watching(music, reports):
        (music / "song.wav").write_bytes(b"sound")
        (tmp_path / "outside/tune.wav").write_bytes(b"sound")
        reports.wait(music / "song.wav", music / "above/outside/tune.wav")
    expected = {str(music / "song.wav"), str(music / "above/outside/tune.wav")}
    assert set(reports.files) == expected


def test_a_folder_that_goes_away_is_watched_again_when_it_is_back(watch, reports, music):
    shutil.rmtree(music)
    assert watch.is_outdated
    watch.refresh()
    assert not watch.is_outdated
    music.mkdir()
    assert watch.is_outdated
    watch.refresh()
    (music / "song.wav").write_bytes(b"sound")
    reports.wait(music / "song.wav")


def test_a_folder_that_is_replaced_is_watched_again(watch, reports, music, tmp_path):
    os.rename(music, tmp_path / "old")
    music.mkdir()
    assert watch.is_outdated
    watch.refresh()
    (music / "song.wav").write_bytes(b"sound")
    reports.wait(music / "song.wav")


def test_a_folder_may_be_a_link_itself(music, reports, tmp_path):
    os.symlink(music, tmp_path / "link")
    with watching(tmp_path / "link", reports):
        (music / "song.wav").write_bytes(b"sound")
        reports.wait(tmp_path / "link/song.wav")


def test_a_platform_that_refuses_to_watch_is_reported(music, reports, monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr("watchdog.observers.api.BaseObserver.schedule", refuse)
    with pytest.raises(ConfigurationError, match="max_user_watches"), watching(music, reports):
        pass


@needs_closing
def test_events_that_the_kernel_dropped_request_a_rescan(watch, reports, music):
    from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent

    lost = InotifyEvent(-1, InotifyConstants.IN_Q_OVERFLOW, 0, b"")
    watch._observer._inotify_fd.handle_event(lost)
    reports.wait_until_unclear()
    (music / "song.wav").write_bytes(b"sound")
    reports.wait(music / "song.wav")
