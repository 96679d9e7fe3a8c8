"""The watcher, on real folders: when a file counts as complete, and what becomes of whole trees."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time

import pytest

from segue_cli.local.watcher import Sign, Watcher

PATIENCE_S = 20.0
# The kernel tells these platforms when a file is closed after writing.
TELLS = sys.platform == "linux"
needs_closing = pytest.mark.skipif(not TELLS, reason="only Linux tells that a file was closed")


class Told:
    """What a watcher said."""

    def __init__(self):
        self.files: list[str] = []
        self.folders: list[str] = []
        self._changes = threading.Condition()

    def changed(self, path: str) -> bool:
        with self._changes:
            self.files.append(path)
            self._changes.notify_all()
        return True

    def doubtful(self, folder: str) -> None:
        with self._changes:
            self.folders.append(folder)
            self._changes.notify_all()

    def wait(self, *paths: object) -> None:
        """Wait until each of these files was told of."""
        wanted = {str(p) for p in paths}
        with self._changes:
            assert self._changes.wait_for(lambda: wanted <= set(self.files), PATIENCE_S), (
                wanted - set(self.files)
            )

    def wait_for_doubt(self, folder: object) -> None:
        with self._changes:
            assert self._changes.wait_for(lambda: str(folder) in self.folders, PATIENCE_S)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    return folder


@pytest.fixture
def watcher(music, told):
    made = Watcher(
        str(music),
        wanted=lambda path: path.endswith(".wav"),
        changed=told.changed,
        doubtful=told.doubtful,
    )
    made.start()
    yield made
    made.stop()


def test_a_file_is_told_of_once_it_is_closed(watcher, told, music):
    (music / "song.wav").write_bytes(b"sound")
    told.wait(music / "song.wav")


@needs_closing
def test_a_file_that_is_open_for_writing_is_waited_for(watcher, told, music):
    with (music / "song.wav").open("wb") as file:
        file.write(b"half")
        file.flush()
        (music / "other.wav").write_bytes(b"sound")
        told.wait(music / "other.wav")
        time.sleep(0.2)  # several times as long as an unchanged file would have to be quiet
        assert told.files == [str(music / "other.wav")]
        assert watcher.is_awaited(str(music / "song.wav"))
    told.wait(music / "song.wav")


@needs_closing
def test_a_burst_of_writes_is_one_change(watcher, told, music):
    for _ in range(5):
        with (music / "song.wav").open("ab") as file:
            file.write(b"x" * 1000)
    (music / "last.wav").write_bytes(b"sound")
    told.wait(music / "last.wav", music / "song.wav")
    assert len(told.files) < 6


def test_what_nobody_wants_is_not_told(watcher, told, music):
    (music / ".song.wav.part").write_bytes(b"half")
    (music / "song.wav~").write_bytes(b"half")
    os.rename(music / ".song.wav.part", music / "song.wav")
    told.wait(music / "song.wav")
    assert set(told.files) == {str(music / "song.wav")}


def test_a_deleted_file_is_told_of(watcher, told, music):
    (music / "song.wav").write_bytes(b"sound")
    told.wait(music / "song.wav")
    told.files.clear()
    (music / "song.wav").unlink()
    told.wait(music / "song.wav")


def test_a_renamed_file_is_told_of_under_both_names(watcher, told, music):
    (music / "old.wav").write_bytes(b"sound")
    told.wait(music / "old.wav")
    told.files.clear()
    os.rename(music / "old.wav", music / "new.wav")
    told.wait(music / "old.wav", music / "new.wav")


def test_a_file_whose_attributes_change_has_a_new_generation(watcher, told, music):
    (music / "song.wav").write_bytes(b"sound")
    told.wait(music / "song.wav")
    told.files.clear()
    (music / "song.wav").chmod(0o600)
    told.wait(music / "song.wav")


def test_a_link_is_complete_without_being_closed(watcher, told, music, tmp_path):
    (tmp_path / "elsewhere.wav").write_bytes(b"sound")
    os.link(tmp_path / "elsewhere.wav", music / "hard.wav")
    os.symlink(tmp_path / "elsewhere.wav", music / "soft.wav")
    told.wait(music / "hard.wav", music / "soft.wav")


def test_files_in_new_folders_are_told_of(watcher, told, music):
    deep = music / "artist" / "album"
    deep.mkdir(parents=True)
    (deep / "1.wav").write_bytes(b"sound")
    told.wait(deep / "1.wav")
    told.wait_for_doubt(music / "artist")


def test_a_tree_that_is_moved_in_is_told_of_and_compared(watcher, told, music, tmp_path):
    (tmp_path / "album/disc").mkdir(parents=True)
    (tmp_path / "album/disc/1.wav").write_bytes(b"sound")
    os.rename(tmp_path / "album", music / "album")
    told.wait(music / "album/disc/1.wav")
    (music / "album/disc/2.wav").write_bytes(b"sound")
    told.wait(music / "album/disc/2.wav")


def test_a_tree_that_is_moved_out_is_compared(watcher, told, music, tmp_path):
    (music / "album").mkdir()
    told.wait_for_doubt(music / "album")
    told.folders.clear()
    os.rename(music / "album", tmp_path / "album")
    told.wait_for_doubt(music / "album")


def test_after_folders_were_moved_all_is_watched_under_its_present_name(watcher, told, music):
    (music / "a/b").mkdir(parents=True)
    (music / "c").mkdir()
    told.wait_for_doubt(music / "c")
    os.rename(music / "a/b", music / "c/b")
    os.rename(music / "c", music / "a/c")
    os.rename(music / "a", music / "d")
    told.wait_for_doubt(music)
    time.sleep(1.0)  # the library pairs the two halves of a move within half a second
    watcher.renew(str(music))
    (music / "d/c/b/song.wav").write_bytes(b"sound")
    told.wait(music / "d/c/b/song.wav")


def test_a_further_name_of_a_file_puts_its_other_names_in_doubt(watcher, told, music):
    (music / "song.wav").write_bytes(b"sound")
    told.wait(music / "song.wav")
    os.link(music / "song.wav", music / "again.wav")
    told.wait_for_doubt(music)


def test_folders_behind_links_are_watched_under_the_name_of_the_link(
    music, told, watcher, tmp_path
):
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, music / "linked")
    told.wait_for_doubt(music / "linked")
    watcher.renew(str(music / "linked"))
    (outside / "song.wav").write_bytes(b"sound")
    told.wait(music / "linked/song.wav")
    told.folders.clear()
    (music / "linked").unlink()
    told.wait_for_doubt(music / "linked")


def test_a_link_that_leads_back_to_its_own_folder_ends(music, told, tmp_path):
    os.symlink(music, music / "again")
    made = Watcher(str(music), wanted=lambda _: True, changed=told.changed, doubtful=told.doubtful)
    made.start()
    try:
        (music / "song.wav").write_bytes(b"sound")
        told.wait(music / "song.wav", music / "again/song.wav")
    finally:
        made.stop()


def test_a_folder_that_goes_away_is_watched_again_when_it_is_back(watcher, told, music):
    shutil.rmtree(music)
    deadline = time.monotonic() + PATIENCE_S
    while not watcher.is_lost and time.monotonic() < deadline:
        time.sleep(0.01)
    assert watcher.is_lost
    music.mkdir()
    told.wait_for_doubt(music)
    watcher.renew(str(music))
    (music / "song.wav").write_bytes(b"sound")
    told.wait(music / "song.wav")
    assert not watcher.is_lost


def test_a_folder_may_be_a_link_itself(music, told, tmp_path):
    os.symlink(music, tmp_path / "link")
    made = Watcher(
        str(tmp_path / "link"),
        wanted=lambda _: True,
        changed=told.changed,
        doubtful=told.doubtful,
    )
    made.start()
    try:
        (music / "song.wav").write_bytes(b"sound")
        told.wait(tmp_path / "link/song.wav")
    finally:
        made.stop()


def test_where_nobody_tells_of_closing_a_file_has_to_be_quiet(music, told):
    made = Watcher(
        str(music),
        wanted=lambda _: True,
        changed=told.changed,
        doubtful=told.doubtful,
        closes=False,
    )
    made.start()
    try:
        (music / "song.wav").write_bytes(b"sound")
        made.saw(str(music / "song.wav"), Sign.WRITTEN)
        told.wait(music / "song.wav")
    finally:
        made.stop()


def test_what_cannot_be_taken_puts_the_folder_in_doubt(music, told):
    made = Watcher(
        str(music), wanted=lambda _: True, changed=lambda _: False, doubtful=told.doubtful
    )
    made.start()
    try:
        (music / "song.wav").write_bytes(b"sound")
        told.wait_for_doubt(music)
    finally:
        made.stop()


@needs_closing
def test_events_that_the_kernel_dropped_put_the_folder_in_doubt(watcher, told, music):
    from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent

    lost = InotifyEvent(-1, InotifyConstants.IN_Q_OVERFLOW, 0, b"")
    watcher._watches._observer._inotify_fd.handle_event(lost)
    told.wait_for_doubt(music)
    (music / "song.wav").write_bytes(b"sound")
    told.wait(music / "song.wav")
