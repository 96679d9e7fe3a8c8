"""The graph as DOT, Mermaid and tree says the same as the graph."""

from __future__ import annotations

import ast
import re

from segue.model.graph import parse_graph
from segue_cli.drawing import build_document, draw_dot, draw_mermaid, walk_tree

GRAPH = parse_graph(
    """
jobs:
  end: {run: "m:f", needs: {media: source}, writes: audio/flac, owner: 'a "b" <c> & #d; | [e]'}
  class: {run: "m:f", needs: {media: source}, writes: image/png, description: '<script>&'}
  graph:
    run: m:f
    needs: {x: end, y: class}
    writes: application/vnd.apache.parquet
    version: 12
  last: {run: "m:f", needs: {x: end, y: end, z: graph}, writes: application/json}
"""
)
EDGES = {
    ("source", "end"),
    ("source", "class"),
    ("end", "graph"),
    ("class", "graph"),
    ("end", "last"),
    ("graph", "last"),
}
NODE = re.compile(r'  job_(\w+)(?:\["|\(\[")([^"]*)(?:"\]|"\]\)):::(\w+)')
EDGE = re.compile(r'  job_(\w+) -- "([^"]*)" --> job_(\w+)')


def read_dot(text: str) -> tuple[dict[str, str], set[tuple[str, str, str]]]:
    """The labels of the nodes, and the edges with their labels."""
    nodes, edges = {}, set()
    for line in text.splitlines()[3:-1]:
        words = [ast.literal_eval(word) for word in re.findall(r'"(?:[^"\\]|\\.)*"', line)]
        if " -> " in line:
            edges.add(tuple(words))
        else:
            nodes[words[0]] = words[-1]
    return nodes, edges


def test_dot_has_each_job_with_its_kind_version_owner_and_fingerprint():
    text = draw_dot(GRAPH)
    assert text.startswith("digraph segue {\n")
    assert text.endswith("\n}\n")
    nodes, _ = read_dot(text)
    assert set(nodes) == {"source", *GRAPH.jobs}
    assert nodes["graph"].splitlines() == ["graph", "parquet · v12", GRAPH.fingerprints["graph"]]
    assert nodes["end"].splitlines()[1] == 'audio/flac · v1 · a "b" <c> &amp; #d; | [e]'


def test_dot_has_each_edge_once_with_the_inputs_that_it_provides():
    _, edges = read_dot(draw_dot(GRAPH))
    assert edges == {
        ("source", "end", "media"),
        ("source", "class", "media"),
        ("end", "graph", "x"),
        ("class", "graph", "y"),
        ("end", "last", "x, y"),
        ("graph", "last", "z"),
    }


def test_mermaid_names_each_job_and_edge_with_words_that_mean_nothing_to_it():
    lines = draw_mermaid(GRAPH).splitlines()
    assert lines[0] == "flowchart LR"
    nodes = [NODE.fullmatch(line) for line in lines if ":::" in line]
    assert {n.group(1) for n in nodes} == {"source", *GRAPH.jobs}
    edges = [EDGE.fullmatch(line) for line in lines if "-->" in line]
    assert {(e.group(1), e.group(3)) for e in edges} == EDGES
    classes = {line.split()[1] for line in lines if "classDef" in line}
    assert {n.group(3) for n in nodes} <= classes


def test_mermaid_labels_hold_nothing_that_could_end_them():
    (label,) = [
        m.group(2)
        for m in map(NODE.fullmatch, draw_mermaid(GRAPH).splitlines())
        if m and m[1] == "end"
    ]
    owner = label.split("<br/>")[1]
    assert not set('"<>[]|&') & set(owner)
    restored = re.sub(r"#(\d+);", lambda m: chr(int(m[1])), owner)
    assert restored == 'audio/flac · v1 · a "b" <c> & #d; | [e]'


def test_the_tree_shows_each_job_once_and_refers_to_it_elsewhere():
    lines = [(b.guide, b.name, b.again) for b in walk_tree(GRAPH)]
    assert lines == [
        ("", "source", False),
        ("├─ ", "end", False),
        ("│  ├─ ", "graph", False),
        ("│  │  └─ ", "last", False),
        ("│  └─ ", "last", True),
        ("└─ ", "class", False),
        ("   └─ ", "graph", True),
    ]


def test_the_document_tells_parents_children_and_fingerprints():
    jobs = {job["name"]: job for job in build_document(GRAPH)["jobs"]}
    pairs = {(parent, name) for name, job in jobs.items() for parent in job["parents"]}
    assert pairs == {(a, b) for a, b in EDGES if a != "source"}
    assert pairs == {(name, child) for name, job in jobs.items() for child in job["children"]}
    assert {n: j["fingerprint"] for n, j in jobs.items()} == dict(GRAPH.fingerprints)


GROUPED = parse_graph(
    """
namespace: moods
pipelines: {end: [end, graph], light: [last]}
jobs:
  end: {run: "m:f", needs: {media: source}, writes: audio/flac}
  class: {run: "m:f", needs: {media: source}, writes: image/png}
  graph: {run: "m:f", needs: {x: end}, writes: application/json}
  last: {run: "m:f", needs: {x: graph}, writes: application/json}
"""
)


def test_the_document_tells_namespace_and_pipelines():
    document = build_document(GROUPED)
    assert document["namespace"] == "moods"
    assert document["pipelines"] == {"end": ["end", "graph"], "light": ["last"], "class": ["class"]}
    subscriptions = {one["name"]: (one["topic"], one["queue"]) for one in document["subscriptions"]}
    assert subscriptions["light.done-graph"] == ("done-graph", None)
    pipelines = {job["name"]: job["pipeline"] for job in document["jobs"]}
    assert pipelines == {"end": "end", "graph": "end", "last": "light", "class": "class"}


def test_the_document_does_not_tell_where_secrets_are():
    document = build_document(
        parse_graph(
            "jobs: {words: {run: 'm:f', needs: {media: source}, writes: application/json, "
            "secrets: {api_key: 'env:SPEECH_KEY'}}}"
        )
    )
    assert document["jobs"][0]["secrets"] == ["api_key"]
    assert "SPEECH_KEY" not in str(document)


def test_mermaid_and_dot_frame_each_group_of_jobs_and_no_other_job():
    text = draw_mermaid(GROUPED)
    frames = re.findall(r'  subgraph (\w+)\["(\w+)"\]\n((?:    .*\n)+)  end\n', text)
    assert [(id_, name, jobs.split()) for id_, name, jobs in frames] == [
        ("pipeline_end", "end", ["job_end", "job_graph"]),
        ("pipeline_light", "light", ["job_last"]),
    ]
    clusters = [line for line in draw_dot(GROUPED).splitlines() if "cluster" in line]
    assert clusters == [
        '  subgraph "cluster_end" { label="end"; "end"; "graph" }',
        '  subgraph "cluster_light" { label="light"; "last" }',
    ]
    assert "subgraph" not in draw_mermaid(GRAPH) + draw_dot(GRAPH)


def test_no_picture_obeys_what_a_job_says():
    graph = parse_graph(
        r"""
jobs:
  a:
    run: m:f
    needs: {media: source}
    writes: audio/flac
    owner: "\e]0;owned\a\x9b31m\u202e&#27;\nnext"
"""
    )
    for text in (draw_mermaid(graph), draw_dot(graph)):
        assert all(line.isprintable() for line in text.split("\n"))
        assert "&#27;" not in text
        assert "owned" in text
        assert "next" in text
