"""Where the time and memory of a job go, for jobs that spend them in known places."""

from __future__ import annotations

import json
import sys

import pytest

from segue.errors import JobRaised, NotApplicable
from segue.execution.job_profile import profile_job, shorten_name, shorten_path
from segue.ingest.catalogue import find_media
from segue.model.graph import read_graph
from segue.testing.sound import tone, write

CODE = """
import segue

def count_up(steps):
    found = 0
    for step in range(steps):
        found = found + step % 7
    return found

def spend(media):
    return {"found": count_up(2_000_000)}

def hold(value):
    held = bytearray(64 * 2**20)
    del held
    return {"size": 64}

def fail(media):
    raise ValueError("broken on purpose")

def decline(media):
    raise segue.NotApplicable("not a song")
"""
GRAPH = """
jobs:
  spend: {run: "profiled_jobs:spend", needs: {media: source}, writes: application/json}
  hold: {run: "profiled_jobs:hold", needs: {value: spend}, writes: application/json}
  fail: {run: "profiled_jobs:fail", needs: {media: source}, writes: application/json}
  decline: {run: "profiled_jobs:decline", needs: {media: source}, writes: application/json}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "profiled_jobs.py").write_text(CODE)
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield read_graph(str(tmp_path / "jobs.yaml"), {})
    sys.modules.pop("profiled_jobs", None)


@pytest.fixture
def media(tmp_path):
    return [find_media(write(tone(440.0, 0.1), str(tmp_path / "one.wav")), None)]


def take(graph, *names):
    from dataclasses import replace

    return replace(graph, jobs={name: graph.jobs[name] for name in names})


def test_the_function_that_takes_the_time_comes_first(project, media):
    found = profile_job(take(project, "spend"), "spend", media)
    first = found.functions[0]
    assert first.function == "count_up"
    assert first.place.endswith("profiled_jobs.py:4")
    assert first.self_s > 0.5 * sum(function.self_s for function in found.functions)
    (caller,) = [f for f in found.functions if f.function == "spend"] or [None]
    assert caller is None or caller.total_s >= first.self_s
    assert found.call_s > 0


def test_the_line_that_holds_the_memory_comes_first(project, media):
    found = profile_job(take(project, "spend", "hold"), "hold", media)
    assert found.peak_bytes >= 64 * 2**20
    first = found.memory[0]
    assert (first.function, first.size_bytes) == ("hold", 64 * 2**20 + 1)
    assert first.place.endswith("profiled_jobs.py:14")
    # The job above it is not part of the profile.
    assert "count_up" not in {function.function for function in found.functions}


def test_both_are_in_a_file_of_speedscope(project, media):
    found = profile_job(take(project, "spend", "hold"), "hold", media)
    document = json.loads(found.speedscope)
    assert document["$schema"].endswith("speedscope.app/file-format-schema.json")
    time, memory = document["profiles"]
    assert time["unit"] == "seconds"
    assert (memory["unit"], memory["endValue"]) == ("bytes", sum(memory["weights"]))
    frames = document["shared"]["frames"]
    deepest = max(zip(memory["weights"], memory["samples"], strict=True))[1]
    assert frames[deepest[-1]]["name"] == "hold"


@pytest.mark.parametrize(("job", "raised"), [("fail", JobRaised), ("decline", NotApplicable)])
def test_a_job_that_fails_is_named_with_its_file(project, media, job, raised):
    with pytest.raises(raised, match=f"{job} on file://.*one.wav: .*(broken|not a song)"):
        profile_job(take(project, job), job, media)


def test_paths_and_names_are_shown_from_where_they_matter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shorten_path(json.__file__) == "json/__init__.py"
    assert shorten_path(pytest.__file__) == "pytest/__init__.py"
    assert shorten_path(str(tmp_path / "jobs.py")) == "jobs.py"
    assert shorten_path("/elsewhere/jobs.py") == "/elsewhere/jobs.py"
    assert shorten_name("a_class_of_a_very_long_name_in_another_language.r2c") == "r2c"
    assert shorten_name("ufunc.reduce") == "ufunc.reduce"
