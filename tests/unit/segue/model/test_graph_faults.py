"""The faults of a graph are reported all at once: place, value, rule and remedy."""

from __future__ import annotations

import copy
import pickle

import pytest
import yaml

from segue.errors import ConfigurationError
from segue.model.graph import Fault, GraphError, parse_graph, read_graph
from segue.model.yaml_document import MAX_FAULTS

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
        ("needs: {1: source}", "needs.1", ["key 1 is not text", "quotes"]),
        ("writes:", "writes", ["missing", "audio/flac", "image/png"]),
        ("writes: audio/mp3", "writes", ["'audio/mp3'", "audio/flac", "image/png"]),
        ("writes: [audio/flac]", "writes", ["['audio/flac']", "use one of"]),
        ("writes: {audio: flac}", "writes.audio", ["'flac'", "use one of"]),
        ("writes: {}", "writes", ["write a content type, or several"]),
        ("writes: {A: audio/flac}", "writes.A", ["output's name", "lower-case"]),
        ("writes: {a.b: audio/flac}", "writes.a.b", ["output's name"]),
        ("accepts: audio/*", "accepts", ["'audio/*'", "write a list"]),
        ("accepts: [audio]", "accepts[0]", ["'audio'", "audio/*"]),
        ("accepts: ['*/*']", "accepts[0]", ["'*/*'", "audio/*"]),
        ("accepts: ['sound/*']", "accepts[0]", ["'sound/*'", "audio/*"]),  # no file would match
        ("accepts: [5]", "accepts[0]", ["5", "audio/*"]),
        ("params: 5", "params", ["is 5", "mapping"]),
        ("params:", "params", ["missing", "mapping"]),
        ("params: {a b: 1}", "params.a b", ["name of a parameter"]),
        ("params: {1: 1}", "params.1", ["key 1 is not text", "quotes"]),
        ("params: {x: 2020-01-02}", "params.x", ["'2020-01-02'", "YAML 1.1", "quotes"]),
        (
            "params: {x: [1, {y: 2020-01-02}]}",
            "params.x[1].y",
            ["'2020-01-02'", "YAML 1.1", "quotes"],
        ),
        ("params: {x: !!binary aGk=}", "params.x", ["tag", "binary", "leave it out"]),
        ("params: {x: !!set {a, b}}", "params.x", ["tag", "set", "leave it out"]),
        ("params: {x: {1: 2}}", "params.x.1", ["key 1 is not text", "quotes"]),
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
        (
            "resources: {cores: 1}",
            "resources.cores",
            ["use one of gpu, gpu_memory_gib, memory_gib"],
        ),
        ("resources: {memory: 1}", "resources.memory", ["did you mean 'memory_gib'?"]),
        ("resources: {memory_gib: 0}", "resources.memory_gib", ["0", "from 0.05 to 1,024"]),
        ("resources: {gpu: l4}", "resources.gpu", ["'l4'", "nvidia-l4"]),
        ("resources: {gpu: [1]}", "resources.gpu", ["[1]", "nvidia-l4"]),
        ("resources: {gpu: }", "resources.gpu", ["missing", "none"]),
        (
            "resources: {gpu_memory_gib: 4}",
            "resources.gpu_memory_gib",
            ["is given, but no GPU", "nvidia-l4"],
        ),
        (
            "resources: {gpu: nvidia-l4, gpu_memory_gib: 24}",
            "resources.gpu_memory_gib",
            ["24", "a number from 0.05 to 22.5"],
        ),
        (
            "resources: {gpu: nvidia-l4, gpu_memory_gib: all}",
            "resources.gpu_memory_gib",
            ["'all'", "a number from 0.05 to 22.5"],
        ),
        ("equivalents: abc", "equivalents", ["'abc'", "list of old fingerprints"]),
        ("equivalents: [123456789012]", "equivalents", ["123456789012", "quotes"]),
        ("equivalents: ['0123456789AB']", "equivalents", ["'0123456789AB'", "12 hexadecimal"]),
        ("equivalents: ['0123']", "equivalents", ["'0123'", "12 hexadecimal"]),
        ("equivalent: []", "equivalent", ["not a key", "did you mean 'equivalents'?"]),
        ("verson: 2", "verson", ["not a key", "did you mean 'version'?"]),
        ("colour: red", "colour", ["not a key", "run", "needs", "writes"]),
        ("name: b", "name", ["not a key"]),
        ("1: b", "1", ["key 1 is not text"]),
    ],
)
def test_a_wrong_value_is_reported_with_its_place_and_its_remedy(change, place, fragments):
    changed, _, _ = change.partition(":")
    body = {key: value for key, value in GOOD.items() if key != changed}
    text = "\n".join([*written(a=body).splitlines(), "    " + change])
    with pytest.raises(GraphError) as caught:
        parse_graph(text)
    (fault,) = caught.value.faults
    assert fault.place == f"jobs.a.{place}"
    assert fault.line == len(text.splitlines())
    for fragment in fragments:
        assert fragment in fault.message


@pytest.mark.parametrize(
    ("text", "place", "fragment"),
    [
        ("", "", "write a key 'jobs'"),
        ("[]", "", "write a key 'jobs'"),
        ("jobs:", "jobs", "is missing; write at least one job"),
        ("jobs: {}", "jobs", "is {}; write at least one job"),
        ("jobs: [a]", "jobs", "is ['a']; write at least one job"),
        ("{", "", "not valid YAML"),
        ("a: 1\n---\nb: 1", "", "single document"),
        (f"jobs: {{{', '.join(f'j{n}: {{}}' for n in range(1001))}}}", "jobs", "at most 1,000"),
    ],
)
def test_a_file_that_is_not_a_graph_is_reported_as_a_fault(text, place, fragment):
    found, message = one_fault(text)
    assert found == place
    assert fragment in message


def test_a_fault_names_the_file_and_the_line_also_of_what_is_missing_or_merged():
    text = """\
jobs:
  base: &base
    run: "m:f"
    needs: {media: source}
    owner: 5

  merged:
    <<: *base
    writes: image/png
"""
    with pytest.raises(GraphError) as caught:
        parse_graph(text, path="here.yaml")
    heading, missing, *wrong = str(caught.value).splitlines()
    assert heading == "here.yaml has 3 faults:"
    assert missing.startswith("  line 2, jobs.base.writes: missing is not a content type")
    assert wrong == [
        "  line 5, jobs.base.owner: 5 is not text; put it in quotes",
        "  line 5, jobs.merged.owner: 5 is not text; put it in quotes",
    ]


def test_only_the_first_faults_of_many_are_reported():
    text = written(a=GOOD) + "".join(f"key_{n}: 1\n" for n in range(1000))
    with pytest.raises(GraphError) as caught:
        parse_graph(text)
    assert len(caught.value.faults) == MAX_FAULTS
    assert str(caught.value).startswith("jobs.yaml has 50 faults or more:\n")


def test_a_message_holds_no_control_characters_of_the_file():
    text = 'jobs: {"a\\e[31m\\u202e": {owner: "\\a\\x9b"}, "b\\nc": 1}'
    with pytest.raises(GraphError) as caught:
        parse_graph(text, path="\x1b.yaml", environ={})
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
    assert len(str(caught.value).split("\n")) == 1 + len(caught.value.faults)


def test_a_long_cycle_is_abbreviated():
    jobs = {f"j{n}": {**GOOD, "needs": {"x": f"j{(n + 1) % 500}"}} for n in range(500)}
    _, message = one_fault(written(**jobs))
    assert "j0 → j499" in message
    assert "489 more" in message
    assert len(message) < 200


def test_nested_defaults_of_variables_are_read_in_linear_time():
    owner = "${a:-" * 40_000
    assert parse_graph(written(a={**GOOD, "owner": owner})).jobs["a"].owner == owner


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
    assert "in quotes" in one_fault(text)[1]


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
    error = GraphError("jobs.yaml", [Fault("jobs.a", "is wrong; mend it", 7)])
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert str(same) == "jobs.yaml has 1 fault:\n  line 7, jobs.a: is wrong; mend it"
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
@pytest.mark.parametrize("key", ["include", "exclude"])
def test_what_is_included_or_excluded_is_a_list_of_patterns(key, value):
    place, message = one_fault(f"{key}: {value}\n" + written(a=GOOD))
    assert place == key
    assert 'write a list of patterns, such as ["*.flac"]' in message


@pytest.mark.parametrize("value", ["a", "moods", "a-1", "a--b", "a" * 30])
def test_an_ordinary_namespace_is_taken(value):
    assert parse_graph(f"namespace: {value}\n" + written(a=GOOD)).namespace == value


@pytest.mark.parametrize(
    "value", ["A", "1a", "'1'", "5", "-a", "a-", "a_b", "a.b", "a/b", "é", "''", "~", "[a]", "${A}"]
)
def test_a_namespace_that_could_not_be_part_of_names_is_refused(value):
    place, message = one_fault(f"namespace: {value}\n" + written(a=GOOD), {"A": "a"})
    assert place == "namespace"
    assert message.endswith(
        "is not a namespace; "
        "use up to 30 lower-case letters, digits and -, a letter first and no - last"
    )
    assert one_fault(f"namespace: {'a' * 31}\n" + written(a=GOOD))[0] == "namespace"


L4, T4 = ({**GOOD, "resources": {"gpu": gpu}} for gpu in ("nvidia-l4", "nvidia-tesla-t4"))


@pytest.mark.parametrize(
    ("pipelines", "place", "fragments"),
    [
        ("", "", ["is missing", "{rhythm: [beats, tempo]}"]),
        (" all", "", ["is 'all'", "{rhythm: [beats, tempo]}"]),
        (" [[a, b]]", "", ["is [['a', 'b']]", "{rhythm: [beats, tempo]}"]),
        ("\n  x: [a]\n  y:", "y", ["is missing", "list at least one job"]),
        ("\n  x: [a]\n  y: []", "y", ["is []", "list at least one job"]),
        ("\n  x: [a]\n  y: b", "y", ["is 'b'", "list at least one job", "[beats, tempo]"]),
        ("\n  x: [a]\n  b: a", "b", ["is 'a'", "list at least one job"]),
        ("\n  x: [a]\n  y: {b: a}", "y", ["is {'b': 'a'}", "list at least one job"]),
        ("\n  x:\n    - a\n    - loudnes", "x[1]", ["'loudnes'", "did you mean 'loudness'?"]),
        ("\n  x:\n    - a\n    - source", "x[1]", ["'source' is not a job", "a, b, loudness"]),
        ("\n  x:\n    - a\n    - 1", "x[1]", ["1 is not a job of this graph", "a, b, loudness"]),
        ("\n  x:\n    - a\n    - [b]", "x[1]", ["['b'] is not a job of this graph"]),
        ("\n  x:\n    - a\n    - {b: 1}", "x[1]", ["{'b': 1} is not a job of this graph"]),
        ("\n  x:\n    - a\n    -", "x[1]", ["missing is not a job of this graph"]),
        ("\n  x:\n    - a\n    - a", "x[1]", ["'a' is listed twice", "keep one"]),
        ("\n  x: [a]\n  y: [b, a]", "y[1]", ["'a' is in pipeline 'x' already", "one of the two"]),
        ("\n  x: [a]\n  b: [loudness]", "b", ["name of a job that is not in it", "add 'b'"]),
        ("\n  b: [b]\n  a: [loudness]", "a", ["name of a job that is not in it", "rename it"]),
        (
            "\n  x: [a]\n  source: [b]",
            "source",
            ["'source' is not a pipeline's name", "not 'source'"],
        ),
        ("\n  x: [a]\n  x-y: [b]", "x-y", ["'x-y'", "lower-case letters, digits and _"]),
        (f"\n  {'x' * 64}: [b]", "x" * 64, ["not a pipeline's name", "up to 63"]),
        ("\n  x: [a]\n  1: [b]", "1", ["key 1 is not text"]),
        (
            "\n  loudness: [loudness]\n  x: [a, b]",
            "x",
            ["different GPUs ('a' nvidia-l4, 'b' nvidia-tesla-t4)", "different pipelines"],
        ),
    ],
)
def test_a_wrong_grouping_is_reported_with_its_line_and_its_remedy(pipelines, place, fragments):
    jobs = {"a": L4, "b": T4, "loudness": {**GOOD, "needs": {"x": "a"}}}
    text = f"pipelines:{pipelines}"
    with pytest.raises(GraphError) as caught:
        parse_graph(f"{text}\n{written(**jobs)}")
    (fault,) = caught.value.faults
    assert fault.place == f"pipelines.{place}".removesuffix(".")
    assert fault.line == len(text.splitlines())
    for fragment in fragments:
        assert fragment in fault.message


def test_jobs_with_the_same_gpu_or_none_may_share_a_pipeline():
    jobs = {"a": L4, "b": L4, "c": GOOD, "d": T4}
    graph = parse_graph("pipelines: {x: [a, b, c]}\n" + written(**jobs))
    assert graph.pipelines == {"x": ("a", "b", "c"), "d": ("d",)}


def test_a_faulty_job_is_not_reported_again_by_its_pipeline():
    assert [p for p, _ in faults("pipelines: {x: [a, b]}\n" + written(a=None, b=GOOD))] == [
        "jobs.a"
    ]


def test_a_file_that_cannot_be_read_names_the_option_and_the_variable(tmp_path):
    with pytest.raises(ConfigurationError, match=r"No such file.*--graph or SEGUE_GRAPH"):
        read_graph(str(tmp_path / "none.yaml"), {})
    with pytest.raises(ConfigurationError, match="Is a directory"):
        read_graph(str(tmp_path), {})
    (tmp_path / "latin.yaml").write_bytes("jobs: é".encode("latin-1"))
    with pytest.raises(GraphError, match=r"latin.yaml has 1 fault:\n  line 1: .* save it as UTF-8"):
        read_graph(str(tmp_path / "latin.yaml"), {})
