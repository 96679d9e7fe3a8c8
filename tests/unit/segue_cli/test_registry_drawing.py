"""What all teams have published, as tree, DOT, Mermaid and JSON."""

from __future__ import annotations

import re

from segue.model.manifest import Manifest, PublishedJob
from segue_cli.registry_drawing import (
    build_registry_document,
    draw_registry_dot,
    draw_registry_mermaid,
    list_pins,
    walk_registry,
)


def job(fingerprint: str, *equivalents: str) -> PublishedJob:
    return PublishedJob(
        fingerprint=fingerprint * 12,
        equivalents=tuple(e * 12 for e in equivalents),
        writes="audio/flac",
        pipeline="main",
        owner='a "b" <c>',
    )


def manifest(namespace: str, jobs: dict[str, PublishedJob], **pins: str) -> Manifest:
    return Manifest(
        namespace=namespace,
        ledger=f"sqlite:////{namespace}/ledger.db",
        queue=f"sqlite:////{namespace}/queue.db",
        artifacts=f"file:///{namespace}",
        jobs=jobs,
        pins={name.replace("__", "/"): fingerprint * 12 for name, fingerprint in pins.items()},
    )


MANIFESTS = {
    one.namespace: one
    for one in (
        manifest("platform", {"downsample": job("b", "a"), "mel": job("c")}),
        manifest("rhythm", {"beats": job("d")}, platform__downsample="b"),
        manifest("old-moods", {}, platform__downsample="a", platform__mel="0", gone__x="1"),
    )
}
PINS = {
    ("platform/downsample", "rhythm"): "current",
    ("platform/downsample", "old-moods"): "equivalent",
    ("platform/mel", "old-moods"): "broken",
    ("gone/x", "old-moods"): "broken",
}


def test_each_pin_is_compared_with_what_is_published():
    assert {(pin.job, pin.namespace): pin.standing for pin in list_pins(MANIFESTS)} == PINS


def test_the_tree_has_namespaces_with_their_jobs_and_whoever_is_locked_to_them():
    lines = [f"{row.guide}{row.name}" for row in walk_registry(MANIFESTS)]
    assert lines == [
        "old-moods",
        "platform",
        "├─ downsample",
        "│  ├─ old-moods",
        "│  └─ rhythm",
        "└─ mel",
        "   └─ old-moods",
        "rhythm",
        "└─ beats",
        "gone",
        "└─ x",
        "   └─ old-moods",
    ]


def test_dot_has_a_cluster_for_each_namespace_at_whose_border_edges_end():
    text = draw_registry_dot(MANIFESTS)
    clusters = dict(re.findall(r'  subgraph "(cluster_[\w-]+)" \{\n    label="([^"]+)"', text))
    assert clusters == {
        "cluster_old-moods": "old-moods",
        "cluster_platform": "platform",
        "cluster_rhythm": "rhythm",
        "cluster_gone": "gone (not in the registry)",
    }
    edges = re.findall(r'  "([\w/]+)" -> "[\w/-]*" \[lhead="cluster_([\w-]+)"(.*)\]', text)
    assert {(name, namespace): "dashed" in more for name, namespace, more in edges} == {
        pin: standing != "current" for pin, standing in PINS.items()
    }
    assert 'label="equivalent: aaaaaaaaaaaa"' in text
    assert r"a \"b\" <c>" in text


def test_mermaid_has_a_subgraph_for_each_namespace_with_jobs():
    text = draw_registry_mermaid(MANIFESTS)
    names = dict(re.findall(r'  subgraph (ns\d)\["([^"]+)"\]', text))
    assert list(names.values()) == ["platform", "rhythm", "gone #40;not in the registry#41;"]
    names |= dict(re.findall(r'^  (ns\d)\["([^"]+)"\]', text, re.MULTILINE))
    edges = re.findall(r'  (ns\d)_(\w+) (?:-->|-\. "(\w+): \w+" \.->) (ns\d)', text)
    found = {
        (f"{names[above].split()[0]}/{name}", names[below]): standing or "current"
        for above, name, standing, below in edges
    }
    assert found == PINS


def test_json_has_everything_that_is_published():
    found = build_registry_document(MANIFESTS, "gs://acme-registry")
    assert found["registry"] == "gs://acme-registry"
    assert list(found["namespaces"]) == ["old-moods", "platform", "rhythm"]
    assert found["namespaces"]["platform"]["jobs"]["downsample"]["equivalents"] == ("a" * 12,)
    assert {(e["job"], e["namespace"]): e["standing"] for e in found["edges"]} == PINS
