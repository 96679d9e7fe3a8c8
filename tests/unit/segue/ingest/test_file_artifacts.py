"""The artifacts of one file are found and removed, and none of any other file."""

from __future__ import annotations

import pytest

from segue.adapters.folder import FolderStore
from segue.errors import ConfigurationError
from segue.ingest.file_artifacts import (
    find_file_artifacts,
    list_known_folders,
    list_result_folders,
    remove_file_artifacts,
)
from segue.model.artifact import Lineage, build_artifact_name
from segue.model.graph import parse_graph
from segue.model.media_file import split_uri
from segue.model.record import Entry, Record, State
from segue_support.stream import NOW

URI = "gs://music/a.wav"
OTHERS = [
    "gs://music/a.wav/b.wav",  # its folder lies in that of a.wav
    "gs://music/a.wav/1",
    "gs://music/a.wa",
    "gs://music/b.wav",
    "gs://others/a.wav",  # of the same name, in another bucket
]
PRINTS = ["0" * 12, "1" * 12]


@pytest.fixture
def store(tmp_path):
    return FolderStore(str(tmp_path))


def write(store, uri: str, version: str = "5", *, job="job", made=PRINTS[0], lineage=True) -> str:
    name = build_artifact_name(job, made, split_uri(uri)[1], version, "json")
    described = Lineage(job=job, fingerprint=made, uri=uri, version=version).to_metadata()
    metadata = described if lineage else {}
    assert store.create(name, b"{}", content_type="application/json", metadata=metadata)
    return name


def list_names(store) -> list[str]:
    return sorted(found.name for found in store.list())


def test_all_versions_under_all_fingerprints_are_found(store):
    names = [write(store, URI, "5"), write(store, URI, "6"), write(store, URI, made=PRINTS[1])]
    names.append(write(store, URI, "7", job="other"))
    names.append(write(store, URI, "ab", lineage=False))
    folders = list(list_result_folders(store))
    assert folders == [f"job/{PRINTS[0]}/", f"job/{PRINTS[1]}/", f"other/{PRINTS[0]}/"]
    found = find_file_artifacts(store, URI, folders)
    assert sorted(one.name for one in found) == sorted(names)


def test_what_belongs_to_others_stays(store):
    write(store, URI, "5")
    others = [write(store, uri, str(number)) for number, uri in enumerate(OTHERS, start=10)]
    others.append(write(store, OTHERS[0], "20", lineage=False))
    store.create("_runs/1.json", b"{}", content_type="application/json", metadata={})
    store.create(f"job/{PRINTS[0]}/a.wav/notes", b"", content_type="text/plain", metadata={})
    assert remove_file_artifacts(store, URI, list_result_folders(store)) == 1
    assert list_names(store) == sorted([*others, "_runs/1.json", f"job/{PRINTS[0]}/a.wav/notes"])


@pytest.mark.parametrize("name", ["../../x.wav", "a//b.wav", "x" * 900, "%2e.wav", "."])
def test_a_name_that_is_quoted_finds_its_own_artifacts_only(store, name):
    uri = f"gs://music/{name}"
    write(store, uri)
    other = write(store, "gs://music/x.wav")
    assert remove_file_artifacts(store, uri, list_result_folders(store)) == 1
    assert list_names(store) == [other]


def test_the_folders_that_are_known_are_those_of_the_record_and_of_the_graph():
    graph = parse_graph(
        "jobs:\n  a: {run: 'm:f', needs: {m: source}, writes: application/json,"
        f" equivalents: ['{PRINTS[1]}']}}\n"
    )
    old = Entry(job="removed", state=State.DONE, order=1)
    record = Record(
        uri=URI,
        version="2",
        order=2,
        arrived_at=NOW,
        results={"2" * 12: old},
        earlier={"1": {"3" * 12: old}},
    )
    assert sorted(list_known_folders(graph, record)) == sorted(
        [
            f"removed/{'2' * 12}/",
            f"removed/{'3' * 12}/",
            f"a/{graph.fingerprints['a']}/",
            f"a/{PRINTS[1]}/",
        ]
    )


def test_what_may_not_be_removed_does_not_keep_the_rest(store, monkeypatch):
    kept, _ = write(store, URI), write(store, URI, made=PRINTS[1])
    delete = store.delete

    def forbid(name, **options):
        if name == kept:
            raise ConfigurationError("not for you")
        return delete(name, **options)

    monkeypatch.setattr(store, "delete", forbid)
    with pytest.raises(ConfigurationError, match="not for you"):
        remove_file_artifacts(store, URI, list_result_folders(store))
    assert list_names(store) == [kept]
