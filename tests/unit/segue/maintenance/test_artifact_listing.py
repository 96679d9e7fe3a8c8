"""Artifacts are listed file by file, whatever other objects are among them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from segue.adapters.folder import FolderStore
from segue.maintenance.artifact_listing import list_by_file
from segue.model.artifact import build_artifact_name, quote_name

PRINTS = ["0123456789ab", "ba9876543210"]
PARTS = some.sampled_from(["a", "b", "a b", "é", "1.json", "…", "%"])
NAMES = some.lists(PARTS, min_size=1, max_size=3).map("/".join)


def put(store: FolderStore, name: str) -> None:
    store.create(name, b"", content_type="a/b", metadata={})


@given(some.sets(NAMES, min_size=1, max_size=8))
@settings(max_examples=25, deadline=None)
def test_all_artifacts_are_listed_by_their_files(tmp_path_factory, names):
    store = FolderStore(str(tmp_path_factory.mktemp("artifacts")))
    expected: dict[str, set[str]] = {}
    for name in names:
        for job in ("beats", "energy"):
            for fingerprint in PRINTS:
                made = build_artifact_name(job, fingerprint, name, 7, "json")
                put(store, made)
                expected.setdefault(quote_name(name), set()).add(made)
    found: dict[str, set[str]] = {}
    for file, artifacts in list_by_file(store):
        found.setdefault(file, set()).update(a.object.name for a in artifacts)
    assert found == expected


@pytest.mark.parametrize("stray", ["a.txt", "beats/a.txt", "beats/0123456789ab/a.txt", "z/y/x.txt"])
def test_other_objects_are_skipped(tmp_path, stray):
    store = FolderStore(str(tmp_path))
    name = build_artifact_name("energy", PRINTS[0], "song.flac", 7, "json")
    put(store, name)
    put(store, stray)
    assert [(f, [a.object.name for a in some]) for f, some in list_by_file(store)] == [
        ("song.flac", [name])
    ]


@pytest.mark.parametrize("folder", ["", "beats", f"energy/{PRINTS[0]}", f"energy/{PRINTS[0]}/a"])
@pytest.mark.parametrize("stray", [b"caf\xe9", b"\xff"])
def test_names_that_are_not_text_are_skipped(tmp_path, folder, stray):
    store = FolderStore(str(tmp_path))
    names = [
        build_artifact_name(job, PRINTS[0], "a.flac", 7, "json") for job in ("energy", "tempo")
    ]
    for name in names:
        put(store, name)
    place = os.path.join(os.fsencode(tmp_path), folder.encode(), stray)
    os.makedirs(place)
    with open(os.path.join(place, b"7.json"), "w"):
        pass
    assert [(f, [a.object.name for a in some]) for f, some in list_by_file(store)] == [
        ("a.flac", names)
    ]


def test_an_empty_store_has_no_files(tmp_path):
    assert list(list_by_file(FolderStore(str(tmp_path / "nothing")))) == []
