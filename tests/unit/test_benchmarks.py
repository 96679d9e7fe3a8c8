"""The benchmarks: all are listed, and run; the documentation shows the command of each."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segue.model.graph import read_graph
from segue.model.shipped_graphs import list_shipped_graphs
from segue.testing import sound
from segue_support.media_seeds import run_bundled_ffmpeg
from segue_support.paths import GRAPH, ROOT

TOOLS = {
    "catalogue",
    "measure",
    "run",
    "compare",
    "stages",
    "plain_calls",
    "material",
}  # and no benchmarks
LISTED = re.compile(r"^python -m bench\.(\w+) +\S", re.MULTILINE)


def run(*arguments: str, folder: Path = ROOT, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **variables},
    )
    return done.stdout


def test_all_benchmarks_are_listed_and_documented():
    listed = LISTED.findall(run("-m", "bench", "--list"))
    modules = {path.stem for path in (ROOT / "bench").glob("[a-z]*.py")}
    assert sorted(listed) == sorted(modules - TOOLS)
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert [name for name in listed if f"`python -m bench.{name}`" not in page] == []


def write_checkout(folder: Path, *lines: str) -> Path:
    """A checkout with an environment and a benchmark that prints some lines."""
    for part in ("bench", ".venv/bin"):
        (folder / part).mkdir(parents=True)
    (folder / ".venv/bin/python").symlink_to(sys.executable)
    for name in ("__init__.py", "compare.py", "measure.py"):
        shutil.copy(ROOT / "bench" / name, folder / "bench")
    (folder / "bench/fake.py").write_text("\n".join(f"print({line!r})" for line in lines))
    return folder


def test_a_benchmark_is_compared_with_that_of_another_checkout(tmp_path):
    here = write_checkout(
        tmp_path / "here",
        '{"benchmark": "fake", "jobs": 3, "case": "a", "only_here": 1.5}',
        '{"benchmark": "fake", "jobs": 2}',
    )
    there = write_checkout(
        tmp_path / "there",
        '{"benchmark": "fake", "jobs": 2, "case": "b"}',
        '{"benchmark": "fake", "jobs": 8, "only_there": 1}',
    )
    printed = run("-m", "bench.compare", "--rounds", "2", str(there), "fake", folder=here)
    assert [json.loads(line) for line in printed.splitlines()] == [
        {"benchmark": "fake", "rounds": 2, "jobs": [3, 2, 1.5], "only_here": [1.5, None, None]},
        {"benchmark": "fake", "rounds": 2, "jobs": [2, 8, 0.25]},
    ]


@pytest.mark.slow
def test_the_light_benchmark_measures_each_default_job_alone_and_against_another_checkout(tmp_path):
    song = sound.write(sound.music(1, duration_s=4.0), str(tmp_path / "song.mp3"))
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    arguments = ("--rounds", "1", "--first-calls", "0", "--song", song, "--baseline", str(tmp_path))
    printed = run("-m", "bench.light", *arguments)
    lines = [json.loads(line) for line in printed.splitlines()]
    jobs = read_graph(str(GRAPH), {}).jobs
    stages = {line["stage"]: line for line in lines if "stage" in line}
    types = {job.writes for job in jobs.values()}
    assert set(stages) == {"decode", *jobs, *types, "all"}
    assert all(line["min_ms"] > 0 and line["ratio"] > 0 for line in stages.values())
    compared = {line["job"] for line in lines if "job" in line}
    assert compared == {"decode", *jobs} - {"danceability"}  # which no library has


@pytest.mark.slow
def test_each_job_of_a_graph_is_measured_and_one_without_its_model_is_named(tmp_path):
    film, models = tmp_path / "film.mp4", tmp_path / "models"
    run_bundled_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x90:r=10:d=1", str(film))
    models.mkdir()
    code = (
        "import json; from bench.jobs import list_rows; print(json.dumps(list(list_rows("
        f"'film', {list_shipped_graphs()['film']!r}, 'film', {str(film)!r}, 1))))"
    )
    rows = {row["job"]: row for row in json.loads(run("-c", code, SEGUE_MODELS=str(models)))}
    assert list(rows) == list(read_graph(list_shipped_graphs()["film"], {}).jobs)
    for job in ("frames", "cuts", "thumbnail"):
        assert rows[job]["cost_s"] > 0
        assert rows[job]["ratio"] > 0
    assert rows["frames"]["found"] == {"times_s": 1, "sizes_bytes": 1}
    for job in ("objects", "moderation", "text"):
        assert "job_s" not in rows[job]
        assert "segue models get" in rows[job]["missing"]


def test_costs_are_written_for_jobs_that_ship_and_kept_where_none_was_measured(tmp_path):
    code = (
        "import bench.jobs as jobs; jobs.read_costs = lambda: {'gone': 1.0, 'key': 2.0}; "
        f"jobs.FEATURES = {str(tmp_path)!r}; jobs.write_costs({{'probe': 0.12, 'key': 3, 'x': 4}})"
    )
    printed = run("-c", code)
    written = (tmp_path / "costs.json").read_text()
    assert written == '{\n  "key": 3,\n  "probe": 0.12\n}\n'
    assert "beats" in json.loads(printed)["without_cost"]


@pytest.mark.slow
def test_an_export_is_measured_beside_reading_the_files_by_hand():
    (line,) = run("-m", "bench.export", "--files", "1200").splitlines()
    measured = json.loads(line)
    assert measured["files"] == 1200
    assert measured["ratio"] > 0


@pytest.mark.slow
def test_the_pages_of_the_console_are_measured_with_many_and_with_few_files():
    head, *lines = run("-m", "bench.console", "--files", "2000").splitlines()
    assert "2,000 files" in head
    assert len(lines) == 10
    assert all(float(line.split()[-1]) > 0 for line in lines)
