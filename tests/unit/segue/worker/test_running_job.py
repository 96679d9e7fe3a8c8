"""What runs is told by a file, which nobody believes once its process is gone."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from segue.model.lease_owner import build_owner
from segue.worker.running_job import (
    RunningFile,
    RunningJob,
    RunningWriter,
    find_running_jobs,
    list_running_folders,
    read_running_jobs,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ONE = RunningJob(job="beats", uris=("file:///a.wav",), since=NOW, fraction=0.4, text="tracking")
MANY = RunningJob(job="model", uris=("file:///a.wav", "file:///b.wav"), since=NOW)
LATER = msgspec.structs.replace(ONE, uris=("file:///b.wav",), since=NOW + timedelta(seconds=1))


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db.running"


def kill_a_writer(folder: Path) -> str:
    """Have another process write a file and die; return the name that it had."""
    code = (
        "import os, sys; from datetime import datetime, UTC;"
        "from segue.worker.running_job import RunningJob, RunningWriter;"
        "writer = RunningWriter(sys.argv[1:]);"
        "job = RunningJob(job='beats', uris=('file:///a.wav',), since=datetime.now(UTC));"
        "writer.write([job]); print(writer._owner, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -9
    return done.stdout.strip()


def test_a_ledger_in_the_cloud_has_no_folder(ledger: str, folder: Path) -> None:
    assert list_running_folders(ledger) == [str(folder)]
    assert list_running_folders("firestore://acme/segue") == []
    assert find_running_jobs("firestore://acme/segue", "gs://b/a.wav", build_owner()) == []


def test_what_runs_is_read_longest_first_until_nothing_does(folder: Path) -> None:
    writer = RunningWriter([str(folder)])
    writer.write([LATER, ONE])
    assert read_running_jobs([str(folder)]) == [ONE, LATER]
    writer.write([])
    assert read_running_jobs([str(folder)]) == []
    assert not folder.exists()


def test_others_files_stay(folder: Path) -> None:
    first, second = RunningWriter([str(folder)]), RunningWriter([str(folder)])
    first.write([ONE])
    second.write([LATER])
    first.remove()
    assert read_running_jobs([str(folder)]) == [LATER]


def test_only_the_process_that_holds_the_lease_counts(ledger: str, folder: Path) -> None:
    RunningWriter([str(folder)]).write([ONE, MANY])
    own, other = build_owner("run"), "elsewhere:1@boot/17/4/run"
    assert find_running_jobs(ledger, "file:///a.wav", own) == [ONE, MANY]
    assert find_running_jobs(ledger, "file:///b.wav", own) == [MANY]
    assert find_running_jobs(ledger, "file:///a.wav", other) == []


def test_a_killed_process_leaves_nothing_that_is_taken_for_running(
    ledger: str, folder: Path
) -> None:
    owner = kill_a_writer(folder)
    assert len(list(folder.iterdir())) == 1
    assert read_running_jobs([str(folder)]) == []
    assert find_running_jobs(ledger, "file:///a.wav", owner) == []
    RunningWriter([str(folder)]).write([ONE])
    assert len(list(folder.iterdir())) == 1  # the next one cleans up
    assert read_running_jobs([str(folder)]) == [ONE]


def test_a_file_that_is_no_json_is_ignored(folder: Path) -> None:
    folder.mkdir()
    (folder / "1-x.running").write_bytes(b"{")
    (folder / "2-x.running").write_bytes(msgspec.json.encode({"owner": 5}))
    path = folder / "3-x.running"
    path.write_bytes(msgspec.json.encode(RunningFile(owner=build_owner(), running=(ONE,))))
    assert read_running_jobs([str(folder)]) == [ONE]


def test_a_folder_that_cannot_exist_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    writer = RunningWriter([str(tmp_path / "file" / "x"), str(tmp_path / "fine")])
    writer.write([ONE])
    assert read_running_jobs([str(tmp_path / "file" / "x"), str(tmp_path / "fine")]) == [ONE]
    writer.remove()


def test_a_folder_that_another_process_has_removed_is_made_again(folder: Path) -> None:
    writer = RunningWriter([str(folder)])
    writer.write([ONE])
    (file,) = folder.iterdir()
    file.unlink()
    folder.rmdir()
    writer.write([MANY])
    assert read_running_jobs([str(folder)]) == [MANY]
    writer.remove()
    assert not folder.exists()


def test_what_another_machine_has_left_is_not_taken_for_running(folder: Path) -> None:
    folder.mkdir()
    owner = f"elsewhere:{build_owner().partition(':')[2]}"
    path = folder / "1-x.running"
    path.write_bytes(msgspec.json.encode(RunningFile(owner=owner, running=(ONE,))))
    assert read_running_jobs([str(folder)]) == []
    assert path.exists()  # it may be alive there
