"""The models on this machine: what is there, what a bucket brings, and what is missing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from segue.adapters.connect import connect_store, open_models
from segue.errors import ConfigurationError, SegueError, Unavailable
from segue.model.graph import parse_graph, read_graph
from segue.model.model_entry import CONTENTS, ModelEntry
from segue.model.shipped_graphs import list_shipped_graphs
from segue.models.fetch import Origin, fetch_model
from segue.models.library import DamagedCopyError, ModelLibrary
from segue.worker.model_paths import check_models, find_model_paths

MODEL = b"a model" * 1000
ENTRY = ModelEntry(
    name="tiny",
    version=1,
    source="tiny.onnx",
    sha256=hashlib.sha256(MODEL).hexdigest(),
    licence_file="LICENSE",
)


@pytest.fixture
def entry(tmp_path):
    (tmp_path / "tiny.onnx").write_bytes(MODEL)
    (tmp_path / "LICENSE").write_bytes(b"do as you like")
    return replace(ENTRY, folder=str(tmp_path))


@pytest.fixture
def share(tmp_path):
    """What stands for the bucket."""
    return tmp_path / "bucket"


def machine(tmp_path, share, name: str) -> ModelLibrary:
    return ModelLibrary(folder=str(tmp_path / name), store=connect_store(str(share)))


def test_a_model_that_one_machine_gets_is_copied_to_the_others(entry, tmp_path, share):
    first, second = (machine(tmp_path, share, name) for name in ("first", "second"))
    assert not second.is_available(entry)
    assert fetch_model(entry, first).origin is Origin.SOURCE
    (tmp_path / "tiny.onnx").unlink()  # the second machine has no source
    assert second.is_available(entry)
    assert second.find(entry) is None  # until it is needed
    path = second.require(entry)
    assert path.startswith(second.folder)
    assert Path(path).read_bytes() == MODEL
    assert Path(second.find_licence(entry)).read_bytes() == b"do as you like"
    assert list(share.rglob("*.onnx"))  # and the bucket keeps it
    assert fetch_model(entry, machine(tmp_path, share, "third")).origin is Origin.STORE


def test_a_model_that_is_here_is_uploaded_to_a_bucket_that_lacks_it(entry, tmp_path, share):
    fetch_model(entry, open_models(str(tmp_path / "first")))
    assert fetch_model(entry, machine(tmp_path, share, "first")).origin is Origin.HERE
    assert machine(tmp_path, share, "second").is_available(entry)


def test_an_upload_that_was_cut_off_is_no_model(entry, tmp_path, share):
    fetch_model(entry, machine(tmp_path, share, "first"))
    (listed,) = share.rglob(CONTENTS)
    listed.unlink()
    second = machine(tmp_path, share, "second")
    assert not second.is_available(entry)
    with pytest.raises(ConfigurationError, match="'segue models get tiny@1'"):
        second.require(entry)


def test_what_the_bucket_has_in_place_of_a_file_is_not_used(entry, tmp_path, share):
    fetch_model(entry, machine(tmp_path, share, "first"))
    (stored,) = share.rglob("tiny.onnx")
    stored.write_bytes(MODEL[::-1])
    second = machine(tmp_path, share, "second")
    with pytest.raises(Unavailable, match=r"is not what its segue-model\.json says"):
        second.require(entry)
    assert second.find(entry) is None


def test_what_the_bucket_lists_cannot_leave_the_folder(entry, tmp_path, share):
    fetch_model(entry, machine(tmp_path, share, "first"))
    (listed,) = share.rglob(CONTENTS)
    contents = json.loads(listed.read_text())
    contents["files"]["../../../evil"] = contents["files"].pop("LICENCE")
    listed.write_text(json.dumps(contents))
    with pytest.raises(ConfigurationError, match="leads out of its folder"):
        machine(tmp_path, share, "second").require(entry)
    assert list(tmp_path.rglob("*evil*")) == []


@pytest.mark.parametrize("damage", [b"", b"{", b'{"files": 3}', b"\xff"])
def test_a_model_whose_list_is_damaged_is_missing(entry, tmp_path, damage):
    library = open_models(str(tmp_path / "models"))
    Path(fetch_model(entry, library).path).with_name(CONTENTS).write_bytes(damage)
    assert library.find(entry) is None
    assert fetch_model(entry, library).origin is Origin.SOURCE


def test_a_folder_of_caches_is_used_if_none_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert open_models().folder == str(tmp_path / "segue" / "models")


@pytest.mark.parametrize("damage", [None, MODEL[:-1], MODEL[::-1]])
def test_a_damaged_copy_in_the_bucket_is_replaced_from_the_source(entry, tmp_path, share, damage):
    fetch_model(entry, machine(tmp_path, share, "first"))
    (stored,) = share.rglob("tiny.onnx")
    stored.unlink()
    if damage is not None:
        stored.write_bytes(damage)
    second = machine(tmp_path, share, "second")
    with pytest.raises(DamagedCopyError, match="run 'segue models get tiny@1'"):
        second.require(entry)
    assert fetch_model(entry, second).origin is Origin.SOURCE
    third = machine(tmp_path, share, "third")
    assert Path(third.require(entry)).read_bytes() == MODEL


def test_another_store_is_no_folder():
    with pytest.raises(ConfigurationError, match="write gs://bucket/prefix or a folder"):
        open_models("s3://acme/models")


GRAPH = f"""
models:
  tiny@1: {{source: tiny.onnx, sha256: "{ENTRY.sha256}", licence_file: LICENSE}}
  other@3: {{source: other.onnx, sha256: "{ENTRY.sha256[::-1]}"}}
jobs:
  a:
    run: m:a
    needs: {{media: source}}
    writes: application/json
    params: {{model: tiny@1, second: other@3, text: tiny}}
  b: {{run: "m:b", needs: {{value: a}}, writes: application/json}}
"""


@pytest.fixture
def graph(entry, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return parse_graph(GRAPH, path=str(tmp_path / "jobs.yaml"))


def test_all_models_that_are_missing_are_named_with_the_command_to_type(graph):
    command = "'segue models get tiny@1 other@3'"
    with pytest.raises(ConfigurationError, match=command):
        check_models(graph, ["a", "b"])
    check_models(graph, ["b"])  # it runs without
    with pytest.raises(ConfigurationError, match="'segue models get tiny@1'"):
        find_model_paths(graph, "a")


def test_the_command_to_type_names_a_shipped_graph_by_its_name(graph, monkeypatch):
    shipped = read_graph(list_shipped_graphs()["melody"], {})
    with pytest.raises(ConfigurationError, match=r"basic_pitch@1 --graph melody'"):
        check_models(shipped, ["pitch", "notes"])
    monkeypatch.setenv("SEGUE_GRAPH", "melody")
    with pytest.raises(ConfigurationError, match=r"basic_pitch@1'"):
        check_models(shipped, ["pitch", "notes"])


def test_the_command_to_type_names_the_graph_unless_it_is_found_without(graph, monkeypatch):
    monkeypatch.chdir("/")
    command = f"'segue models get tiny@1 other@3 --graph {graph.path}'"
    with pytest.raises(ConfigurationError, match=command):
        check_models(graph, ["a"])
    monkeypatch.setenv("SEGUE_GRAPH", graph.path)
    with pytest.raises(ConfigurationError, match="'segue models get tiny@1 other@3'"):
        check_models(graph, ["a"])


def test_each_parameter_that_names_a_model_gets_its_path(graph, tmp_path):
    library = open_models(str(tmp_path / "models"))
    (tmp_path / "other.onnx").write_bytes(MODEL)
    listed = {**graph.models}
    del listed["other@3"]
    for entry in listed.values():
        fetch_model(entry, library)
    with pytest.raises(ConfigurationError, match="'segue models get other@3'"):
        check_models(graph, ["a"])
    text = GRAPH.replace(ENTRY.sha256[::-1], ENTRY.sha256)
    changed = parse_graph(text, path=str(tmp_path / "jobs.yaml"))
    fetch_model(changed.models["other@3"], library)
    check_models(changed, ["a"])
    paths = find_model_paths(changed, "a")
    assert [(n, Path(p).name) for n, p in paths.items()] == [
        ("model", "tiny.onnx"),
        ("second", "other.onnx"),
    ]
    assert find_model_paths(changed, "b") == {}


def test_a_copy_from_the_bucket_is_found_whatever_the_source_is_called_now(entry, tmp_path, share):
    fetch_model(entry, machine(tmp_path, share, "first"))
    second = machine(tmp_path, share, "second")
    path = second.require(replace(entry, source="https://acme.org/renamed.onnx"))
    assert Path(path).read_bytes() == MODEL
    assert second.find(entry) == path


def test_a_copy_from_the_bucket_must_have_the_checksum_of_the_graph(entry, tmp_path, share):
    fetch_model(entry, machine(tmp_path, share, "first"))
    other = MODEL[::-1]
    (stored,) = share.rglob("tiny.onnx")
    stored.write_bytes(other)
    (listed,) = share.rglob(CONTENTS)
    text = listed.read_text().replace(ENTRY.sha256, hashlib.sha256(other).hexdigest())
    listed.write_text(text)  # as whoever may write to the bucket can
    second = machine(tmp_path, share, "second")
    with pytest.raises(Unavailable, match="is not what its checksum says"):
        second.require(entry)
    assert second.find(entry) is None


@pytest.mark.parametrize("leaf", ["", "..", "missing.onnx"])
def test_a_copy_from_the_bucket_must_have_the_model_that_it_lists(entry, tmp_path, share, leaf):
    fetch_model(entry, machine(tmp_path, share, "first"))
    (listed,) = share.rglob(CONTENTS)
    listed.write_text(json.dumps({**json.loads(listed.read_text()), "leaf": leaf}))
    second = machine(tmp_path, share, "second")
    with pytest.raises(SegueError, match=r"leads out of its folder|is not what its checksum says"):
        second.require(entry)
    assert second.find(entry) is None
