"""The folder to watch, and the programs and their settings."""

from __future__ import annotations

import os
import sys

import pytest

from segue.errors import ConfigurationError
from segue.model.graph import UNRESOLVED, parse_graph, read_graph
from segue.model.settings import Settings
from segue_cli.local import programs
from segue_cli.local.programs import (
    build_commands,
    check_code_alone,
    export_settings,
    find_catalogue_folder,
    share_cores,
)

GRAPH = """
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("catalogue: FOLDER/none", "there is no folder"),
        ("catalogue: gs://acme/masters", "Eventarc"),
        ("", "segue up FOLDER"),
    ],
)
def test_a_catalogue_has_to_be_an_existing_folder(tmp_path, line, message):
    graph = parse_graph(line.replace("FOLDER", str(tmp_path)) + GRAPH, environ={})
    with pytest.raises(ConfigurationError, match=message):
        find_catalogue_folder(graph)


@pytest.mark.parametrize("line", ["value: platform/fine", "media: platform/source"])
def test_a_graph_whose_files_do_not_arrive_here_needs_no_catalogue(line):
    text = GRAPH.replace("media: source", line)
    graph = parse_graph(text, environ={}, lock=UNRESOLVED)
    assert find_catalogue_folder(graph) is None


def test_code_of_the_same_name_beside_two_graphs_is_checked_apart(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "features.py").write_text(f"def {name}(media):\n    return {{}}\n")
        text = GRAPH.replace("segue_support.jobs:fine", f"features:{name}")
        (tmp_path / name / "jobs.yaml").write_text(text)
    folders = list(sys.path)
    for name in ("a", "b"):
        files = check_code_alone(read_graph(str(tmp_path / name / "jobs.yaml")))
        assert files == (str(tmp_path / name / "features.py"),)
    assert sys.path == folders
    assert "features" not in sys.modules
    with pytest.raises(ConfigurationError, match="no callable 'b'"):
        check_code_alone(parse_graph(text, path=str(tmp_path / "a/jobs.yaml")))


def test_each_pipeline_is_a_program():
    job = "{run: 'm:f', needs: {media: source}, writes: application/json}"
    graph = parse_graph(f"jobs: {{a: {job}, b: {job}, c: {job}}}")
    commands = build_commands(graph, processes=2)
    assert list(commands) == ["stream a", "stream b", "stream c"]
    assert commands["stream b"][-3:] == ["stream", "--processes=2", "--pipeline=b"]


def test_pipelines_with_gpus_are_one_program_which_shares_them_among_jobs():
    body = "run: 'm:f', needs: {media: source}, writes: application/json"
    jobs = [f"{name}: {{{body}, resources: {{gpu: nvidia-l4}}}}" for name in ("a", "c", "e")]
    jobs += [f"{name}: {{{body}}}" for name in ("b", "d")]
    graph = parse_graph(f"pipelines: {{both: [d, e]}}\njobs: {{{', '.join(jobs)}}}")
    commands = build_commands(graph, processes=2)
    together = next(name for name in commands if "both" in name)
    assert sorted(together.split()) == ["a", "both", "c", "stream"]
    assert sorted(commands[together][-3:]) == ["--pipeline=a", "--pipeline=both", "--pipeline=c"]
    assert sorted(commands) == sorted(["stream b", together])


@pytest.mark.parametrize(
    ("cores", "plain", "on_gpus", "processes"),
    [(2, 1, 0, 2), (2, 2, 0, 2), (2, 3, 0, 1), (16, 5, 0, 6), (4, 60, 0, 1), (4, 1, 7, 4)],
)
def test_several_programs_share_the_cores(monkeypatch, cores, plain, on_gpus, processes):
    monkeypatch.setattr(programs, "count_cores", lambda: cores)
    body = "run: 'm:f', needs: {media: source}, writes: application/json"
    jobs = [f"a{number}: {{{body}}}" for number in range(plain)]
    jobs += [f"b{number}: {{{body}, resources: {{gpu: nvidia-l4}}}}" for number in range(on_gpus)]
    assert share_cores([parse_graph(f"jobs: {{{', '.join(jobs)}}}")]) == processes


def test_settings_are_read_from_the_environment_for_a_while(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    before = dict(os.environ)
    with export_settings(Settings(ledger="sqlite:///l.db", catalogue="/music")):
        found = Settings.load()
        assert (found.ledger, found.catalogue) == ("sqlite:///l.db", "/music")
        assert found.graph == str(tmp_path / "jobs.yaml")
    assert dict(os.environ) == before
