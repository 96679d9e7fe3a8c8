"""The faults of a graph are reported all at once: place, value, rule and remedy."""

from __future__ import annotations

import copy
import pickle

import pytest
import yaml

from segue.errors import ConfigurationError
from segue.model.graph import Fault, GraphError, parse_graph, read_graph

GOOD = {"run": "m:f", "needs": {"media": "source"}, "writes": "audio/flac"}


def faults(text: str, environ: dict[str, str] | None = None) -> list[tuple[str, str]]:
    with pytest.raises(GraphError) as caught:
        parse_graph(text, environ=environ)
    return [(f.place, f.message) for f in caught.value.faults]


def written(**jobs: object) -> str:
    return yaml.safe_dump({"jobs": jobs}, sort_keys=False, allow_unicode=True)


def one_fault(text: str, environ: dict[str, str] | None = None) -> tuple[str, str]:
    (fault,) = faults(text, environ)
    return fault


@pytest.mark.parametrize(
    ("change", "place", "fragments"),
    [
        ("run:", "run", ["missing", "package.module:name"]),
        ("run: 5", "run", ["5", "package.module:name"]),
        ("run: module.function", "run", ["'module.function'", "package.module:name"]),
        ("run: 'm:f; import os'", "run", ["package.module:name"]),
        ("run: 'm:f.g'", "run", ["package.module:name"]),
        ("needs:", "needs", ["missing", "{media: source}"]),
        ("needs: {}", "needs", ["is {}", "{media: source}"]),
        ("needs: [source]", "needs", ["['source']", "{input: parent job}"]),
        ("needs: {x: nobody}", "needs.x", ["'nobody'", "not a job of this graph", "source, a"]),
        ("needs: {x: sauce}", "needs.x", ["'sauce'", "did you mean 'source'?"]),
        ("needs: {x: a}", "needs.x", ["'a' needs itself", "another job"]),
        ("needs: {x: [source]}", "needs.x", ["['source']", "not a job of this graph"]),
        ("needs: {x: 1}", "needs.x", ["1 is not a job of this graph"]),
        ("needs: {x-y: source}", "needs.x-y", ["name of a parameter"]),
        ("needs: {1: source}", "needs.1", ["name of a parameter"]),
        ("writes:", "writes", ["missing", "audio/flac", "image/png"]),
        ("writes: audio/mp3", "writes", ["'audio/mp3'", "audio/flac", "image/png"]),
        ("writes: [audio/flac]", "writes", ["['audio/flac']", "use one of"]),
        ("writes: {audio: flac}", "writes", ["use one of"]),
        ("params: 5", "params", ["is 5", "mapping"]),
        ("params:", "params", ["missing", "mapping"]),
        ("params: {a b: 1}", "params.a b", ["name of a parameter"]),
        ("params: {1: 1}", "params.1", ["name of a parameter"]),
        ("params: {x: 2020-01-02}", "params.x", ["datetime.date", "is a date", "quotes"]),
        ("params: {x: [1, {y: 2020-01-02}]}", "params.x[1].y", ["is a date", "quotes"]),
        ("params: {x: !!binary aGk=}", "params.x", ["is a bytes", "quotes"]),
        ("params: {x: !!set {a, b}}", "params.x", ["is a set"]),
        ("params: {x: {1: 2}}", "params.x", ["key 1 is not text", "quotes"]),
        ("params: {x: .nan}", "params.x", ["nan", "finite"]),
        ("params: {x: [-.inf]}", "params.x[0]", ["-inf", "finite"]),
        ("version: 0", "version", ["0", "whole number from 1 to 1,000,000,000"]),
        ("version: 1.5", "version", ["1.5", "whole number"]),
        ("version: '1'", "version", ["'1'", "whole number"]),
        ("version: true", "version", ["True", "whole number"]),
        ("version:", "version", ["missing", "whole number"]),
        ("version: .nan", "version", ["nan", "whole number"]),
        ("version: -.inf", "version", ["-inf", "whole number"]),
        ("version: 10000000000", "version", ["10000000000", "whole number"]),
        ("owner: 5", "owner", ["5 is not text", "quotes"]),
        ("description: [a]", "description", ["['a'] is not text", "quotes"]),
        ("timeout_s: 0", "timeout_s", ["0", "a number from 0.01 to 86,400"]),
        ("timeout_s: .inf", "timeout_s", ["inf", "a number from"]),
        ("timeout_s: .nan", "timeout_s", ["nan", "a number from"]),
        (f"timeout_s: 1{'0' * 400}", "timeout_s", ["1000", "…", "a number from"]),
        ("timeout_s: 2 minutes", "timeout_s", ["'2 minutes'", "a number from"]),
        ("attempts: 0", "attempts", ["0", "whole number from 1 to 100"]),
        ("attempts: 1000", "attempts", ["1000", "whole number from 1 to 100"]),
        ("resources: 2", "resources", ["is 2", "{memory_gib: 2, gpu: none}"]),
        ("resources: {cores: 1}", "resources.cores", ["use one of gpu, memory_gib"]),
        ("resources: {memory: 1}", "resources.memory", ["did you mean 'memory_gib'?"]),
        ("resources: {memory_gib: 0}", "resources.memory_gib", ["0", "from 0.05 to 1,024"]),
        ("resources: {gpu: l4}", "resources.gpu", ["'l4'", "nvidia-l4"]),
        ("resources: {gpu: [1]}", "resources.gpu", ["[1]", "nvidia-l4"]),
        ("resources: {gpu:}", "resources.gpu", ["missing", "none"]),
        ("equivalent: abc", "equivalent", ["'abc'", "list of old fingerprints"]),
        ("equivalent: [123456789012]", "equivalent", ["123456789012", "quotes"]),
        ("equivalent: ['0123456789AB']", "equivalent", ["'0123456789AB'", "12 hexadecimal"]),
        ("equivalent: ['0123']", "equivalent", ["'0123'", "12 hexadecimal"]),
        ("verson: 2", "verson", ["not a key", "did you mean 'version'?"]),
        ("colour: red", "colour", ["not a key", "run", "needs", "writes"]),
        ("name: b", "name", ["not a key"]),
        ("1: b", "1", ["not a key"]),
    ],
)
def test_a_wrong_value_is_reported_with_its_place_and_its_remedy(change, place, fragments):
    body = {**yaml.safe_load(written(a=GOOD))["jobs"]["a"], **yaml.safe_load(change)}
    lines = [line for line in written(a=body).splitlines() if line]
    if "!!" in change:  # which the writer would write in its own way
        lines = [*written(a=GOOD).splitlines(), "    " + change]
    found, message = one_fault("\n".join(lines))
    assert found == f"jobs.a.{place}"
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize(
    ("text", "place", "fragment"),
    [
        ("", "file", "needs a key 'jobs'"),
        ("[]", "file", "needs a key 'jobs'"),
        ("jobs:", "jobs", "is missing; write at least one job"),
        ("jobs: {}", "jobs", "is {}; write at least one job"),
        ("jobs: [a]", "jobs", "is ['a']; write at least one job"),
        ("{", "file", "not valid YAML"),
        ("a: 1\n---\nb: 1", "file", "single document"),
        ("jobs: \0", "file", "not valid YAML"),
        ("jobs: {a: 2020-13-45}", "file", "month must be in 1..12"),
        ("jobs: {a: !!int x}", "file", "put it in quotes"),
        (f"jobs: {{a: {'9' * 5000}}}", "file", "put it in quotes"),
        ("jobs: !!python/object:os.system {}", "file", "not valid YAML"),
        ('jobs: {a: "\\ud83d"}', "file", "half of a surrogate pair"),
        (f"jobs: {'[' * 5000}{']' * 5000}", "file", "nested too deeply"),
        ("jobs: {? [a] : 1}", "file", "unhashable"),
    ],
)
def test_a_file_that_is_not_a_graph_is_reported_as_a_fault(text, place, fragment):
    found, message = one_fault(text)
    assert found == place
    assert fragment in message


def test_an_alias_that_holds_itself_is_a_fault_and_does_not_end_the_process():
    text = written(a=GOOD) + "    params: {x: &loop [*loop]}\n"
    assert one_fault(text) == (
        "file",
        "is nested too deeply, or an alias in it holds itself; flatten it",
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("jobs: {}\njobs: {}", "'jobs'"),
        (written(a=GOOD) + "  a: {}\n", "'a'"),
        (written(a=GOOD) + "    run: m:g\n", "'run'"),
        (written(a=GOOD) + "    params: {x: 1, y: 2, 'x': 3}\n", "'x'"),
        (written(a=GOOD) + "    params: {x: [{y: 1, y: 1}]}\n", "'y'"),
        (written(a=GOOD) + "    params: {~: 1, ~: 2}\n", "'~'"),
    ],
)
def test_a_key_that_is_written_twice_is_refused_with_its_line(text, key):
    place, message = one_fault(text)
    assert place == "file"
    assert f"{key} is written twice; keep one" in message
    assert "line" in message


def test_anchors_and_merge_keys_may_be_used_and_overridden():
    text = """
jobs:
  a: &base {run: "m:f", needs: {media: source}, writes: audio/flac, version: 2}
  b: &middle
    <<: *base
    version: 3
  c: {<<: *middle, run: "m:g", version: 4}
"""
    jobs = parse_graph(text).jobs
    assert [(j.run, j.version) for j in jobs.values()] == [("m:f", 2), ("m:f", 3), ("m:g", 4)]


@pytest.mark.parametrize(
    "name", ["A", "1a", "_a", "a-b", "a b", "a.b", "é", "", "a/b", "a" * 64, "a\n"]
)
def test_a_name_that_could_not_be_a_folder_or_a_topic_is_refused(name):
    place, message = one_fault(written(**{name: GOOD}))
    assert place == f"jobs.{name}"
    assert repr(name) in message
    assert "lower-case letters" in message


def test_no_job_can_be_named_like_the_source():
    jobs = {"source": {**GOOD, "needs": {"x": "a"}}, "a": {**GOOD, "needs": {"x": "source"}}}
    place, message = one_fault(written(**jobs))
    assert place == "jobs.source"
    assert "not 'source'" in message


@pytest.mark.parametrize("name", ["1", "true", "no", "~", "2020-01-01", "1.5"])
def test_a_name_that_yaml_takes_for_something_else_is_refused(name):
    text = f"jobs: {{{name}: {{run: 'm:f', needs: {{media: source}}, writes: audio/flac}}}}"
    assert "is not a job's name" in one_fault(text)[1]


@pytest.mark.parametrize("name", ["a", "a1_", "a" * 63, "sources"])
def test_an_ordinary_name_is_taken(name):
    assert list(parse_graph(written(**{name: GOOD})).jobs) == [name]


def test_all_faults_are_reported_at_once_also_beside_a_cycle():
    text = """
catalog: x
include: flac
artifacts: 5
jobs:
  a: {run: "m:f", needs: {x: b}, writes: audio/flac}
  b: {run: "m:f", needs: {x: a, y: nobody}, writes: audio/flac}
  c: {run: "m:f", needs: {x: c}, writes: audio/mp3, version: 0}
  d:
  e: {run: "m:f", needs: {x: d, y: a}, writes: audio/flac}
  p: {run: "m:f", needs: {x: r}, writes: audio/flac}
  q: {run: "m:f", needs: {x: p}, writes: audio/flac}
  r: {run: "m:f", needs: {x: q}, writes: audio/flac}
"""
    found = faults(text)
    assert [place for place, _ in found] == [
        "catalog",
        "artifacts",
        "include",
        "jobs.b.needs.y",
        "jobs.c.needs.x",
        "jobs.c.writes",
        "jobs.c.version",
        "jobs.d",
        "jobs.a.needs",
        "jobs.p.needs",
    ]
    messages = dict(found)
    assert "a → b → a" in messages["jobs.a.needs"]
    assert "p → q → r → p" in messages["jobs.p.needs"]
    with pytest.raises(GraphError) as caught:
        parse_graph(text, path="here.yaml")
    assert str(caught.value).splitlines()[0] == "here.yaml has 10 faults:"
    assert len(str(caught.value).splitlines()) == 11


def test_a_cycle_names_its_jobs_and_not_those_below_it():
    jobs = {
        "top": GOOD,
        "below": {**GOOD, "needs": {"x": "b"}},
        "b": {**GOOD, "needs": {"x": "a", "y": "top"}},
        "a": {**GOOD, "needs": {"x": "b"}},
    }
    place, message = one_fault(written(**jobs))
    assert place in {"jobs.a.needs", "jobs.b.needs"}
    assert message.startswith("form a cycle: ")
    assert "top" not in message
    assert "below" not in message


def test_a_fault_of_a_parent_is_not_reported_again_at_its_children():
    jobs = {"a": {**GOOD, "writes": "x"}, "b": {**GOOD, "needs": {"x": "a"}}, "c": None}
    assert [p for p, _ in faults(written(**jobs))] == ["jobs.a.writes", "jobs.c"]


def test_a_graphs_faults_survive_the_way_through_another_process():
    error = GraphError("jobs.yaml", [Fault("jobs.a", "is wrong; mend it")])
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert str(same) == "jobs.yaml has 1 fault:\n  jobs.a: is wrong; mend it"
        assert (same.path, same.faults) == (error.path, error.faults)
        assert isinstance(same, ConfigurationError)


def test_an_unset_variable_is_a_fault_with_both_remedies():
    text = "catalogue: ${WHERE}\n" + written(a={**GOOD, "params": {"x": ["${THERE}"]}})
    assert faults(text) == [
        (
            "catalogue",
            "the environment variable WHERE is not set; set it, or write ${WHERE:-default}",
        ),
        (
            "jobs.a.params.x[0]",
            "the environment variable THERE is not set; set it, or write ${THERE:-default}",
        ),
    ]
    assert one_fault(written(a={**GOOD, "owner": "${X}"}), {"X": ""})[0] == "jobs.a.owner"


def test_a_variable_that_is_not_unicode_is_a_fault():
    place, message = one_fault("catalogue: ${WHERE}\n" + written(a=GOOD), {"WHERE": "/m\udcff"})
    assert place == "catalogue"
    assert "not valid Unicode" in message


@pytest.mark.parametrize("key", ["catalogue", "artifacts"])
@pytest.mark.parametrize("value", ["0", "false", "[]", "5"])
def test_a_location_that_is_not_text_is_a_fault(key, value):
    place, message = one_fault(f"{key}: {value}\n" + written(a=GOOD))
    assert place == key
    assert "is not text" in message


@pytest.mark.parametrize("value", ["'*.flac'", "[1]", "['']", "~", "{a: b}"])
def test_what_is_included_is_a_list_of_patterns(value):
    place, message = one_fault(f"include: {value}\n" + written(a=GOOD))
    assert place == "include"
    assert 'write a list of patterns, such as ["*.flac"]' in message


def test_a_file_that_cannot_be_read_names_the_option_and_the_variable(tmp_path):
    with pytest.raises(ConfigurationError, match=r"No such file.*--graph or SEGUE_GRAPH"):
        read_graph(str(tmp_path / "none.yaml"), {})
    with pytest.raises(ConfigurationError, match="Is a directory"):
        read_graph(str(tmp_path), {})
    (tmp_path / "latin.yaml").write_bytes("jobs: é".encode("latin-1"))
    with pytest.raises(GraphError, match="save it as UTF-8"):
        read_graph(str(tmp_path / "latin.yaml"), {})
