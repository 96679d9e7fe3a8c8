"""A graph that needs the jobs of other namespaces: what it is locked to is all that it knows."""

from __future__ import annotations

import pytest

from segue.errors import ConfigurationError
from segue.model.graph import (
    UNRESOLVED,
    GraphError,
    find_namespace,
    parse_graph,
    read_graph,
    read_references,
)
from segue.model.manifest import Lock, Manifest, PublishedJob, encode_manifest

OLD, NEW = "0123456789ab", "ba9876543210"
TEXT = """
namespace: moods
jobs:
  mood: {run: "m:f", needs: {audio: platform/downsample}, writes: application/json}
  hook: {run: "m:f", needs: {audio: platform/downsample, mood: mood}, writes: application/json}
  cover: {run: "m:f", needs: {media: source}, writes: image/png}
"""


def lock_to(fingerprint: str, *equivalents: str, on_arrival: bool = True) -> Lock:
    job = PublishedJob(
        fingerprint=fingerprint,
        equivalents=equivalents,
        writes="audio/flac",
        pipeline="downsample",
        on_arrival=on_arrival,
    )
    platform = Manifest(
        namespace="platform",
        ledger="sqlite:////p/ledger.db",
        queue="sqlite:////p/queue.db",
        artifacts="file:///p/artifacts",
        jobs={"downsample": job},
    )
    return Lock(namespaces={"platform": platform})


def test_the_jobs_of_others_are_parents_but_not_jobs_of_the_graph():
    graph = parse_graph(TEXT, lock=lock_to(OLD))
    assert list(graph.jobs) == ["mood", "cover", "hook"]
    assert graph.jobs["hook"].parents == ("platform/downsample", "mood")
    assert graph.children["platform/downsample"] == ("mood", "hook")
    assert graph.references == ("platform/downsample",)
    assert graph.foreign["platform/downsample"].fingerprint == OLD
    assert graph.find_foreign(["hook"]) == ("platform/downsample",)
    assert graph.find_foreign(["cover"]) == ()
    assert graph.add_ancestors(["hook"]) == ("mood", "hook")
    assert graph.find_content_type("platform/downsample") == "audio/flac"
    assert graph.find_content_type("cover") == "image/png"


def test_another_lock_changes_exactly_the_fingerprints_below():
    before, after = (parse_graph(TEXT, lock=lock_to(f)).fingerprints for f in (OLD, NEW))
    assert {job for job in before if before[job] != after[job]} == {"mood", "hook"}


def test_what_was_made_from_an_equivalent_parent_still_counts():
    before = parse_graph(TEXT, lock=lock_to(OLD))
    after = parse_graph(TEXT, lock=lock_to(NEW, OLD))
    for job in ("mood", "hook"):
        assert before.fingerprints[job] in after.accepted[job]
        assert before.fingerprints[job] != after.fingerprints[job]
    assert after.accepted["cover"] == (before.fingerprints["cover"],)


def test_the_address_of_a_parent_does_not_define_a_result():
    moved = lock_to(OLD)
    platform = moved.namespaces["platform"]
    there = Manifest(
        namespace="platform",
        ledger="firestore://elsewhere",
        queue="pubsub://elsewhere",
        artifacts="gs://elsewhere",
        jobs=platform.jobs,
    )
    graph = parse_graph(TEXT, lock=Lock(namespaces={"platform": there}))
    assert graph.fingerprints == parse_graph(TEXT, lock=moved).fingerprints


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TEXT, "'platform/downsample' is not in segue.lock; run 'segue lock'"),
        (TEXT.replace("platform/", "moods/"), "this graph's own namespace; write 'downsample'"),
        (TEXT.replace("platform/", "a/b/"), "or namespace/job of another team"),
        (TEXT.replace("writes: image/png", "writes: image/png, publish: 1"), "true or false"),
    ],
)
def test_a_reference_that_cannot_be_resolved_is_a_fault(text, expected):
    with pytest.raises(GraphError, match=expected):
        parse_graph(text)


def test_what_runs_on_arrival_needs_parents_that_do():
    late = TEXT.replace("needs: {media: source},", "needs: {media: source}, on_arrival: false,")
    below = f"{late}  text: {{run: 'm:f', needs: {{image: cover}}, writes: application/json}}\n"
    with pytest.raises(GraphError, match=r"jobs\.text: runs when a file arrives, but 'cover'"):
        parse_graph(below, lock=lock_to(OLD))
    with pytest.raises(GraphError, match=r"jobs\.mood: runs when a file arrives, but 'platform/do"):
        parse_graph(TEXT, lock=lock_to(OLD, on_arrival=False))
    assert not parse_graph(late, lock=lock_to(OLD)).jobs["cover"].on_arrival


def test_a_lock_is_read_from_the_folder_of_its_graph(tmp_path):
    path = tmp_path / "jobs.yaml"
    path.write_text(TEXT)
    assert read_references(str(path)) == ("platform/downsample",)
    assert read_graph(str(path), lock=UNRESOLVED).foreign == {}
    with pytest.raises(GraphError, match=r"segue\.lock"):
        read_graph(str(path))
    (tmp_path / "segue.lock").write_bytes(encode_manifest(lock_to(OLD)))
    assert read_graph(str(path)).foreign["platform/downsample"].fingerprint == OLD
    (tmp_path / "segue.lock").write_bytes(b"{")
    with pytest.raises(ConfigurationError, match=r"segue\.lock is not a lock .*'segue lock'"):
        read_graph(str(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("namespace: moods\njobs: {}\n", "moods"),
        ("# a graph\nnamespace: 'moods'  # ours\n", "moods"),
        ("jobs:\n  namespace: moods\n", "default"),
        ("namespace: Not A Name\n", "default"),
        ("", "default"),
    ],
)
def test_the_namespace_is_found_without_checking_the_graph(tmp_path, text, expected):
    path = tmp_path / "jobs.yaml"
    path.write_text(text)
    assert find_namespace(str(path)) == expected
    assert find_namespace(str(tmp_path / "none.yaml")) == "default"


def test_the_files_of_one_namespace_start_all_jobs():
    text = TEXT.replace("{media: source}", "{media: platform/source}")
    assert parse_graph(text, lock=lock_to(OLD)).source_namespace == "platform"
    more = f"{text}  text: {{run: 'm:f', needs: {{media: source}}, writes: application/json}}\n"
    with pytest.raises(GraphError, match="is source, and another input is platform/source"):
        parse_graph(more, lock=lock_to(OLD))
