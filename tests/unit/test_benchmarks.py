"""The benchmarks: all are listed, and run; the documentation shows the command of each."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from segue.model.graph import read_graph
from segue.testing import sound
from segue_support.paths import GRAPH, ROOT

TOOLS = {"catalogue", "measure", "run", "compare", "stages"}  # and no benchmarks
LISTED = re.compile(r"^python -m bench\.(\w+) +\S", re.MULTILINE)


def run(*arguments: str, folder: Path = ROOT) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=True
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
