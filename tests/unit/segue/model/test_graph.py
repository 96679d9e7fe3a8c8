"""The graph: its order, its lines, and the fingerprints that say what is stale."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import ConfigurationError
from segue.media.content_type import EXTENSIONS
from segue.model import graph as graph_module
from segue.model.graph import INCLUDE, SOURCE, Graph, Job, Resources, parse_graph, read_graph
from segue_support.paths import ROOT

GOLDEN = ROOT / "tests" / "golden"
NAMES = "abcdefghij"


def job(name: str, parents: Sequence[str], **more: object) -> Job:
    needs = {f"from_{p}": p for p in parents or (SOURCE,)}
    return Job(name=name, run="m:f", needs=needs, writes="audio/flac", **more)  # type: ignore[arg-type]


def graph_of(*jobs: Job) -> Graph:
    return Graph(jobs={j.name: j for j in jobs})


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(1, len(NAMES)))
    edges = [draw(st.integers(0, 2**i - 1)) for i in range(count)]
    return graph_of(
        *(job(NAMES[i], [NAMES[j] for j in range(i) if edges[i] >> j & 1]) for i in range(count))
    )


def written(graph: Graph, order: Sequence[str]) -> str:
    """The graph as a person could have written it, its jobs in some order."""
    jobs = {}
    for name in order:
        each = graph.jobs[name]
        jobs[name] = {"run": each.run, "needs": dict(each.needs), "writes": each.writes}
    return yaml.safe_dump({"jobs": jobs}, sort_keys=False)


def reachable(graph: Graph, name: str) -> set[str]:
    """All jobs above one, found by walking every path."""
    above: set[str] = set()
    for parent in graph.jobs[name].needs.values():
        if parent != SOURCE:
            above |= {parent} | reachable(graph, parent)
    return above


# --- structure -------------------------------------------------------------------------------


@given(graphs(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_parents_stand_first_however_the_file_is_written(graph, rng):
    order = list(graph.jobs)
    rng.shuffle(order)
    read = parse_graph(written(graph, order))
    assert set(read.jobs) == set(graph.jobs)
    place = {name: i for i, name in enumerate(read.jobs)}
    for each in read.jobs.values():
        assert all(place[p] < place[each.name] for p in each.parents)
    assert read.fingerprints == graph.fingerprints
    assert list(parse_graph(written(read, list(read.jobs))).jobs) == list(read.jobs)


def test_jobs_that_are_free_keep_the_order_of_the_file():
    graph = parse_graph(
        written(graph_of(job("z", ()), job("m", ()), job("a", ())), ["z", "m", "a"])
    )
    assert list(graph.jobs) == ["z", "m", "a"]


@given(graphs())
def test_above_and_below_are_what_walking_every_path_finds(graph):
    above = {name: reachable(graph, name) for name in graph.jobs}
    for name in graph.jobs:
        assert graph.find_ancestors(name) == above[name]
        assert graph.find_descendants(name) == {n for n in graph.jobs if name in above[n]}
        assert graph.jobs[name].reads_source == (name in graph.children[SOURCE])
    for parent, child in itertools.product((SOURCE, *graph.jobs), graph.jobs):
        assert (child in graph.children[parent]) == (parent in graph.jobs[child].needs.values())
    for children in graph.children.values():
        assert list(children) == [n for n in graph.jobs if n in children]


@given(graphs(), st.data())
def test_lines_run_upward_from_targets_in_order(graph, data):
    targets = data.draw(st.lists(st.sampled_from(list(graph.jobs)), max_size=4))
    wanted = set(targets).union(*(reachable(graph, t) for t in targets))
    assert graph.add_ancestors(targets) == tuple(n for n in graph.jobs if n in wanted)
    for name in graph.jobs:
        assert graph.is_on_line(name, targets) == (name in wanted)
        assert graph.is_on_line(name, None)
        assert not graph.is_on_line(name, ())
        assert graph.is_on_line(name, ["gone", *targets]) == (name in wanted)


def test_an_input_may_be_the_file_and_a_job_may_be_read_twice():
    graph = graph_of(
        job("a", ()),
        Job(name="b", run="m:f", needs={"x": "a", "y": "a", "m": SOURCE}, writes="image/png"),
    )
    assert graph.jobs["b"].parents == ("a",)
    assert graph.jobs["b"].reads_source
    assert graph.children == {SOURCE: ("a", "b"), "a": ("b",), "b": ()}


@given(graphs())
def test_a_graph_survives_the_way_to_another_process(graph):
    assert graph.fingerprints
    assert graph.accepted
    assert graph.add_ancestors(graph.jobs)
    again = pickle.loads(pickle.dumps(graph))
    assert again == graph
    assert list(again.jobs) == list(graph.jobs)
    assert again.accepted == graph.accepted


# --- pipelines -------------------------------------------------------------------------------


def test_without_groups_each_job_has_a_pipeline_of_its_name():
    graph = graph_of(job("a", ()), job("b", ("a",)))
    assert graph.pipelines == {"a": ("a",), "b": ("b",)}
    assert graph.find_pipelines(("b", "a", "b")) == ("b", "a")


def test_groups_share_a_pipeline_and_the_other_jobs_keep_their_own():
    text = """
pipelines:
  light: [d, a]
  heavy: ["b"]
jobs:
  a: {run: "m:f", needs: {x: source}, writes: audio/flac}
  b: {run: "m:f", needs: {x: a}, writes: audio/flac}
  d: {run: "m:f", needs: {x: b}, writes: audio/flac}
  c: {run: "m:f", needs: {x: a}, writes: audio/flac}
"""
    graph = parse_graph(text)
    assert graph.groups == {"light": ("d", "a"), "heavy": ("b",)}
    assert graph.pipelines == {"light": ("a", "d"), "heavy": ("b",), "c": ("c",)}
    assert graph.find_pipelines(graph.jobs) == ("light", "heavy", "c")


def test_a_pipeline_may_have_the_name_of_one_of_its_jobs():
    graph = parse_graph(
        "pipelines: {a: [b, a]}\n" + written(graph_of(job("a", ()), job("b", ())), "ab")
    )
    assert graph.pipelines == {"a": ("a", "b")}


def test_a_pipeline_notifies_those_that_share_a_line_with_it():
    graph = graph_of(
        job("a", ()),
        job("b", ()),
        job("c", ("a",)),
        job("d", ("c", "b")),
        job("e", ("a",)),
        job("f", ()),
    )
    found = {name: "".join(graph.find_notified(name)) for name in graph.pipelines}
    assert found == {"a": "abcde", "b": "abcd", "c": "abcd", "d": "abcd", "e": "ae", "f": "f"}
    grouped = replace(graph, groups={"x": ("e", "f"), "y": ("b", "c")})
    found = {name: set(grouped.find_notified(name)) for name in grouped.pipelines}
    assert found == {
        "a": {"a", "x", "y", "d"},
        "x": {"a", "x"},
        "y": {"a", "y", "d"},
        "d": {"a", "y", "d"},
    }


@given(graphs(), st.data())
def test_each_job_is_in_exactly_one_pipeline(graph, data):
    numbers = {name: data.draw(st.integers(0, 3)) for name in graph.jobs}
    groups = {f"p{n}": [j for j, its in numbers.items() if its == n] for n in (1, 2, 3)}
    listed = yaml.safe_dump({"pipelines": {name: jobs for name, jobs in groups.items() if jobs}})
    read = parse_graph(listed + written(graph, list(graph.jobs)))
    assert sorted(j for jobs in read.pipelines.values() for j in jobs) == sorted(graph.jobs)
    for name, jobs in read.pipelines.items():
        assert list(jobs) == [j for j in read.jobs if j in jobs]
        assert {read.pipeline_of[j] for j in jobs} == {name}
        assert set(jobs) == ({name} if name in graph.jobs else set(groups[name]))


# --- reading ---------------------------------------------------------------------------------


def test_a_graph_is_read_with_everything_that_can_be_written():
    graph = parse_graph(
        """
namespace: moods-2
catalogue: gs://acme/masters
artifacts: gs://acme-out
include: ["*.aiff"]
exclude: ["*/drafts/*"]
pipelines: {loud: [energy]}
jobs:
  energy:
    run: pack.module:Class
    needs: {audio: source}
    writes: application/json
    params: {a: 1, b: [x, {y: null}], c: true, d: 0.5}
    version: 2
    owner: team
    description: what it is
    timeout_s: 7
    attempts: 5
    resources: {memory_gib: 0.5, gpu: nvidia-l4, gpu_memory_gib: 4}
    equivalents: ["0123456789ab"]
""",
        path="x/jobs.yaml",
    )
    assert (graph.catalogue, graph.artifacts) == ("gs://acme/masters", "gs://acme-out")
    assert (graph.include, graph.path) == (("*.aiff",), "x/jobs.yaml")
    assert graph.exclude == ("*/drafts/*",)
    assert (graph.namespace, graph.groups) == ("moods-2", {"loud": ("energy",)})
    assert graph.jobs["energy"] == Job(
        name="energy",
        run="pack.module:Class",
        needs={"audio": "source"},
        writes="application/json",
        params={"a": 1, "b": ["x", {"y": None}], "c": True, "d": 0.5},
        version=2,
        owner="team",
        description="what it is",
        timeout_s=7.0,
        attempts=5,
        resources=Resources(memory_gib=0.5, gpu="nvidia-l4", gpu_memory_gib=4.0),
        equivalents=("0123456789ab",),
    )


def test_what_is_not_written_has_a_default_that_works():
    graph = parse_graph("jobs: {a: {run: 'm:f', needs: {m: source}, writes: audio/flac}}")
    assert (graph.catalogue, graph.artifacts) == (None, ".segue/artifacts")
    assert (graph.include, graph.exclude) == (INCLUDE, ())
    assert (graph.namespace, graph.groups) == ("default", {})
    assert graph.jobs["a"] == Job(name="a", run="m:f", needs={"m": "source"}, writes="audio/flac")


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("${X}", {"X": "gs://b"}, "gs://b"),
        ("${X}/a/${Y:-c}", {"X": "gs://b"}, "gs://b/a/c"),
        ("${X:-gs://b}", {}, "gs://b"),
        ("${X:-gs://b}", {"X": ""}, "gs://b"),
        ("${X:-gs://b}", {"X": "gs://c"}, "gs://c"),
        ("${X:-a:-b}", {}, "a:-b"),
        ("${X}", {"X": "${Y}", "Y": "z"}, "${Y}"),
        ("$X", {"X": "y"}, "$X"),
        ("${X:-}", {}, None),
        ("", {}, None),
    ],
)
def test_variables_are_filled_from_the_environment(text, environ, expected):
    jobs = "jobs: {a: {run: 'm:f', needs: {m: source}, writes: audio/flac}}"
    graph = parse_graph(f"catalogue: '{text}'\nartifacts: '{text}'\n{jobs}", environ=environ)
    assert graph.catalogue == expected
    assert graph.artifacts == (expected or ".segue/artifacts")


def test_by_default_the_usual_names_of_all_sounds_and_films_are_included():
    ambiguous = {"ts", "mts", "iff", "8svx", "mpp", "mp+", "nist"}
    silent = {"audio/midi", "audio/x-mpegurl"}
    known = {
        f"*.{suffix}"
        for suffix, kind in EXTENSIONS.items()
        if kind.startswith(("audio/", "video/")) and kind not in silent
    }
    assert set(INCLUDE) == known - {f"*.{suffix}" for suffix in ambiguous}
    assert len(INCLUDE) == len(set(INCLUDE))


def test_variables_reach_text_parameters_and_stay_text():
    text = "jobs: {a: {run: 'm:f', needs: {m: source}, writes: audio/flac, params: {x: ['${X}']}}}"
    assert parse_graph(text, environ={"X": "5"}).jobs["a"].params == {"x": ["5"]}


def test_the_environment_is_read_only_when_a_graph_is_loaded(tmp_path, monkeypatch):
    path = tmp_path / "jobs.yaml"
    path.write_text(
        "catalogue: ${SEGUE_TEST}\njobs: {a: {run: 'm:f', needs: {m: source}, writes: audio/flac}}"
    )
    monkeypatch.setenv("SEGUE_TEST", "gs://one")
    assert read_graph(str(path)).catalogue == "gs://one"
    assert read_graph(str(path), {"SEGUE_TEST": "gs://two"}).catalogue == "gs://two"


def test_the_graph_that_ships_with_segue_is_sound():
    graph = read_graph(str(ROOT / "shared" / "segue" / "features" / "jobs.yaml"), {})
    assert graph.catalogue is None
    assert graph.find_ancestors("energy") == {"downsample", "beats"}
    assert all(each.owner and each.description for each in graph.jobs.values())


# --- fingerprints ----------------------------------------------------------------------------


def test_fingerprints_are_those_that_stand_in_buckets_already():
    graph = read_graph(str(GOLDEN / "fingerprints.yaml"), {})
    expected = json.loads((GOLDEN / "fingerprints.json").read_text(encoding="utf-8"))
    assert graph.fingerprints == expected


def test_a_fingerprint_is_the_hash_of_what_defines_a_result():
    graph = graph_of(job("a", (), params={"é": [1.5, None]}), job("b", ("a",), version=2))
    first = (
        '{"name":"a","needs":{"from_source":"source"},"params":{"é":[1.5,null]},'
        '"version":1,"writes":"audio/flac"}'
    )
    a = hashlib.sha256(first.encode()).hexdigest()[:12]
    second = (
        f'{{"name":"b","needs":{{"from_a":"{a}"}},"params":{{}},"version":2,"writes":"audio/flac"}}'
    )
    b = hashlib.sha256(second.encode()).hexdigest()[:12]
    assert graph.fingerprints == {"a": a, "b": b}


def changed(graph: Graph, name: str, **changes: object) -> Graph:
    jobs = {n: replace(j, **changes) if n == name else j for n, j in graph.jobs.items()}
    return Graph(jobs=jobs)


def stale(one: Graph, other: Graph) -> set[str]:
    return {n for n in one.jobs if one.fingerprints[n] != other.fingerprints[n]}


@given(graphs(), st.data())
def test_what_defines_a_result_makes_just_this_job_and_those_below_it_stale(graph, data):
    name = data.draw(st.sampled_from(list(graph.jobs)))
    change = data.draw(
        st.sampled_from(
            [
                {"params": {"x": 1}},
                {"params": {"x": None}},
                {"version": 2},
                {"writes": "image/png"},
                {"needs": {f"{k}_": p for k, p in graph.jobs[name].needs.items()}},
                {"needs": {**graph.jobs[name].needs, "more": SOURCE}},
            ]
        )
    )
    other = changed(graph, name, **change)
    assert stale(graph, other) == {name} | graph.find_descendants(name)
    assert len(set(graph.fingerprints.values())) == len(graph.jobs)


@given(graphs(), st.data())
def test_what_does_not_define_a_result_makes_nothing_stale(graph, data):
    name = data.draw(st.sampled_from(list(graph.jobs)))
    other = changed(
        graph,
        name,
        run="elsewhere:g",
        owner="else",
        description="more",
        timeout_s=1.0,
        attempts=9,
        resources=Resources(memory_gib=8, gpu="nvidia-l4", gpu_memory_gib=6),
        equivalents=("0123456789ab",),
    )
    elsewhere = replace(
        other,
        namespace="other",
        groups={"all": tuple(graph.jobs)},
        catalogue="gs://x",
        artifacts="gs://y",
        include=("*",),
        exclude=("*x*",),
        path="z",
    )
    assert elsewhere.fingerprints == graph.fingerprints


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("pqrst"), values, max_size=4), st.integers(0, 2**32))
def test_the_order_of_parameters_and_inputs_means_nothing(params, seed):
    def shuffled(value: object, rng: random.Random) -> object:
        if isinstance(value, dict):
            items = [(k, shuffled(v, rng)) for k, v in value.items()]
            rng.shuffle(items)
            return dict(items)
        return [shuffled(v, rng) for v in value] if isinstance(value, list) else value

    rng = random.Random(seed)
    needs = {"x": "a", "y": "b", "z": SOURCE}
    made = [
        graph_of(
            job("a", ()),
            job("b", ()),
            Job(name="c", run="m:f", needs=n, writes="image/png", params=p),
        )
        for n, p in [(needs, params), (shuffled(needs, rng), shuffled(params, rng))]
    ]
    assert made[0].fingerprints == made[1].fingerprints


def test_different_values_of_a_parameter_never_look_the_same():
    alike = [1, 1.0, True, "1", "true", None, "null", [1], {"1": 1}, "", [], {}, 0, -1, 0.1, 1e300]
    prints = {graph_of(job("a", (), params={"x": v})).fingerprints["a"] for v in alike}
    assert len(prints) == len(alike)


# --- accepted fingerprints -------------------------------------------------------------------


@given(graphs())
def test_without_equivalents_only_the_own_fingerprint_is_accepted(graph):
    assert graph.accepted == {n: (p,) for n, p in graph.fingerprints.items()}


@given(graphs(), st.data())
def test_what_is_accepted_of_a_job_is_accepted_of_those_below_it(graph, data):
    name = data.draw(st.sampled_from(list(graph.jobs)))
    new = changed(graph, name, version=2, equivalents=(graph.fingerprints[name],))
    for each in graph.jobs:
        if each == name or each in graph.find_descendants(name):
            assert new.fingerprints[each] != graph.fingerprints[each]
            assert graph.fingerprints[each] in new.accepted[each]
        else:
            assert new.accepted[each] == (graph.fingerprints[each],)
        assert new.accepted[each][0] == new.fingerprints[each]
        assert len(set(new.accepted[each])) == len(new.accepted[each])


def test_without_equivalents_a_large_graph_costs_one_fingerprint_a_job(monkeypatch):
    count = 0
    compute = graph_module._compute_fingerprint

    def compute_and_count(*args):
        nonlocal count
        count += 1
        return compute(*args)

    monkeypatch.setattr(graph_module, "_compute_fingerprint", compute_and_count)
    chain = graph_of(*(job(f"j{i}", [f"j{i - 1}"] if i else []) for i in range(100)))
    assert len(chain.accepted) == count == 100


def test_a_change_below_makes_accepted_results_stale_all_the_same():
    old = graph_of(job("a", ()), job("b", ("a",)))
    new = graph_of(
        job("a", (), version=2, equivalents=(old.fingerprints["a"],)),
        job("b", ("a",), params={"x": 1}),
    )
    assert old.fingerprints["b"] not in new.accepted["b"]


def test_mixes_of_old_and_new_parents_are_accepted():
    def three(a: int, b: int) -> Graph:
        return graph_of(job("a", (), version=a), job("b", (), version=b), job("c", ("a", "b")))

    old = three(1, 1)
    new = three(2, 2)
    new = changed(new, "a", equivalents=(old.fingerprints["a"],))
    new = changed(new, "b", equivalents=(old.fingerprints["b"],))
    expected = {three(a, b).fingerprints["c"] for a in (1, 2) for b in (1, 2)}
    assert set(new.accepted["c"]) == expected
    assert new.accepted["c"][0] == new.fingerprints["c"]


def test_accepted_fingerprints_stay_few_and_keep_the_own_one():
    olds = tuple(f"{i:012x}" for i in range(40))
    roots = [job(n, (), equivalents=olds) for n in "abcd"]
    graph = graph_of(*roots, job("e", tuple("abcd")), job("f", ("e",)))
    for name in "ef":
        assert len(graph.accepted[name]) <= 258
        assert graph.fingerprints[name] == graph.accepted[name][0]


def test_a_graph_that_is_not_there_is_no_shipped_one_either(tmp_path):
    with pytest.raises(ConfigurationError, match=r"or a graph that ships .*: default, film, "):
        read_graph(str(tmp_path / "filn"))
