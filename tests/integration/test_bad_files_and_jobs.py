"""A bad file costs that file, a bad job stops the run, and nothing nearby is executed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import segue

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
JOB = "job: {run: '%s', needs: {media: source}, writes: application/json}"
OTHER = "other: {run: 'segue_support.jobs:fine', needs: {media: source}, writes: application/json}"
WORKERS = ("--direct_running_mode", "multi_processing", "--direct_num_workers", "2")


def write_project(folder: Path, code: str, *, files: int) -> None:
    (folder / "mine.py").write_text(code)
    (folder / "jobs.yaml").write_text(f"jobs:\n  {JOB % 'mine:job'}\n  {OTHER}\n")
    (folder / "music").mkdir()
    for number in range(files):
        (folder / "music" / f"{number:03}.wav").write_bytes(b"sound")


def backfill(
    folder: Path, *options: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    places = {
        "--graph": folder / "jobs.yaml",
        "--prefix": folder / "music",
        "--ledger": f"sqlite:///{folder}/ledger.db",
        "--artifacts": folder / "artifacts",
    }
    words = [str(word) for pair in places.items() for word in pair]
    return subprocess.run(
        [SEGUE, "backfill", "--all", "--processes", "2", *words, *options],
        cwd=cwd or folder,
        env=clean,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def count_states(folder: Path, job: str) -> dict[str, int]:
    counts = segue.status(graph=folder / "jobs.yaml", ledger=f"sqlite:///{folder}/ledger.db")
    return {str(state): n for state, n in counts.jobs[job].items() if n}


def test_a_run_whose_first_files_all_fail_in_a_job_stops_unless_that_is_tolerated(
    tmp_path: Path,
) -> None:
    write_project(tmp_path, "def job(media): raise ValueError('no weights')", files=450)
    ran = backfill(tmp_path, "--json")
    assert ran.returncode == 3, ran.stderr
    assert "files all failed in job 'job' (job_raised" in ran.stderr
    assert "no weights" in ran.stderr
    assert "--tolerate 100%" in ran.stderr
    totals = json.loads(ran.stdout)
    assert totals["error"] in ran.stderr
    assert totals["jobs"]["job"]["failures"] == {"job_raised": totals["files"]}
    assert 200 <= totals["files"] <= count_states(tmp_path, "job")["failed"] < 450
    assert backfill(tmp_path, "--tolerate", "100%").returncode == 0
    assert count_states(tmp_path, "job")["failed"] == 450
    assert count_states(tmp_path, "other")["done"] == 450


def test_an_import_that_fails_inside_a_job_stops_the_run_and_records_no_failure(
    tmp_path: Path,
) -> None:
    write_project(tmp_path, "def job(media): import no_such_module", files=5)
    ran = backfill(tmp_path)
    assert ran.returncode == 2, ran.stderr
    assert "job 'job': ModuleNotFoundError: No module named 'no_such_module'" in ran.stderr
    assert set(count_states(tmp_path, "job")) == {"missing"}


def test_an_import_that_fails_inside_a_job_stops_the_whole_system_as_well(tmp_path: Path) -> None:
    write_project(tmp_path, "def job(media): import no_such_module", files=1)
    settings = {
        "SEGUE_GRAPH": tmp_path / "jobs.yaml",
        "SEGUE_LEDGER": f"sqlite:///{tmp_path}/ledger.db",
        "SEGUE_QUEUE": f"sqlite:///{tmp_path}/queue.db",
        "SEGUE_ARTIFACTS": tmp_path / "artifacts",
    }
    ran = subprocess.run(
        [SEGUE, "up", "music"],
        cwd=tmp_path,
        env={**os.environ, **{name: str(value) for name, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 2, ran.stderr
    assert "No module named 'no_such_module'" in ran.stderr
    assert set(count_states(tmp_path, "job")) == {"missing"}


@pytest.mark.parametrize("options", [(), WORKERS], ids=["one worker", "worker processes"])
def test_nothing_in_the_current_folder_is_imported(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    for name in ("pickle", "random", "numpy", "yaml", "segue", "apache_beam", "sitecustomize"):
        code = f"open({str(tmp_path / 'executed')!r}, 'a').write({name!r})\nraise SystemExit(9)\n"
        (downloads / f"{name}.py").write_text(code)
    write_project(tmp_path, "import pickle, random\ndef job(media): return {}", files=5)
    ran = backfill(tmp_path, *options, cwd=downloads)
    assert not (tmp_path / "executed").exists()
    assert ran.returncode == 0, ran.stderr
    assert count_states(tmp_path, "job") == {"done": 5}


@pytest.mark.parametrize("command", ["segue_cli --version", "segue_functions.server --help"])
def test_python_with_m_imports_nothing_from_the_current_folder(
    tmp_path: Path, command: str
) -> None:
    for name in ("argparse", "click", "functions_framework", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('it was imported')")
    ran = subprocess.run(
        [sys.executable, "-m", *command.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
