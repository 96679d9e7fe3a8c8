"""Temporary folders are removed with their owners."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from segue.worker.process import PREFIX, Scratch, find_full_disk, kill_users
from segue_support.paths import ROOT


def test_a_folder_exists_until_it_is_removed(tmp_path: Path) -> None:
    scratch = Scratch(str(tmp_path))
    Path(scratch.path, "below").mkdir()
    Path(scratch.path, "below", "file").touch()
    scratch.remove()
    assert list(tmp_path.iterdir()) == []


def test_only_the_folder_of_a_dead_process_is_removed(
    tmp_path: Path,
) -> None:
    living = Scratch(str(tmp_path))
    code = f"from segue.worker.process import Scratch; print(Scratch({str(tmp_path)!r}).path)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    dead = result.stdout.strip()
    assert os.path.isdir(dead)
    new = Scratch(str(tmp_path))
    assert sorted(str(p) for p in tmp_path.iterdir()) == sorted([living.path, new.path])
    living.remove()
    new.remove()


def test_what_a_killed_owner_has_started_ends_with_its_folder(tmp_path: Path) -> None:
    folder = Scratch(str(tmp_path)).path
    left = subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"],
        env={**os.environ, "TMPDIR": f"{folder}/7/tmp"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert left.stdout is not None
    left.stdout.readline()
    living = Scratch(str(tmp_path))  # the first owner lives: its lock is still held
    assert left.poll() is None
    os.close(_find_lock(folder))
    Scratch(str(tmp_path)).remove()
    left.communicate()
    assert left.returncode == -signal.SIGKILL
    living.remove()


def _find_lock(folder: str) -> int:
    """Return this process's file descriptor of a folder."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == folder:
                return int(name)
    raise AssertionError(f"{folder} is not open")


def test_other_files_are_not_removed(tmp_path: Path) -> None:
    Path(tmp_path, "segue").mkdir()
    Path(tmp_path, f"{PREFIX}file").touch()
    Scratch(str(tmp_path)).remove()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["segue", f"{PREFIX}file"]


def test_only_processes_with_their_temporary_files_in_the_folder_are_killed(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    programs = []
    for folder in ("mine/7/tmp", "other"):
        programs.append(
            subprocess.Popen(
                command,
                env={**os.environ, "TMPDIR": str(tmp_path / folder)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        )
        assert programs[-1].stdout is not None
        programs[-1].stdout.readline()
    kill_users(str(tmp_path / "mine"))
    for program in programs:
        program.communicate()
    assert [program.returncode for program in programs] == [-signal.SIGKILL, 0]


def test_a_full_disk_is_found(tmp_path: Path) -> None:
    folders = ["/nowhere", str(tmp_path)]
    found = os.statvfs(tmp_path)
    size_bytes = found.f_blocks * found.f_frsize
    assert find_full_disk(folders) is None
    # Nearly all of the disk would have to be free; a tenth of a small one is enough.
    is_mostly_free = 10 * found.f_bavail > found.f_blocks
    full = find_full_disk(folders, bytes_left=size_bytes)
    assert full == (None if is_mostly_free else str(tmp_path))
