"""Publishing: what others are locked to is not taken away, whoever publishes at the same time."""

from __future__ import annotations

import pytest

from segue.adapters.folder import FolderStore
from segue.errors import ConfigurationError, Contended
from segue.model.graph import parse_graph
from segue.model.manifest import Manifest, encode_manifest
from segue.model.settings import Settings
from segue.registry import publication
from segue.registry.publication import (
    build_manifest,
    find_pins,
    load_manifest,
    load_manifests,
    publish,
)

SETTINGS = Settings(ledger="firestore://platform", queue="pubsub://platform")
TEXT = """
namespace: platform
contact: platform@example.org
catalogue: gs://masters
artifacts: gs://platform-artifacts
jobs:
  downsample: {run: "m:f", needs: {media: source}, writes: audio/flac, publish: true}
  secret: {run: "m:f", needs: {audio: downsample}, writes: application/json}
"""


def build(text: str = TEXT) -> Manifest:
    return build_manifest(parse_graph(text), SETTINGS)


def version(number: int, *equivalents: str) -> Manifest:
    listed = ", ".join(f'"{e}"' for e in equivalents)
    more = f"publish: true, version: {number}, equivalents: [{listed}]"
    return build(TEXT.replace("publish: true", more))


def team(namespace: str, **pins: str) -> Manifest:
    return Manifest(
        namespace=namespace,
        contact=f"{namespace}@example.org",
        ledger="l",
        queue="q",
        artifacts="a",
        jobs={},
        pins={f"platform/{job}": fingerprint for job, fingerprint in pins.items()},
    )


@pytest.fixture
def registry(tmp_path):
    store = FolderStore(str(tmp_path))
    yield store
    store.close()


def test_a_manifest_names_what_is_published_and_nothing_else():
    manifest = build()
    assert list(manifest.jobs) == ["downsample"]
    assert manifest.jobs["downsample"].pipeline == "downsample"
    assert (manifest.ledger, manifest.artifacts) == (
        "firestore://platform",
        "gs://platform-artifacts",
    )
    assert manifest.pins == {}


def test_places_on_this_machine_do_not_depend_on_the_folder_of_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = parse_graph(TEXT.replace("gs://", ""))
    manifest = build_manifest(graph, Settings(ledger="sqlite:///l.db", queue="sqlite:///q.db"))
    assert manifest.ledger == f"sqlite:///{tmp_path}/l.db"
    assert manifest.queue == f"sqlite:///{tmp_path}/q.db"
    assert manifest.artifacts == f"file://{tmp_path}/platform-artifacts"
    assert manifest.catalogue == f"file://{tmp_path}/masters"


def test_the_same_manifest_is_written_once(registry):
    assert publish(registry, build()).is_changed
    generation = registry.stat("platform/manifest.json").generation
    assert not publish(registry, build()).is_changed
    assert registry.stat("platform/manifest.json").generation == generation
    assert load_manifests(registry) == {"platform": build()}
    assert load_manifest(registry, "moods") is None


def test_what_is_pinned_is_not_changed_or_removed_without_break(registry):
    publish(registry, build())
    own = build().jobs["downsample"].fingerprint
    publish(registry, team("moods", downsample=own))
    removed = build(TEXT.replace(", publish: true", ""))
    for manifest in (version(2), removed):
        with pytest.raises(ConfigurationError, match=rf"moods is locked to .*{own}.*moods@example"):
            publish(registry, manifest)
        assert load_manifest(registry, "platform") == build()
    broken = publish(registry, version(2), break_pins=True).broken
    assert [(b.namespace, b.job, b.fingerprint) for b in broken] == [("moods", "downsample", own)]
    assert load_manifest(registry, "platform") == version(2)


def test_an_equivalent_keeps_what_is_pinned(registry):
    publish(registry, build())
    own = build().jobs["downsample"].fingerprint
    publish(registry, team("moods", downsample=own))
    assert publish(registry, version(2, own)).broken == ()


def test_gc_keeps_what_others_pin(registry, tmp_path):
    publish(registry, team("moods", downsample="aaaaaaaaaaaa"))
    publish(registry, team("charts", downsample="bbbbbbbbbbbb", beats="cccccccccccc"))
    pinned = {"aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"}
    assert find_pins(str(tmp_path), "platform") == pinned
    assert find_pins(str(tmp_path), "moods") == frozenset()
    assert find_pins(None, "platform") == frozenset()


def test_of_two_publications_at_a_time_one_fails(registry, monkeypatch):
    publish(registry, build())
    compare = publication.compare_publication

    def compare_slowly(*arguments):
        found = compare(*arguments)
        monkeypatch.setattr(publication, "compare_publication", compare)
        publish(registry, version(3))  # somebody else is faster
        return found

    monkeypatch.setattr(publication, "compare_publication", compare_slowly)
    with pytest.raises(Contended, match="somebody else has just published"):
        publish(registry, version(2))
    assert load_manifest(registry, "platform") == version(3)


def test_a_manifest_under_the_name_of_another_namespace_is_refused(registry):
    registry.create("moods/manifest.json", encode_manifest(build()), content_type="", metadata={})
    with pytest.raises(ConfigurationError, match="is the manifest of 'platform'; publish 'moods'"):
        load_manifests(registry)


def test_other_objects_in_a_registry_are_ignored(registry):
    for name in ("README.md", "platform/notes.txt", "platform/old/manifest.json"):
        registry.create(name, b"{}", content_type="", metadata={})
    assert load_manifests(registry) == {}
