"""The record of a backfill, whatever ends its process: real processes, signals and files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

import segue
from segue.adapters.connect import connect_store
from segue.errors import TooManyFailures
from segue.model.run import LOST, RunRecord, RunState, load_run
from segue_cli.exit_code import ExitCode

PATIENCE_S = 90
# The command, with a record that is updated more often.
COMMAND = """
import sys
from segue_cli.entry_point import main
from segue.execution.run_recorder import RunRecorder
RunRecorder.__init__.__kwdefaults__["update_s"] = 0.1
sys.exit(main())
"""
JOBS = """
import os, time

def work(media):
    name = media.uri.rpartition("/")[2]
    if name.startswith("bad"):
        raise ValueError("a bad file")
    while name.startswith("slow") and not os.path.exists("go"):
        time.sleep(0.02)
    return 1
"""
GRAPH = "jobs:\n  work: {run: 'worked:work', needs: {media: source}, writes: application/json}\n"


@dataclass
class Project:
    """A folder with a job, and files that are fast, slow or bad."""

    folder: Path

    def write(self, *names: str) -> None:
        for name in names:
            (self.folder / f"music/{name}.wav").write_bytes(name.encode())

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        command = ["backfill", "--prefix", "music", "--all", "--processes", "2", *arguments]
        return subprocess.Popen(
            [sys.executable, "-c", COMMAND, *command],
            cwd=self.folder,
            env=clean,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def runs(self) -> list[RunRecord]:
        store = connect_store(str(self.folder / ".segue/artifacts"))
        names = [found.name.rpartition("/")[2] for found in store.list("_runs/")]
        return [load_run(store, name.removesuffix(".json")) for name in names]

    def wait_for(self, holds: Callable[[RunRecord], bool]) -> RunRecord:
        """Wait until the latest record is as it should be."""
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            if (runs := self.runs) and holds(runs[-1]):
                return runs[-1]
            time.sleep(0.05)
        pytest.fail(f"it has not come to that: {self.runs}")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SEGUE_")]:
        monkeypatch.delenv(name)
    (tmp_path / "worked.py").write_text(JOBS)
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    (tmp_path / "music").mkdir()
    return Project(tmp_path)


def is_under_way(run: RunRecord) -> bool:
    """Whether the fast file is counted, while the slow ones keep the run busy."""
    return run.counts.files == 1


def test_a_run_to_its_end_is_done_whether_files_failed_or_not(project):
    project.write("1", "2", "bad")
    with project.start("--json") as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.FAILURES, err
    [run] = project.runs
    assert json.loads(out)["run"] == run.id
    assert (run.state, run.error) == (RunState.DONE, None)
    assert (run.counts.files, run.counts.failed_files) == (3, 1)
    assert run.counts.jobs == {"work": {"done": 2, "failed": 1}}
    with project.start("--dry-run", "--json") as process:
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert json.loads(out)["run"] is None
    assert project.runs == [run]


def test_a_run_whose_files_all_fail_has_failed(project, monkeypatch):
    project.write(*(f"bad {number}" for number in range(5)))
    monkeypatch.syspath_prepend(str(project.folder))
    with pytest.raises(TooManyFailures):
        segue.backfill("work", prefix="music", processes=2, max_first_failures=3)
    [run] = project.runs
    assert run.state is RunState.FAILED
    assert run.error.startswith("the first 3 files all failed in job 'work'")
    assert run.counts.files >= 3
    assert run.counts.jobs == {"work": {"failed": run.counts.files}}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_run_says_so_with_what_was_done_by_then(project, number):
    project.write("fast", "slow 1", "slow 2")
    with project.start() as process:
        project.wait_for(is_under_way)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in err
    [run] = project.runs
    assert run.state is RunState.INTERRUPTED
    assert run.ended_at is not None
    assert run.counts.jobs == {"work": {"done": 1}}
    (project.folder / "go").touch()
    with project.start() as process:
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert [run.state for run in project.runs] == [RunState.INTERRUPTED, RunState.DONE]
    assert project.runs[-1].counts.jobs == {"work": {"current": 1, "done": 2}}


def test_a_killed_run_says_that_it_runs_and_is_lost(project):
    project.write("fast", "slow 1", "slow 2")
    with project.start() as process:
        project.wait_for(is_under_way)
        process.kill()
        process.communicate(timeout=PATIENCE_S)
    [run] = project.runs
    assert (run.state, run.ended_at) == (RunState.RUNNING, None)
    assert run.counts.jobs == {"work": {"done": 1}}
    assert not run.is_lost(run.updated_at + timedelta(seconds=1))
    assert run.is_lost(run.updated_at + LOST + timedelta(seconds=1))
