"""Archives as Cloud Functions gets them: installed in a clean environment, and sent an event."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger, connect_queue
from segue.model.graph import parse_graph
from segue.model.manifest import LOCK_FILE, Lock, Manifest, PublishedJob, encode_manifest
from segue.model.media_file import MediaFile
from segue.model.message import decode_message
from segue.model.queue import list_subscriptions, list_topics
from segue_cli.function_archive import FUNCTIONS
from segue_support import emulators
from segue_support.cloud_events import build_object_event, to_binary
from segue_support.environments import find_uv

GRAPH = """
catalogue: ${SEGUE_CATALOGUE}
artifacts: ${SEGUE_ARTIFACTS}
jobs:
  a: {run: "m:f", needs: {media: source}, writes: application/json}
  b: {run: "m:f", needs: {x: a, y: platform/stems}, writes: application/json}
"""
LOCK = Lock(
    namespaces={
        "platform": Manifest(
            namespace="platform",
            ledger="firestore://acme-platform/segue",
            queue="pubsub://acme-platform/segue",
            artifacts="gs://acme-platform-artifacts",
            jobs={
                "stems": PublishedJob(
                    fingerprint="0123456789ab", writes="audio/flac", pipeline="stems"
                )
            },
        )
    }
)
PLACES = {"SEGUE_CATALOGUE": "gs://acme-audio/masters", "SEGUE_ARTIFACTS": "gs://acme-features"}
START_S = 60.0
HEAVY = ["apache_beam", "numpy", "librosa", "segue_pipelines", "segue.worker", "segue.testing"]
# The first event after a start is not to import a client: that is what warming is for.
FIRST_EVENT = """
import json, sys
import main
from cloudevents.http import CloudEvent
from segue_functions.arrival import handle_arrival
before = set(sys.modules)
handle_arrival(CloudEvent(*json.loads(sys.argv[1])))
print(json.dumps({"late": sorted(set(sys.modules) - before), "all": sorted(sys.modules)}))
"""

pytestmark = pytest.mark.xdist_group("archive")  # so that the environment is installed once


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> dict[str, Path]:
    """The folder of each function, with what its archive holds."""
    folder = tmp_path_factory.mktemp("archives")
    (folder / "graph.yaml").write_text(GRAPH)
    (folder / LOCK_FILE).write_bytes(encode_manifest(LOCK))
    package = ("package", "--all", "--graph", "graph.yaml", "--output", ".")
    command = [sys.executable, "-m", "segue_cli", *package]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    for function in FUNCTIONS:
        with zipfile.ZipFile(folder / f"{function}.zip") as file:
            file.extractall(folder / function)
    return {function: folder / function for function in FUNCTIONS}


@pytest.fixture(scope="module")
def installed(tmp_path_factory, unpacked) -> str:
    """The Python of a new environment with an archive's requirements, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    files = unpacked["arrival"]
    uv = find_uv()
    python = str(folder / "venv/bin/python")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    subprocess.run(
        [
            *(uv, "pip", "install", "--quiet", "--require-hashes"),
            *("--python", python, "-r", files / "requirements.txt"),
        ],
        check=True,
    )
    return python


@pytest.fixture
def environ(firestore_emulator, firestore_url, pubsub_emulator, project, monkeypatch):
    """A function's environment on the emulators, as Terraform sets it."""
    monkeypatch.setenv(emulators.PUBSUB.variable, pubsub_emulator)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SEGUE", "VIRTUAL"))}
    return {
        **kept,
        **PLACES,
        "K_SERVICE": "arrival",
        "SEGUE_GRAPH": "jobs.yaml",
        "SEGUE_LEDGER": firestore_url,
        "SEGUE_QUEUE": f"pubsub://{project}",
        emulators.FIRESTORE.variable: firestore_emulator,
        emulators.PUBSUB.variable: pubsub_emulator,
    }


@pytest.fixture
def queue(environ):
    """The queue, with the topics and subscriptions of the graph."""
    from segue_support.pubsub_topics import make_topics

    made = connect_queue(environ["SEGUE_QUEUE"])
    graph = parse_graph(GRAPH, environ=PLACES, lock=LOCK)
    parent = connect_queue(LOCK.namespaces["platform"].queue)
    make_topics(parent, ["done-stems"], [])
    parent.close()
    make_topics(made, list_topics(graph), list_subscriptions(graph))
    yield made
    made.close()


@contextlib.contextmanager
def served(python: str, folder: Path, environ: dict[str, str], log: Path) -> Iterator[str]:
    """Serve the function in a folder, as the image of Cloud Functions does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        *(str(Path(python).with_name("functions-framework")), "--target", folder.name),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            _wait(process, port, log)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    pytest.fail(f"it does not serve: {log.read_text()}")


def test_an_archive_serves_an_event_in_a_clean_environment(
    installed, unpacked, environ, queue, tmp_path
):
    media = MediaFile(
        uri="gs://acme-audio/masters/a.wav", version="1767000000123456", order=1_767_000_000_123_456
    )
    headers, body = to_binary(build_object_event("finalized", media))
    log = tmp_path / "log"
    with served(installed, unpacked["arrival"], environ, log) as url:
        sent = urllib.request.Request(url, body, headers, method="POST")
        with urllib.request.urlopen(sent, timeout=60) as answer:
            assert answer.status == 200
    ledger = connect_ledger(environ["SEGUE_LEDGER"])
    record = ledger.read([media.uri])[0].record
    ledger.close()
    assert record is not None
    assert record.order == media.order
    [got] = queue.pull(["a.source"], limit=10, wait_s=20)
    message = decode_message(got.data)
    assert (message.uri, message.order, message.trigger) == (media.uri, media.order, "source")
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert [(x["severity"], x["action"], x["file"]) for x in lines] == [
        ("INFO", "arrived", media.uri)
    ]


def test_an_archive_records_a_deletion_in_a_clean_environment(
    installed, unpacked, environ, tmp_path
):
    media = MediaFile(uri="gs://acme-audio/masters/a.wav", version="5", order=5)
    headers, body = to_binary(build_object_event("deleted", media))
    folder = unpacked["deletion"]
    with served(installed, folder, {**environ, "K_SERVICE": "deletion"}, tmp_path / "log") as url:
        sent = urllib.request.Request(url, body, headers, method="POST")
        with urllib.request.urlopen(sent, timeout=60) as answer:
            assert answer.status == 200
    ledger = connect_ledger(environ["SEGUE_LEDGER"])
    record = ledger.read([media.uri])[0].record
    ledger.close()
    assert record is not None
    assert record.deleted_at is not None


def test_a_warmed_function_imports_no_client_with_its_first_event(
    installed, unpacked, environ, queue
):
    media = MediaFile(uri="gs://acme-audio/masters/a.wav", version="5", order=5)
    sent = build_object_event("finalized", media)
    found = subprocess.run(
        [installed, "-c", FIRST_EVENT, json.dumps([dict(sent.get_attributes()), sent.data])],
        cwd=unpacked["arrival"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    modules = json.loads(found.stdout.splitlines()[-1])
    assert [m for m in modules["late"] if m.startswith(("google.", "proto."))] == []
    assert [m for m in HEAVY if m in modules["all"]] == []


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_archive_can_be_imported_in_a_clean_environment(
    installed, unpacked, environ, function
):
    code = f"import main; assert callable(main.{function})"
    folder = unpacked[function]
    subprocess.run([installed, "-c", code], cwd=folder, env=environ, check=True)


def test_a_wrong_set_up_is_answered_with_503_and_its_remedy(installed, unpacked, environ, tmp_path):
    wrong = {**environ, "SEGUE_LEDGER": "postgres://x"}
    headers, body = to_binary(
        build_object_event("finalized", MediaFile(uri="gs://b/a.wav", version="5", order=5))
    )
    with served(installed, unpacked["arrival"], wrong, tmp_path / "log") as url:
        sent = urllib.request.Request(url, body, headers, method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(sent, timeout=60)
        with refused.value as answer:
            assert (answer.code, answer.headers["Retry-After"]) == (503, "10")
            assert "write firestore://project/database" in json.load(answer)["error"]
    assert "Traceback" not in (tmp_path / "log").read_text()
