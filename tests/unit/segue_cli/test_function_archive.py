"""A function's archive: what is in it, and that it is always the same."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest

from segue.errors import ConfigurationError
from segue.model.manifest import Lock, Manifest, PublishedJob, encode_manifest
from segue.model.settings import Settings
from segue_cli.function_archive import (
    FUNCTIONS,
    build_archive,
    compile_graph,
)
from segue_cli.segue_sources import describe_tree
from segue_support.paths import ROOT

GRAPH = """
catalogue: ${SEGUE_CATALOGUE}
artifacts: ${SEGUE_ARTIFACTS}
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
"""


@pytest.fixture
def settings(tmp_path, monkeypatch) -> Settings:
    for name in ("SEGUE_CATALOGUE", "SEGUE_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    return Settings(graph=str(tmp_path / "jobs.yaml"))


def copied(to: Path, *, order: int) -> str:
    """The source tree somewhere else, written in another order, at another time, with another
    mask.
    """
    mask = os.umask(0o077 if order < 0 else 0o002)
    try:
        for name in sorted(ROOT.glob("functions/**/*.py"), reverse=order < 0) + sorted(
            ROOT.glob("shared/**/*.py"), reverse=order < 0
        ):
            target = to / name.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, target)
            os.utime(target, (1e9 + order, 1e9 + order))
        (to / "locks").mkdir()
        shutil.copyfile(ROOT / "locks/functions.txt", to / "locks/functions.txt")
    finally:
        os.umask(mask)
    return str(to)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_same_tree_gives_the_same_bytes(function, settings, tmp_path, monkeypatch):
    made = []
    for order, zone in ((1, "Asia/Kathmandu"), (-1, "America/Los_Angeles")):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        root = copied(tmp_path / zone, order=order)
        path = tmp_path / f"{order}.zip"
        build_archive(function, settings, sources=describe_tree(root)).write(str(path))
        made.append(path.read_bytes())
    monkeypatch.undo()
    time.tzset()
    assert made[0] == made[1]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_archive_has_what_its_function_imports_and_no_other_function(function, settings):
    files = build_archive(function, settings).files
    others = {f"segue_functions/{name}.py" for name in (*FUNCTIONS, "server") if name != function}
    assert f"segue_functions/{function}.py" in files
    assert others.isdisjoint(files)
    assert not any(name.startswith(("segue_pipelines/", "segue/testing/")) for name in files)
    rooms = {"segue_functions", "segue"}
    modules = {n.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for n in files}
    for name, source in files.items():
        if not name.endswith(".py"):
            continue
        for node in ast.parse(source).body:  # what is imported at once
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in rooms:
                assert node.module in modules, name


def test_main_names_the_handler_for_the_framework_to_find(settings):
    main = build_archive("arrival", settings).files["main.py"].decode()
    assert "from segue_functions.arrival import arrival\n" in main
    assert 'warm("ledger", "queue")' in main


def test_requirements_are_the_lock_and_the_graph_is_the_users(settings):
    files = build_archive("arrival", settings).files
    assert files["requirements.txt"] == (ROOT / "locks/functions.txt").read_bytes()
    assert files["jobs.yaml"].decode() == GRAPH


def test_a_change_of_what_no_function_imports_changes_no_archive(settings, tmp_path):
    root = copied(tmp_path / "tree", order=1)
    before = build_archive("arrival", settings, sources=describe_tree(root)).files
    for name in (
        "shared/segue/execution/executor.py",
        "shared/segue/worker/pool.py",
        "functions/segue_functions/request.py",
    ):
        (Path(root) / name).write_text("x = 1\n")
    assert build_archive("arrival", settings, sources=describe_tree(root)).files == before
    (Path(root) / "shared/segue/model/ledger.py").write_text("x = 1\n")
    assert build_archive("arrival", settings, sources=describe_tree(root)).files != before


def test_files_in_an_archive_can_be_read_by_anybody_and_have_no_times(settings, tmp_path):
    path = tmp_path / "arrival.zip"
    build_archive("arrival", settings).write(str(path))
    with zipfile.ZipFile(path) as file:
        entries = file.infolist()
        assert file.testzip() is None
    assert [e.filename for e in entries] == sorted(e.filename for e in entries)
    assert {e.date_time for e in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {e.external_attr >> 16 for e in entries} == {0o100644}
    assert {e.compress_type for e in entries} == {zipfile.ZIP_STORED}


def test_the_warmed_parts_are_those_that_the_stack_knows():
    assert {part for parts in FUNCTIONS.values() for part in parts} <= {
        "ledger",
        "queue",
        "artifacts",
    }


def test_a_graph_with_faults_is_not_packaged(settings, tmp_path):
    (tmp_path / "jobs.yaml").write_text("jobs: {}")
    with pytest.raises(ConfigurationError, match="write at least one job"):
        build_archive("arrival", settings)


def test_the_compiled_graph_has_what_terraform_needs_of_each_job_and_pipeline(settings, tmp_path):
    (tmp_path / "jobs.yaml").write_text(
        "pipelines: {light: [a, d]}\n"
        "jobs:\n"
        "  b: {run: 'm:f', needs: {x: a, y: source, z: a}, writes: application/json, owner: Café}\n"
        "  a: {run: 'm:f', needs: {x: source}, writes: application/json,"
        " resources: {memory_gib: 7, gpu: nvidia-l4}}\n"
        "  c: {run: 'm:f', needs: {x: source}, writes: application/json, secrets:"
        " {y: 'env:KEY', z: projects/acme/secrets/z/versions/2,"
        " u: projects/acme/secrets/z/versions/latest}}\n"
        "  d: {run: 'm:f', needs: {x: b}, writes: application/json}\n"
    )
    compiled = json.loads(compile_graph(settings))
    graph = (tmp_path / "jobs.yaml").read_bytes()
    plain = {
        "parents": [],
        "reads_source": True,
        "owner": "",
        "memory_gib": 2,
        "gpu": "none",
        "secrets": [],
    }
    assert compiled == {
        "format": 4,
        "sha256": hashlib.sha256(graph).hexdigest(),
        "lock_sha256": None,
        "jobs": {
            "a": {**plain, "memory_gib": 7, "gpu": "nvidia-l4"},
            "c": {**plain, "secrets": ["projects/acme/secrets/z"]},
            "b": {**plain, "parents": ["a"], "owner": "Café"},
            "d": {**plain, "parents": ["b"], "reads_source": False},
        },
        "pipelines": {
            "light": {
                "jobs": ["a", "d"],
                "reads": ["light.source", "light.done-b", "light.inbox"],
                "publishes": ["done-a", "done-b", "inbox-light", "inbox-b", "dead"],
            },
            "c": {
                "jobs": ["c"],
                "reads": ["c.source", "c.inbox"],
                "publishes": ["inbox-c", "dead"],
            },
            "b": {
                "jobs": ["b"],
                "reads": ["b.done-a", "b.source", "b.inbox"],
                "publishes": ["done-b", "inbox-light", "inbox-b", "dead"],
            },
        },
        "topics": ["source", "done-a", "done-b", "inbox-light", "inbox-c", "inbox-b", "dead"],
        "deletion_topics": [],
        "subscriptions": {
            "light.source": {"topic": "source", "queue": None},
            "light.done-b": {"topic": "done-b", "queue": None},
            "light.inbox": {"topic": "inbox-light", "queue": None},
            "c.source": {"topic": "source", "queue": None},
            "c.inbox": {"topic": "inbox-c", "queue": None},
            "b.done-a": {"topic": "done-a", "queue": None},
            "b.source": {"topic": "source", "queue": None},
            "b.inbox": {"topic": "inbox-b", "queue": None},
            "dead": {"topic": "dead", "queue": None},
        },
    }


LOCKED = Manifest(
    namespace="platform",
    ledger="firestore://acme-platform/segue",
    queue="pubsub://acme-platform/segue",
    artifacts="gs://acme-platform-artifacts",
    jobs={"a": PublishedJob(fingerprint="0123456789ab", writes="audio/flac", pipeline="a")},
)


def test_the_lock_is_deployed_with_a_graph_that_needs_other_namespaces(settings, tmp_path):
    lock = encode_manifest(Lock(namespaces={"platform": LOCKED}))
    (tmp_path / "segue.lock").write_bytes(lock)
    assert "segue.lock" not in build_archive("arrival", settings).files  # nothing is read from it
    assert json.loads(compile_graph(settings))["lock_sha256"] is None
    graph = GRAPH.replace("media: source", "audio: platform/a")
    (tmp_path / "jobs.yaml").write_text(graph)
    for function in FUNCTIONS:
        assert build_archive(function, settings).files["segue.lock"] == lock
    compiled = json.loads(compile_graph(settings))
    assert compiled["lock_sha256"] == hashlib.sha256(lock).hexdigest()
    assert compiled["jobs"]["a"]["parents"] == ["platform/a"]
    assert compiled["pipelines"]["a"]["reads"] == ["a.platform.done-a", "a.inbox"]
    assert compiled["topics"] == ["source", "inbox-a", "dead"]  # none of another namespace
    (tmp_path / "jobs.yaml").write_text(
        GRAPH.replace("media: source}", "media: source}, publish: true")
    )
    assert json.loads(compile_graph(settings))["deletion_topics"] == ["source", "done-a"]
    assert compiled["subscriptions"]["a.platform.done-a"] == {
        "topic": "done-a",
        "queue": "pubsub://acme-platform/segue",
    }


def test_the_compiled_graph_is_the_same_everywhere_and_holds_no_secret(
    settings, tmp_path, monkeypatch
):
    graph = GRAPH.replace("application/json}", "application/json, params: {key: '${KEY}'}}")
    compiled = set()
    for place in ("one", "two"):
        monkeypatch.setenv("KEY", f"hunter of {place}")
        (tmp_path / place).mkdir()
        (tmp_path / place / "jobs.yaml").write_text(graph)
        compiled.add(compile_graph(Settings(graph=str(tmp_path / place / "jobs.yaml"))))
    (text,) = compiled
    assert b"hunter" not in text
    assert str(tmp_path).encode() not in text


def test_an_unknown_function_is_refused_with_the_known_ones(settings):
    with pytest.raises(ConfigurationError, match="arrival, deletion, sweep, request"):
        build_archive("upload", settings)
