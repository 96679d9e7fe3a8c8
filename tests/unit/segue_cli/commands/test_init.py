"""A new project: what is written, and what is never overwritten."""

from __future__ import annotations

import json

import pytest

from segue.model.graph import read_graph
from segue.model.graph_schema import build_schema
from segue.model.job_code import check_code
from segue.model.shipped_graphs import DEFAULT_PATH

FILES = {
    ".gitignore",
    "README.md",
    "brightness.py",
    "conftest.py",
    "jobs.schema.json",
    "jobs.yaml",
    "tests/test_brightness.py",
}


def test_a_project_is_written_whose_code_fits_its_graph(segue, folder):
    said = segue("init", "features")
    assert said.code == 0
    written = {
        p.relative_to(folder / "features").as_posix()
        for p in (folder / "features").rglob("*")
        if p.is_file()
    }
    assert written == FILES
    check_code(read_graph("features/jobs.yaml", {}))
    first, *_ = (folder / "features/jobs.yaml").read_text().splitlines()
    assert first == "# yaml-language-server: $schema=jobs.schema.json"
    assert json.loads((folder / "features/jobs.schema.json").read_text()) == build_schema()
    assert "cd features" in said.out
    assert "segue backfill" in said.out


def test_a_project_can_be_started_right_here(segue, folder):
    found = segue("init", "--json").json
    assert set(found["written"]) == FILES
    assert not any(step.startswith("cd") for step in found["next"])


def test_nothing_that_exists_is_overwritten(segue, folder):
    (folder / "jobs.yaml").write_text("mine")
    said = segue("init")
    assert said.code == 2
    assert "jobs.yaml" in said.err
    assert "--force" in said.err
    assert [p.name for p in folder.iterdir()] == ["jobs.yaml"]
    assert (folder / "jobs.yaml").read_text() == "mine"


def test_force_overwrites(segue, folder):
    (folder / "jobs.yaml").write_text("mine")
    assert segue("init", "--force").code == 0
    assert read_graph("jobs.yaml", {}).jobs


@pytest.mark.parametrize("name", [".gitignore", "README.md"])
def test_a_project_that_is_there_keeps_its_own_papers(segue, folder, name):
    (folder / name).write_text("mine")
    said = segue("init")
    assert said.code == 0
    assert f"kept  ./{name}, which already exists" in said.out
    assert (folder / name).read_text() == "mine"


def test_a_place_that_cannot_be_written_is_refused(segue, folder):
    (folder / "file").write_text("")
    said = segue("init", "file")
    assert said.code == 2
    assert "cannot be written" in said.err


def test_a_project_can_start_from_a_graph_that_ships_with_segue(segue, folder):
    found = segue("init", "--graph", "default", "light", "--json").json
    assert set(found["written"]) == {".gitignore", "jobs.schema.json", "jobs.yaml"}
    assert read_graph("light/jobs.yaml", {}).jobs.keys() == read_graph(DEFAULT_PATH, {}).jobs.keys()
    assert found["next"][0] == "cd light"
    said = segue("init", "--graph", "defualt", "other")
    assert said.code == 2
    assert "'default'" in said.err
    assert not (folder / "other").exists()
