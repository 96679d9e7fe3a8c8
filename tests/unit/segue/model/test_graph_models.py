"""A graph lists models; a job names one, and its fingerprint stands for the model's checksum."""

from __future__ import annotations

import pytest

from segue.errors import ConfigurationError
from segue.model.graph import Graph, GraphError, parse_graph

ONE, TWO = "1" * 64, "2" * 64


def graph_of(models: str = "{}", params: str = "{model: tiny@1}", **environ: str) -> Graph:
    text = f"""
models: {models}
jobs:
  a: {{run: "m:a", needs: {{media: source}}, writes: application/json, params: {params}}}
  b: {{run: "m:b", needs: {{value: a}}, writes: application/json}}
  c: {{run: "m:c", needs: {{media: source}}, writes: application/json}}
"""
    return parse_graph(text, path="/graphs/jobs.yaml", environ=environ)


def tiny(sha256: str = ONE, more: str = "") -> str:
    return f'{{tiny@1: {{source: tiny.onnx, sha256: "{sha256}"{more}}}}}'


def changed(one: Graph, other: Graph) -> set[str]:
    return {job for job in one.jobs if one.fingerprints[job] != other.fingerprints[job]}


def test_a_model_of_the_graph_is_read_with_all_that_is_said_of_it():
    more = ", licence: MIT, purpose: all, size_bytes: 3, convert: a.b:c, convert_version: 2"
    graph = graph_of(tiny(more=more).replace("tiny.onnx", "'${AT}/tiny.onnx'"), AT="models")
    (entry,) = graph.find_models(graph.jobs)
    assert (entry.name, entry.version, entry.sha256) == ("tiny", 1, ONE)
    assert (entry.source, entry.folder) == ("models/tiny.onnx", "/graphs")
    assert (entry.licence, entry.purpose, entry.size_bytes) == ("MIT", "all", 3)
    assert (entry.convert, entry.convert_version) == ("a.b:c", 2)


def test_only_the_models_that_some_jobs_name_are_found():
    graph = graph_of(tiny())
    assert [e.reference for e in graph.find_models(["a"])] == ["tiny@1"]
    assert graph.find_models(["b", "c"]) == ()


def test_another_checksum_makes_the_results_of_the_job_and_those_below_stale():
    assert changed(graph_of(tiny(ONE)), graph_of(tiny(TWO))) == {"a", "b"}


def test_another_version_of_the_conversion_makes_results_stale():
    first = graph_of(tiny(more=", convert: a:b"))
    assert changed(first, graph_of(tiny(more=", convert: a:b, convert_version: 2"))) == {"a", "b"}
    assert changed(graph_of(tiny()), first) == {"a", "b"}


def test_what_else_is_said_of_a_model_changes_no_fingerprint():
    other = tiny(more=", licence: MIT, purpose: all, size_bytes: 3")
    other = other.replace("tiny.onnx", "other/tiny.onnx")
    assert changed(graph_of(tiny()), graph_of(other)) == set()


def test_a_model_that_no_job_names_changes_no_fingerprint():
    assert changed(graph_of(params="{n: 1}"), graph_of(tiny(), params="{n: 1}")) == set()


def test_a_model_of_segue_needs_no_entry():
    graph = graph_of(params="{model: silero_vad@1}")
    assert [e.reference for e in graph.find_models(graph.jobs)] == ["silero_vad@1"]


@pytest.mark.parametrize("text", ["tiny", "Tiny@1", "tiny@x", "tiny@0", "a b@1", "me@example.org"])
def test_other_text_is_no_model(text):
    assert graph_of(params=f"{{to: '{text}'}}").find_models(["a"]) == ()


@pytest.mark.parametrize(
    ("models", "params", "said"),
    [
        (tiny(), "{model: tiny@2}", "line 4, jobs.a.params.model: .*did you mean 'tiny@1'"),
        ("{}", "{model: musicn@1}", "did you mean 'musicnn@1'"),
        ("[]", "{}", "line 2, models: .*write each as NAME@VERSION"),
        ("{tiny: {}}", "{}", "'tiny' is not a model's name; use NAME@VERSION"),
        ("{musicnn@1: {}}", "{}", "Segue lists itself; take another name"),
        ("{tiny@1: tiny.onnx}", "{}", "a model is a mapping with source and sha256"),
        ("{tiny@1: {source: a}}", "{}", "models.tiny@1.sha256: .*64 hexadecimal digits"),
        (f"{{tiny@1: {{sha256: '{ONE}'}}}}", "{}", "models.tiny@1.source: is missing; begin it"),
        (tiny(ONE.replace("1", "G")), "{}", "64 hexadecimal digits in lower case"),
        (tiny(more=", size_bytes: -1"), "{}", "size_bytes: -1 is not a whole number"),
        (tiny(more=", convert: run me"), "{}", "write package.module:name"),
        (tiny(more=", licenze: MIT"), "{}", "did you mean 'licence'"),
    ],
)
def test_a_fault_of_a_model_is_named_with_its_line_and_the_remedy(models, params, said):
    with pytest.raises(GraphError, match=said):
        graph_of(models, params)


def test_all_faults_are_reported_at_once():
    with pytest.raises(GraphError) as caught:
        graph_of("{tiny: {}, a@1: {}, b@1: 3}", "{model: other@9}")
    assert len(caught.value.faults) == 5


def test_a_model_with_a_fault_is_not_unknown_as_well():
    with pytest.raises(GraphError) as caught:
        graph_of("{tiny@1: {source: x, sha256: 1}}")
    assert [fault.place for fault in caught.value.faults] == ["models.tiny@1.sha256"]


def test_an_unknown_model_that_is_given_on_the_command_line_is_refused():
    with pytest.raises(ConfigurationError, match="did you mean 'tiny@1'"):
        graph_of(tiny()).find_model("tinny@1")


@pytest.mark.parametrize("value", ["tiny", "musicnn"])
def test_a_model_without_its_version_is_a_fault(value):
    with pytest.raises(
        GraphError, match=f"'{value}' is a model without its version; write {value}@1"
    ):
        graph_of(tiny(), f"{{first_model: {value}}}")
    assert graph_of(tiny(), f"{{kind: {value}}}").jobs["a"].params == {"kind": value}
