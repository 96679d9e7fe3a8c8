"""A folder is walked once, in order, and all that cannot be read is named."""

from __future__ import annotations

import inspect
import os
import socket
import sys
import tracemalloc

import pytest

from segue.adapters.folder_walk import FolderWalk
from segue.errors import ConfigurationError


def write(folder, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def walk(folder, **options) -> list[str]:
    found = FolderWalk(str(folder), leave_out=lambda _: None, **options)
    return [one.name for one in found if one.status is not None]


def left_out(folder, **options) -> dict[str, str]:
    found = []
    assert list(FolderWalk(str(folder), leave_out=found.append, **options)) is not None
    return {one.name: str(one.reason) for one in found}


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    return folder


def test_files_come_in_the_order_of_their_whole_names(music):
    write(music, "a/b.wav", "a.wav", "a-b/c.wav", "é.wav", "\ue000.wav", "\U0001f3b5.wav")
    names = ["a-b/c.wav", "a.wav", "a/b.wav", "é.wav", "\ue000.wav", "\U0001f3b5.wav"]
    assert walk(music) == names
    assert walk(music, after="a.wav") == names[2:]
    assert walk(music, after="a-b/c.wav", prefix="a") == names[1:3]


def test_folders_that_link_to_each_other_are_walked_once(music):
    for name in "abcdef":
        write(music, f"{name}/x.wav")
        for other in "abcdef":
            os.symlink(f"../{other}", music / name / f"see {other}")
    os.symlink(music, music / "all")
    os.symlink(music.parent, music / "above")
    assert walk(music) == [f"{name}/x.wav" for name in "abcdef"]


def test_a_link_that_leads_out_is_followed_once_under_the_first_of_its_names(music, tmp_path):
    write(tmp_path / "outside", "deep/y.wav", "x.wav")
    write(music, "z.wav")
    os.symlink(tmp_path / "outside", music / "b")
    os.symlink(tmp_path / "outside", music / "c")
    os.symlink(tmp_path / "outside/deep", music / "d")
    os.symlink(tmp_path / "outside", tmp_path / "outside/deep/self")
    os.symlink(music, tmp_path / "outside/home")
    assert walk(music) == ["b/deep/y.wav", "b/x.wav", "z.wav"]


def test_a_folder_outside_has_one_name_also_in_a_walk_that_starts_in_the_middle(music, tmp_path):
    write(tmp_path / "outside", "x.wav")
    write(music, "a/m.wav", "m.wav", "z.wav")
    for name in ("a/link", "b", "y"):
        os.symlink(tmp_path / "outside", music / name)
    os.mkfifo(music / "a/radio.wav")
    names = walk(music)
    assert names == ["a/link/x.wav", "a/m.wav", "m.wav", "z.wav"]
    for number, name in enumerate(names, start=1):
        assert walk(music, after=name) == names[number:]
    assert left_out(music, after="a/m.wav") == {"a/radio.wav": "special_file"}
    assert left_out(music, after="b") == {}


def test_what_lies_above_the_folder_is_walked_without_the_folder_itself(music, tmp_path):
    write(tmp_path, "other/x.wav", "music/z.wav")
    os.symlink(tmp_path, music / "a")
    assert walk(music) == ["a/other/x.wav", "z.wav"]


def test_a_folder_that_is_reached_through_a_link_is_walked_like_any_other(music, tmp_path):
    write(music, "a/x.wav", "y.wav")
    os.symlink("a", music / "b")
    os.symlink(music, tmp_path / "link")
    assert walk(tmp_path / "link") == ["a/x.wav", "y.wav"]
    assert walk(music / "b") == ["x.wav"]


def test_what_is_no_regular_file_is_named_and_never_opened(music):
    write(music, "song.wav")
    os.mkfifo(music / "radio.wav")
    os.symlink("/dev/zero", music / "zero.wav")
    os.symlink("radio.wav", music / "link.wav")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(music / "s.wav"))
    special = ["radio.wav", "zero.wav", "link.wav", "s.wav"]
    assert left_out(music) == dict.fromkeys(special, "special_file")
    assert walk(music) == ["song.wav"]


def test_links_that_lead_nowhere_are_named(music):
    os.symlink("nowhere", music / "lost.wav")
    os.symlink("round.wav", music / "round.wav")
    os.symlink("/dev/null/x", music / "odd.wav")
    assert left_out(music) == dict.fromkeys(["lost.wav", "round.wav", "odd.wav"], "broken_link")


def test_each_name_that_is_not_utf8_is_named(music):
    for name in (b"caf\xe9.wav", b"\xff/x.wav", b"\xff/y.wav"):
        path = os.path.join(os.fsencode(music), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    names = ["caf\udce9.wav", "\udcff/x.wav", "\udcff/y.wav"]
    assert left_out(music) == dict.fromkeys(names, "not_utf8")
    assert walk(music) == []


def make_deep(music, part: str, depth: int) -> None:
    """Make nested folders, each with a file, below paths that no call can take."""
    here = os.open(music, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(part, dir_fd=here)
        inner = os.open(part, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
        os.close(os.open("x.wav", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def test_a_path_that_is_too_long_is_named(music):
    make_deep(music, "d" * 200, 24)
    lengths = [len(os.fsencode(f"{music}/{name}")) for name in walk(music)]
    assert len(lengths) in {19, 20}
    assert max(lengths) < 4096
    reasons = left_out(music)
    assert set(reasons.values()) == {"too_long"}
    assert "d" * 200 in next(iter(reasons))


def test_folders_may_be_nested_deeper_than_calls(music):
    make_deep(music, "d", 200)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        found = walk(music)
    finally:
        sys.setrecursionlimit(limit)
    assert len(found) == 200


def test_a_folder_that_cannot_be_read_costs_itself(music, monkeypatch):
    write(music, "a.wav", "lost+found/x.wav", "z.wav")
    scan = os.scandir

    def refuse(path):
        if os.path.basename(path) == "lost+found":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert walk(music) == ["a.wav", "z.wav"]
    assert left_out(music) == {"lost+found/": "unreadable"}
    with pytest.raises(ConfigurationError, match="is not readable"):
        list(FolderWalk(str(music)))
    with pytest.raises(ConfigurationError, match="Permission denied"):
        walk(music / "lost+found")


def test_a_folder_that_does_not_exist_has_no_files(music):
    write(music, "file")
    assert walk(music / "none") == walk(music / "file") == []


def test_a_file_takes_no_more_memory_once_it_was_found(tmp_path):
    """In one folder there may be millions."""
    for number in range(1000):
        (tmp_path / f"{number}.wav").touch()
    walk = iter(FolderWalk(str(tmp_path)))
    tracemalloc.start()
    next(walk)
    _, listed = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    assert sum(1 for _ in walk) == 999
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= listed
