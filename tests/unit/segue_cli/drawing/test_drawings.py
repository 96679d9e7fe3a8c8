"""The graph as SVG, Mermaid and tree says the same as the graph."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from segue.model.graph import parse_graph
from segue_cli.drawing.document import build_document
from segue_cli.drawing.mermaid import draw_mermaid
from segue_cli.drawing.svg import draw_svg
from segue_cli.drawing.tree import walk_tree

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
SPACE = {"svg": "http://www.w3.org/2000/svg"}
NODE = re.compile(r'  job_(\w+)(?:\["|\(\[")([^"]*)(?:"\]|"\]\)):::(\w+)')
EDGE = re.compile(r'  job_(\w+) -- "([^"]*)" --> job_(\w+)')


@pytest.fixture(scope="module")
def drawing() -> ET.Element:
    return ET.fromstring(draw_svg(GRAPH))


def test_the_picture_has_each_job_with_its_name_kind_and_fingerprint(drawing):
    boxes = {
        group.find("svg:text", SPACE).text: [t.text for t in group.findall("svg:text", SPACE)]
        for group in drawing.findall("svg:g", SPACE)
    }
    assert set(boxes) == {"source", *GRAPH.jobs}
    assert boxes["graph"] == ["graph", "parquet · v12", GRAPH.fingerprints["graph"]]
    assert boxes["end"][1] == 'audio/flac · v1 · a "b" <c> & #d; | [e]'
    titles = [g.find("svg:title", SPACE).text for g in drawing.findall("svg:g", SPACE)]
    assert "<script>&" in titles


def test_the_picture_has_each_edge_once(drawing):
    titles = [
        path.find("svg:title", SPACE).text
        for path in drawing.findall("svg:path", SPACE)
        if path.get("class") == "edge"
    ]
    assert sorted(titles) == sorted(
        [
            "end reads source as media",
            "class reads source as media",
            "graph reads end as x",
            "graph reads class as y",
            "last reads end as x, y",
            "last reads graph as z",
        ]
    )


def test_the_picture_is_the_same_each_time_and_needs_nothing_else():
    text = draw_svg(GRAPH)
    assert text == draw_svg(GRAPH)
    assert "href" not in text
    assert "<script" not in text
    assert re.findall(r"https?://[^\"]*", text) == ["http://www.w3.org/2000/svg"]


def test_the_picture_has_colours_for_light_and_for_dark_pages(drawing):
    style = drawing.find("svg:style", SPACE).text
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    classes = set(re.findall(r"\.[\w .]+(?= \{ (?:fill|stroke))", dark))
    assert classes
    assert all(c in light for c in classes)


def test_labels_stay_in_their_boxes(drawing):
    widest = 6.0  # px a character, in a wide sans-serif at these sizes; names are larger
    for group in drawing.findall("svg:g", SPACE):
        box = group.find("svg:rect", SPACE)
        for text in group.findall("svg:text", SPACE):
            if text.get("class") == "detail":
                end = float(text.get("x")) + widest * len(text.text)
                assert end <= float(box.get("x")) + float(box.get("width"))


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
