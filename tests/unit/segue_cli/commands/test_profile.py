"""Profiles of jobs from the command line."""

from __future__ import annotations

import json
import os

import pytest

from segue.testing.sound import tone, write
from segue.worker.pool import ENVIRONMENT

GRAPH = """
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  after: {run: "segue_support.jobs:after", needs: {value: fine}, writes: application/json}
  raises: {run: "segue_support.jobs:refuse", needs: {media: source}, writes: application/json}
"""


@pytest.fixture
def files(folder, monkeypatch):
    for name, value in ENVIRONMENT.items():  # the command sets them: restore them afterwards
        monkeypatch.setenv(name, value)
    (folder / "jobs.yaml").write_text(GRAPH)
    for name in ("one.wav", "two.wav", "bad.wav"):
        write(tone(440.0, 0.1), str(folder / name))


def test_time_and_memory_are_shown_as_tables(segue, files):
    said = segue("profile", "after", "one.wav", "two.wav")
    assert said.code == 0, said.err
    assert said.out.startswith("after: ")
    assert " a call; the first one took " in said.out
    assert "of all  with calls  function" in said.out
    assert "A call allocates " in said.out
    assert "Profiling after on 2 files" in said.err


def test_the_stacks_are_written_to_a_file(segue, files):
    found = segue("profile", "fine", "one.wav", "-o", "fine.json", "--json").json
    assert (found["job"], found["files"], found["output"]) == ("fine", 1, "fine.json")
    assert "speedscope" not in found
    with open("fine.json") as file:
        assert len(json.load(file)["profiles"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fin", "one.wav"], 2, "did you mean 'fine'?"),
        (["fine"], 2, "FILE is missing"),
        (["fine", "none.wav"], 2, "check the path"),
        (["fine", "one.wav", "-o", os.path.join("none", "x.json")], 2, "cannot be written"),
        (["raises", "bad.wav"], 1, "raises on file://"),
    ],
)
def test_a_wrong_use_is_refused(segue, files, arguments, code, said):
    refused = segue("profile", *arguments)
    assert refused.code == code, refused.err
    assert said in refused.err
