"""Backfills of real audio that are cancelled, that fail too often, or that keep to a rate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from segue.adapters.connect import connect_ledger
from segue.model.controls import NO_CONTROLS
from segue.testing.sound import sine_at_lufs, write
from segue_cli.exit_code import ExitCode
from segue_support.webhook import serve_hook

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 120
FILES = 50
GRAPH = """
include: ["*.wav"]
jobs:
  probe: {run: "segue.features.headers:probe", needs: {media: source}, writes: application/json}
  loudness:
    run: segue.features.ebu_r128:loudness
    needs: {media: source}
    writes: application/json
  slow:
    run: slowly:work
    needs: {loudness: loudness, media: source}
    writes: application/json
"""
JOBS = """
import os, time

def work(loudness, media):
    time.sleep(float(os.environ["NAP_S"]))
    if media.uri.endswith("-bad.wav"):
        raise ValueError("a bad file")
    return loudness["integrated_lufs"]
"""


@dataclass
class Project:
    """A folder with songs, of which each takes some time."""

    folder: Path

    nap_s: float = 0.4  # that each file takes

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        return subprocess.Popen(
            [SEGUE, *arguments],
            cwd=self.folder,
            env={**clean, "NAP_S": str(self.nap_s)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, Any, str]:
        with self.start(*arguments, "--json") as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        return process.returncode, json.loads(out) if out else None, err

    def spoil(self) -> None:
        """Have every second file fail."""
        for path in (self.folder / "music").glob("*[13579].wav"):
            path.rename(path.with_name(f"{path.stem}-bad.wav"))

    def wait_for_run(self, files: int) -> dict[str, Any]:
        """Wait until a run has finished some files, and return its record."""
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            _, found, _ = self.run("runs", "--limit", "1")
            if found["runs"] and found["runs"][0]["counts"].get("files", 0) >= files:
                return found["runs"][0]
            time.sleep(0.1)
        pytest.fail("it has not come to that")


@pytest.fixture
def project(tmp_path) -> Project:
    (tmp_path / "slowly.py").write_text(JOBS)
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    (tmp_path / "music").mkdir()
    sound = sine_at_lufs(-23.0, duration_s=1.0)
    for number in range(FILES):
        write(sound, str(tmp_path / f"music/{number:02}.wav"))
    return Project(tmp_path)


BACKFILL = ("backfill", "--prefix", "music", "--all", "--processes", "2")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_backfill_that_is_cancelled_finishes_what_it_has_begun(project, workers):
    options = ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]
    more = [*options, "--processes", "1"] if workers == 2 else []
    project.nap_s = 1.0
    with project.start(*BACKFILL, "--json", *more) as process:
        run = project.wait_for_run(files=2)["id"]
        code, cancelled, err = project.run("cancel", run[-8:])
        out, said = process.communicate(timeout=PATIENCE_S)
    assert code == ExitCode.OK, err
    assert cancelled["state"] == "cancelled"
    assert process.returncode == ExitCode.INTERRUPTED, said
    assert "the run was cancelled by" in said
    counts = json.loads(out)
    assert counts["run"] == run
    assert 2 <= counts["files"] < FILES
    assert counts["files"] + counts["not_started"] == FILES
    _, shown, _ = project.run("runs", run)
    assert (shown["state"], shown["counts"]["not_started"]) == ("cancelled", counts["not_started"])
    assert shown["cancelled_by"] == shown["who"]
    _, status, _ = project.run("status")
    slow = status["jobs"]["slow"]
    assert (slow["done"], slow["running"]) == (counts["files"], 0)
    ledger = connect_ledger(f"sqlite:///{project.folder}/.segue/ledger.db")
    assert ledger.read_controls() == NO_CONTROLS  # it is forgotten

    project.nap_s = 0.0
    code, rest, err = project.run(*BACKFILL)
    assert code == ExitCode.OK, err
    assert rest["files"] == FILES
    assert rest["jobs"]["slow"]["statuses"]["done"] == FILES - counts["files"]
    code, _, err = project.run("cancel", run)
    assert code == ExitCode.USAGE
    assert "is over: it was cancelled" in err


@pytest.mark.parametrize("workers", [1, 2])
def test_a_backfill_in_which_too_many_files_fail_begins_nothing_more(project, workers):
    project.spoil()
    options = ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]
    more = options if workers == 2 else []
    code, counts, err = project.run(*BACKFILL, "--max-failures", "3", *more)
    assert code == ExitCode.FAILURES, err
    assert counts["failed_files"] >= 3
    assert counts["not_started"] > 0
    assert counts["files"] + counts["not_started"] == FILES
    assert "and the limit is 3, so the run stops" in err
    assert counts["error"] in err
    _, shown, _ = project.run("runs", counts["run"])
    assert (shown["state"], shown["error"]) == ("failed", counts["error"])

    code, rest, err = project.run(*BACKFILL, "--max-failures", "50", "--tolerate", "60%")
    assert code == ExitCode.OK, err  # what failed before does not count
    assert rest["files"] == FILES


def test_a_limit_that_is_reached_when_all_files_have_begun_is_told(project):
    project.spoil()
    project.nap_s = 0.0
    limited = (*BACKFILL, "--limit", "2", "--max-failures", "1", "--tolerate", "100%")
    code, counts, err = project.run(*limited)
    assert code == ExitCode.FAILURES
    assert (counts["files"], counts["failed_files"], counts["not_started"]) == (2, 1, 0)
    assert counts["error"].startswith("1 of 2 files failed, and the limit is 1; all files had alr")
    assert err.count(counts["error"]) == 1
    _, shown, _ = project.run("runs", counts["run"])
    assert (shown["state"], shown["error"]) == ("failed", counts["error"])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_probes_its_files_first_counts_each_of_them_once(project, workers):
    project.spoil()
    project.nap_s = 0.1
    short = sine_at_lufs(-23.0, duration_s=0.5)
    for number in range(10):
        write(short, str(project.folder / f"music/{number}-short.wav"))
    (project.folder / "music/notes.txt").touch()
    options = ["--direct_num_workers", "2", "--direct_running_mode", "multi_processing"]
    more = [*options, "--processes", "1"] if workers == 2 else ["--processes", "2"]
    selected = ("--prefix", "music", "--job", "probe", "--job", "slow", "--min-duration", "0.9")
    code, counts, err = project.run("backfill", *selected, "--max-failures", "3", *more)
    assert code == ExitCode.FAILURES, err
    assert counts["not_started"] > 0
    assert counts["files"] + counts["not_started"] == FILES + 10
    assert counts["not_included"] == {".txt": 1}
    _, shown, _ = project.run("runs", counts["run"])
    unselected = counts["not_selected"].get("duration", 0)
    assert shown["counts"]["not_selected"] == counts["not_selected"]
    _, status, _ = project.run("status")
    probed = status["jobs"]["probe"]["done"]
    assert counts["jobs"]["probe"]["statuses"] == {"done": probed}
    slow = status["jobs"]["slow"]
    assert slow["done"] + slow["failed"] == counts["files"] - unselected
    assert slow["running"] == 0

    code, rest, err = project.run("backfill", *selected, "--tolerate", "50%", *more)
    assert code == ExitCode.OK, err
    assert rest["not_selected"] == {"duration": 10}
    _, status, _ = project.run("status")
    slow = status["jobs"]["slow"]
    assert (slow["done"], slow["failed"]) == (FILES // 2, FILES // 2)


def test_a_share_of_failures_counts_only_once_enough_files_were_tried(project):
    project.spoil()
    code, counts, err = project.run(*BACKFILL, "--max-failures", "1%", "--tolerate", "100%")
    assert code == ExitCode.OK, err
    assert (counts["files"], counts["not_started"]) == (FILES, 0)


def test_a_rate_bounds_when_files_start(project):
    limited = ("backfill", "--prefix", "music", "--job", "loudness", "--limit", "12")
    code, counts, err = project.run(*limited, "--rate", "4/s")
    assert code == ExitCode.OK, err
    assert counts["jobs"]["loudness"]["statuses"] == {"done": 12}
    _, shown, _ = project.run("runs", counts["run"])
    assert shown["duration_s"] >= 10 / 4  # 12 files, of which two may start at once


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--max-failures", "0", "write a number of files, such as 20"),
        ("--max-failures", "half", "such as 1%"),
        ("--rate", "fast", "such as 30/min"),
    ],
)
def test_wrong_limits_are_refused_before_anything_starts(project, option, value, reason):
    code, _, err = project.run(*BACKFILL, option, value)
    assert code == ExitCode.USAGE
    assert reason in err
    assert not (project.folder / ".segue").exists()


def test_a_webhook_is_told_of_failures_and_of_the_end_and_its_secrets_stay_secret(project):
    project.spoil()
    with serve_hook() as hook:
        url = f"http://ann:hunter2@localhost:{hook.port}/T0KEN?key=s3cret"
        limited = (*BACKFILL, "--max-failures", "3", "--notify", url)
        code, counts, err = project.run(*limited)
    assert code == ExitCode.FAILURES, err
    assert hook.events[0] == "first_failure"
    assert sorted(hook.events[1:]) == ["end", "too_many_failures"]
    assert {post["run"]["id"] for post in hook.posts} == {counts["run"]}
    end = hook.posts[-1]["run"]
    assert (end["state"], end["error"]) == ("failed", counts["error"])
    assert end["counts"]["newly_failed_files"] == counts["failed_files"]
    kept = [p for p in (project.folder / ".segue").rglob("*") if p.is_file()]
    assert kept
    for secret in (b"hunter2", b"T0KEN", b"s3cret"):
        assert [p for p in kept if secret in p.read_bytes()] == []
        assert secret.decode() not in err


def test_a_webhook_that_does_not_answer_changes_nothing_about_a_run(project):
    with serve_hook() as gone:
        url = f"http://localhost:{gone.port}/T0KEN"
    code, counts, err = project.run(*BACKFILL, "--limit", "2", "--notify", url)
    assert (code, counts["files"]) == (ExitCode.OK, 2)
    assert "the notification of end was not sent: http://localhost:" in err
    assert "T0KEN" not in err


@pytest.mark.parametrize("url", ["http://example.com/T0KEN", "T0KEN", "pubsub://acme/runs"])
def test_a_wrong_target_is_refused_before_anything_starts(project, url):
    code, _, err = project.run(*BACKFILL, "--notify", url)
    assert code == ExitCode.USAGE
    assert "T0KEN" not in err
    assert not (project.folder / ".segue").exists()
