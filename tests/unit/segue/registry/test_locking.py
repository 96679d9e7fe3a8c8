"""Locking: a parent's change reaches a graph when it is locked again, and not before."""

from __future__ import annotations

import pytest

from segue.adapters.folder import FolderStore
from segue.errors import ConfigurationError
from segue.model.graph import parse_graph, read_graph
from segue.model.settings import Settings
from segue.registry.locking import compare_lock
from segue.registry.publication import build_manifest, publish

PLATFORM = """
namespace: platform
contact: platform@example.org
artifacts: gs://platform-artifacts
jobs:
  downsample: {run: "m:f", needs: {media: source}, writes: audio/flac, publish: true, version: 1}
  stems: {run: "m:f", needs: {media: source}, writes: audio/flac, publish: true}
  secret: {run: "m:f", needs: {media: source}, writes: audio/flac}
"""
MOODS = """
namespace: moods
jobs:
  mood: {run: "m:f", needs: {audio: platform/downsample}, writes: application/json}
"""
SETTINGS = Settings(ledger="firestore://platform", queue="pubsub://platform")


@pytest.fixture
def registry(tmp_path):
    store = FolderStore(str(tmp_path / "registry"))
    yield store
    store.close()


@pytest.fixture
def moods(tmp_path):
    path = tmp_path / "jobs.yaml"
    path.write_text(MOODS)
    return path


def publish_platform(registry, number: int = 1) -> str:
    graph = parse_graph(PLATFORM.replace("version: 1", f"version: {number}"))
    publish(registry, build_manifest(graph, SETTINGS), break_pins=True)
    return graph.fingerprints["downsample"]


def test_a_lock_has_what_is_used_and_nothing_else(registry, moods):
    fingerprint = publish_platform(registry)
    comparison = compare_lock(str(moods), registry)
    assert not comparison.is_current
    (change,) = comparison.changes
    assert (change.reference, change.before, change.after) == (
        "platform/downsample",
        None,
        fingerprint,
    )
    comparison.write()
    assert compare_lock(str(moods), registry).is_current
    locked = read_graph(str(moods)).imports["platform"]
    assert list(locked.jobs) == ["downsample"]
    assert locked.ledger == "firestore://platform"


def test_nothing_changes_until_the_graph_is_locked_again(registry, moods):
    publish_platform(registry)
    compare_lock(str(moods), registry).write()
    before = read_graph(str(moods)).fingerprints
    newer = publish_platform(registry, 2)
    assert read_graph(str(moods)).fingerprints == before
    comparison = compare_lock(str(moods), registry)
    assert [c.after for c in comparison.changes] == [newer]
    comparison.write()
    assert read_graph(str(moods)).fingerprints != before


def test_a_parent_that_only_moves_is_locked_again_without_a_change_of_results(registry, moods):
    publish_platform(registry)
    compare_lock(str(moods), registry).write()
    moved = Settings(ledger="firestore://new", queue="pubsub://new")
    publish(registry, build_manifest(parse_graph(PLATFORM), moved))
    comparison = compare_lock(str(moods), registry)
    assert not comparison.is_current
    assert comparison.changes == ()


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("platform/downsampel", "does not publish a job 'downsampel'.*'downsample'"),
        ("platform/secret", "does not publish a job 'secret'.*ask platform@example.org"),
        ("plattform/downsample", "no namespace 'plattform' is in the registry.*'platform'"),
    ],
)
def test_a_job_that_is_not_published_is_named_with_a_remedy(registry, moods, reference, expected):
    publish_platform(registry)
    moods.write_text(MOODS.replace("platform/downsample", reference))
    with pytest.raises(ConfigurationError, match=expected):
        compare_lock(str(moods), registry)
    assert not (moods.parent / "segue.lock").exists()


def test_without_a_registry_a_graph_that_needs_one_says_so(moods):
    with pytest.raises(ConfigurationError, match="needs platform/downsample, and no registry"):
        compare_lock(str(moods), None)


def test_a_graph_that_needs_nothing_of_others_has_no_lock(registry, moods):
    publish_platform(registry)
    compare_lock(str(moods), registry).write()
    moods.write_text(MOODS.replace("platform/downsample", "source"))
    comparison = compare_lock(str(moods), None)
    assert [(c.reference, c.after) for c in comparison.changes] == [("platform/downsample", None)]
    comparison.write()
    assert not (moods.parent / "segue.lock").exists()
    assert compare_lock(str(moods), None).is_current
