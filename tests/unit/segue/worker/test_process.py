"""Temporary folders are removed with their owners."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from segue.worker.process import PREFIX, Scratch
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


def test_other_files_are_not_removed(tmp_path: Path) -> None:
    Path(tmp_path, "segue").mkdir()
    Path(tmp_path, f"{PREFIX}file").touch()
    Scratch(str(tmp_path)).remove()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["segue", f"{PREFIX}file"]
