"""A project as ``segue init`` writes it works as it stands: its tests, its job, its backfill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from segue.testing.sound import tone, write

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
CONFIGURATION = os.path.join(os.path.dirname(__file__), "../../pyproject.toml")
FREQUENCY_HZ = 1000.0
# The window spreads a tone evenly to both sides, and FLAC keeps 16 bits.
TOLERANCE_HZ = 10.0
PATIENCE_S = 120

pytestmark = pytest.mark.xdist_group("new project")  # each test goes on where the last one ended


def run(folder: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        arguments,
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith(("SEGUE_", "PYTEST_"))},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("somewhere")
    run(folder, SEGUE, "init", "features")
    (folder / "music").mkdir()
    write(tone(FREQUENCY_HZ, 2.0), str(folder / "music/tone.wav"))
    return folder / "features"


def test_its_tests_pass(project):
    out = run(project, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "5 passed" in out


def test_its_code_fits_its_graph(project):
    assert "brightness" in run(project, SEGUE, "graph", "--check")


def test_its_job_behaves_as_the_system_would_run_it(project):
    tested = json.loads(run(project, SEGUE, "test", "--json"))["jobs"]
    assert [(job["job"], job["faults"]) for job in tested] == [
        ("downsample", []),
        ("brightness", []),
    ]


def test_its_code_is_in_house_style(project):
    # A new project may import where it likes, and its own modules are not Segue's.
    ignored = "--ignore=PLC0415,I001,ANN,D1,S101"
    run(project, sys.executable, "-m", "ruff", "check", "--config", CONFIGURATION, ignored, ".")
    run(project, sys.executable, "-m", "ruff", "format", "--config", CONFIGURATION, "--check", ".")


def assert_all_artifacts_exist(explained):
    for job in explained["jobs"]:
        (artifact,) = next(r["artifacts"] for r in job["results"] if r["counts"])
        assert artifact["exists"]


def test_its_job_runs_on_a_file_and_finds_the_truth(project):
    found = json.loads(run(project, SEGUE, "run", "brightness", "../music/tone.wav"))
    assert found["centroid_hz"] == pytest.approx(FREQUENCY_HZ, abs=TOLERANCE_HZ)


def test_its_backfill_is_complete_and_leaves_nothing_to_do(project):
    run(project, SEGUE, "backfill", "--prefix", "../music", "--job", "brightness")
    status = json.loads(run(project, SEGUE, "status", "--json"))
    assert status["jobs"]["brightness"]["done"] == status["files"] == 1
    explained = json.loads(run(project, SEGUE, "explain", "../music/tone.wav", "--json"))
    assert explained["backfill"]["run"] == []
    assert_all_artifacts_exist(explained)
    assert "Nothing to delete" in run(project, SEGUE, "gc", "--older-than", "0s")


def test_a_changed_parameter_leaves_garbage_that_can_be_collected(project):
    text = (project / "jobs.yaml").read_text()
    (project / "jobs.yaml").write_text(text.replace("n_fft: 2048", "n_fft: 1024"))
    assert json.loads(run(project, SEGUE, "status", "--json"))["jobs"]["brightness"]["stale"] == 1
    run(project, SEGUE, "backfill", "--prefix", "../music", "--job", "brightness")
    garbage = json.loads(run(project, SEGUE, "gc", "--older-than", "0s", "--delete", "--json"))
    assert [(g["job"], g["reason"]) for g in garbage["artifacts"]] == [
        ("brightness", "old_fingerprint")
    ]
    explained = json.loads(run(project, SEGUE, "explain", "../music/tone.wav", "--json"))
    assert_all_artifacts_exist(explained)
