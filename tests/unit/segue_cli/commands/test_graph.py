"""The graph in four formats, and refused in a fifth."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from segue.model.graph_schema import build_schema

FAULTY = """
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  other: {run: "segue_support.jobs:fin", needs: {media: source}, writes: application/json}
  third: {run: "segue_support.jobs:sleep", needs: {media: source}, writes: application/json}
"""


def test_the_tree_shows_each_job_with_what_defines_it(segue, project):
    lines = segue("graph").out.splitlines()
    assert [re.sub(r"\s{2,}.*", "", line) for line in lines[1:]] == [
        "source",
        "├─ fine",
        "│",
        "└─ beside",
    ]
    assert lines[3].startswith("│  └─ after")
    for job in project.graph.jobs:
        (line,) = [line for line in lines if job in line.split()]
        assert project.graph.fingerprints[job] in line
        assert "application/json" in line


def test_the_tree_shows_the_pipelines_where_jobs_are_grouped(segue, project):
    assert "pipeline" not in segue("graph").out
    text = (project.folder / "jobs.yaml").read_text()
    project.change_graph(f"pipelines: {{light: [fine, after]}}\n{text}")
    header, *lines = segue("graph").out.splitlines()
    assert header.split()[:6] == ["job", "writes", "version", "fingerprint", "owner", "pipeline"]
    column = header.index("pipeline")
    found = {
        job: line[column:].split()[0]
        for line in lines
        for job in line.split()
        if job in ("fine", "after", "beside")
    }
    assert found == {"fine": "light", "after": "light", "beside": "beside"}


def test_json_has_everything_a_program_asks_for(segue, project):
    for arguments in (["--json"], ["--format", "json"]):
        found = segue("graph", *arguments).json
        jobs = {job["name"]: job for job in found["jobs"]}
        assert found["artifacts"] == "artifacts"
        assert jobs["after"]["parents"] == ["fine"]
        assert jobs["fine"]["children"] == ["after"]
        assert jobs["fine"]["fingerprint"] == project.graph.fingerprints["fine"]
        assert jobs["fine"]["resources"] == {
            "memory_gib": 2.0,
            "gpu": "none",
            "gpu_memory_gib": None,
        }


def test_the_format_is_chosen_by_the_name_of_the_file(segue, project):
    said = segue("graph", "--output", "graph.dot")
    assert (said.code, said.out) == (0, "")
    assert (project.folder / "graph.dot").read_text() == segue("graph", "--format", "dot").out
    segue("graph", "-o", "graph.mmd")
    assert (project.folder / "graph.mmd").read_text().startswith("flowchart LR")
    segue("graph", "-o", "graph.json")
    assert json.loads((project.folder / "graph.json").read_text())["jobs"]
    segue("graph", "-o", "graph.txt")
    assert (project.folder / "graph.txt").read_text() == segue("graph").out


def test_the_code_is_checked_on_request(segue, project):
    said = segue("graph", "--check")
    assert said.code == 0
    assert "The code of 3 jobs matches the graph." in said.err


def test_code_that_does_not_fit_is_reported_with_all_faults(segue, project):
    project.change_graph(FAULTY)
    assert segue("graph").code == 0
    said = segue("graph", "--check")
    assert said.code == 2
    assert "did you mean 'fine'?" in said.err
    assert "jobs.third" in said.err
    assert said.out == ""


def test_a_faulty_graph_is_reported_with_its_faults(segue, project):
    project.change_graph("jobs: {a: {run: 1}}")
    said = segue("graph")
    assert said.code == 2
    assert "jobs.a.needs" in said.err


def test_unknown_and_contradicting_formats_are_refused(segue, project):
    assert "did you mean 'mermaid'?" in segue("graph", "--format", "mermad").err
    assert segue("graph", "--format", "dot", "--json").code == 2


def test_svg_is_refused_with_the_command_that_draws_it(segue, project):
    said = segue("graph", "--format", "svg")
    assert (said.code, said.out) == (2, "")
    assert "segue graph --format dot | dot -Tsvg > graph.svg" in said.err
    said = segue("graph", "-o", "jobs.svg")
    assert said.code == 2
    assert "dot -Tsvg > jobs.svg" in said.err
    assert not (project.folder / "jobs.svg").exists()


@pytest.mark.parametrize("name", ["jobs.png", "my jobs.PDF", "jobs.webp"])
def test_other_pictures_are_refused_with_the_command_that_draws_them(segue, project, name):
    said = segue("graph", "-o", name)
    assert (said.code, said.out) == (2, "")
    suffix = name.rpartition(".")[2].lower()
    assert f"dot -T{suffix} > {shlex.quote(name)}" in said.err
    assert not (project.folder / name).exists()


def test_a_format_that_is_named_counts_whatever_the_file_is_called(segue, project):
    assert segue("graph", "--format", "dot", "-o", "jobs.png").code == 0
    assert (project.folder / "jobs.png").read_text().startswith("digraph")


def test_a_dash_is_standard_output(segue, project):
    said = segue("graph", "--format", "dot", "-o", "-")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("digraph")
    assert not (project.folder / "-").exists()


def test_a_place_that_cannot_be_written_is_refused(segue, project):
    said = segue("graph", "-o", "no/such/folder/graph.mmd")
    assert said.code == 2
    assert "--output" in said.err


def test_without_a_graph_here_the_one_that_ships_with_segue_is_shown(segue, folder):
    assert "spectrogram" in segue("graph").out


def test_the_schema_of_all_graphs_needs_none(segue, folder):
    (folder / "jobs.yaml").write_text("faulty")
    assert json.loads(segue("graph", "--schema").out) == build_schema()
    assert segue("graph", "--schema", "-o", "jobs.schema.json").code == 0
    assert json.loads((folder / "jobs.schema.json").read_text()) == build_schema()
    assert segue("graph", "--schema", "--json").json == build_schema()


@pytest.mark.parametrize("other", [["--check"], ["--registry"], ["--format", "dot"]])
def test_the_schema_of_all_graphs_goes_with_no_other_output(segue, folder, other):
    said = segue("graph", "--schema", *other)
    assert said.code == 2
    assert "--schema is about all graphs; leave out --check, --registry and --format" in said.err


def test_a_job_that_says_it_returns_nothing_is_refused(segue, folder):
    (folder / "silent_jobs.py").write_text("def silent(media) -> None: ...")
    job = "run: 'silent_jobs:silent', needs: {media: source}, writes: application/json"
    (folder / "jobs.yaml").write_text(f"jobs: {{silent: {{{job}}}}}")
    said = segue("graph", "--check")
    assert said.code == 2
    assert "jobs.silent.run: 'silent_jobs:silent' is annotated to return nothing" in said.err
