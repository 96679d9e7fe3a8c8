"""The graphs that ship with Segue fit their code and each other, and are named by a word."""

from __future__ import annotations

import os

import pytest

from segue.model.graph import read_graph
from segue.model.job_code import check_code, find_callable
from segue.model.result_schema import build_result_schema, iterate_fields
from segue.model.settings import Settings
from segue.model.shipped_graphs import DEFAULT_PATH, list_shipped_graphs, locate_graph, read_costs

GRAPHS = {name: read_graph(path, {}) for name, path in list_shipped_graphs().items()}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_code_fits_each_graph(name):
    check_code(GRAPHS[name])


@pytest.mark.parametrize("name", [name for name in GRAPHS if name != "default"])
def test_each_graph_has_a_namespace_so_that_results_are_not_in_the_way_of_others(name):
    assert GRAPHS[name].namespace == name


def test_a_job_that_several_graphs_have_gives_the_same_results_in_each():
    fingerprints: dict[str, set[str]] = {}
    for graph in GRAPHS.values():
        for job in graph.jobs:
            fingerprints.setdefault(job, set()).add(graph.fingerprints[job])
    assert {job: len(found) for job, found in fingerprints.items() if len(found) > 1} == {}


def test_all_results_in_json_have_a_schema_whose_fields_have_meanings():
    missing = []
    for graph in GRAPHS.values():
        for job in graph.jobs.values():
            if "application/json" not in job.outputs.values():
                continue
            schema = build_result_schema(find_callable(job.run))
            if schema is None:
                missing.append(job.name)
                continue
            missing += [
                (job.name, name) for name, _, meaning in iterate_fields(schema) if not meaning
            ]
    assert missing == []


def test_the_measured_costs_are_those_of_shipped_jobs():
    assert set(read_costs()) == {job for graph in GRAPHS.values() for job in graph.jobs}


def test_a_graph_is_found_by_its_name_but_a_file_of_that_name_takes_precedence(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert locate_graph("default") == DEFAULT_PATH
    assert locate_graph("elsewhere.yaml") == "elsewhere.yaml"
    settings = Settings.load(graph="default")
    assert settings.load_graph().jobs.keys() == GRAPHS["default"].jobs.keys()
    (tmp_path / "default").write_text("jobs: {}")
    assert locate_graph("default") == "default"
    os.unlink("default")
    os.mkdir("default")
    assert locate_graph("default") == DEFAULT_PATH
