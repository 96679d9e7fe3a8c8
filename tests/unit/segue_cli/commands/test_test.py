"""Trials of jobs from the command line, on files that are made or named."""

from __future__ import annotations

import sys

import pytest

from segue.testing.sound import tone, write

GRAPH = """
jobs:
  fine: {run: "tried_jobs:fine", needs: {media: source}, writes: application/json}
  fails: {run: "tried_jobs:fails", needs: {media: source}, writes: application/json}
"""
CODE = """
def fine(media):
    return {"uri": media.path.rsplit(".")[-1]}

def fails(media):
    raise ValueError("not this one")
"""


@pytest.fixture
def project(folder):
    (folder / "jobs.yaml").write_text(GRAPH)
    (folder / "tried_jobs.py").write_text(CODE)
    write(tone(440.0, 0.1), str(folder / "one.wav"))
    before = list(sys.path)
    yield folder
    sys.path[:] = before
    sys.modules.pop("tried_jobs", None)


def test_a_job_without_faults_ends_with_0_and_is_tried_on_files_that_are_made(segue, project):
    said = segue("test", "fine")
    assert said.code == 0, said.err
    assert "6 files, three times. The largest process took" in said.out
    (row,) = [line.split() for line in said.out.splitlines() if line.startswith("fine")]
    assert row[1:4] == ["ok", "6", "·"]
    assert "fails" not in said.out


def test_a_fault_is_shown_and_ends_with_1(segue, project):
    said = segue("test", "--file", "one.wav")
    assert said.code == 1
    assert "✗ one.wav: job_raised: ValueError: not this one" in said.out
    assert "1 file, three times" in said.out


def test_json_has_each_job_and_file(segue, project):
    found = segue("test", "--file", "one.wav", "--json").json
    assert [file.rpartition("/")[2] for file in found["files"]] == ["one.wav"]
    assert [(job["job"], job["done"], len(job["faults"])) for job in found["jobs"]] == [
        ("fine", 1, 0),
        ("fails", 0, 1),
    ]
    assert found["peak_bytes"] > 2**20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["fin"], "did you mean 'fine'?"), (["--file", "none.wav"], "check the path")],
)
def test_a_wrong_use_is_refused(segue, project, arguments, said):
    refused = segue("test", *arguments)
    assert refused.code == 2
    assert said in refused.err


def test_a_file_in_place_of_a_job_is_refused_with_the_option_to_name_it(segue, project):
    said = segue("test", "fine", "one.wav", "--graph", "jobs.yaml")
    assert said.code == 2
    assert "'one.wav' is a file, not a job" in said.err
    assert "segue test --file one.wav --graph jobs.yaml" in said.err
