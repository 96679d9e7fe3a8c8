"""The event-driven half in its cloud form, from end to end on real sound.

The official Pub/Sub and Firestore emulators, fake-gcs-server, the functions on functions-framework,
and two streaming pipelines that share the graph which ships with Segue. The test stands for
Eventarc: it sends the CloudEvents that Cloud Storage would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass

import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.adapters.pubsub import PubsubQueue
from segue.model import dead_letter
from segue.model.graph import Graph, read_graph
from segue.model.ledger import Ledger
from segue.model.media_file import MediaFile
from segue.model.object_store import ObjectStore
from segue.model.queue import (
    DEAD_SUBSCRIPTION,
    Envelope,
    format_inbox,
    list_subscriptions,
    list_topics,
)
from segue.model.record import Record, State
from segue.model.transitions import find_entry, is_current
from segue.testing.music import music
from segue.testing.sound import write
from segue_support import emulators
from segue_support.cloud_events import build_object_event, post_event
from segue_support.processes import Process
from segue_support.pubsub_topics import make_topics

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
SHIPPED_GRAPH = os.path.join(os.path.dirname(__file__), "../../shared/segue/features/jobs.yaml")
PATIENCE_S = 240.0  # the first measurement of loudness in a new environment compiles
TEMPO_TOLERANCE = 0.002
PIPELINES = (
    ("downsample", "loudness", "probe", "fingerprint"),
    ("beats", "energy", "spectrogram", "key", "danceability"),
)

pytestmark = pytest.mark.xdist_group("end to end")


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """All that runs, and what to reach it with."""

    environ: dict[str, str]
    graph: Graph
    catalogue: ObjectStore
    artifacts: ObjectStore
    ledger: Ledger
    queue: PubsubQueue
    port: int
    pipelines: list[Process]

    def upload(self, name: str, path: str) -> MediaFile:
        """Put a file into the catalogue; no event is sent."""
        with open(path, "rb") as file:
            data = file.read()
        self.catalogue.create(name, data, content_type="audio/x", metadata={}, replace=True)
        found = self.catalogue.identify(name)
        return found.to_media_file(self.catalogue.uri(name))

    def arrive(self, media: MediaFile) -> None:
        post_event(self.port, "arrival", build_object_event("finalized", media))

    def delete(self, media: MediaFile) -> None:
        post_event(self.port, "deletion", build_object_event("deleted", media))

    def record(self, media: MediaFile) -> Record:
        found = self.ledger.read([media.uri])[0].record
        assert found is not None
        return found

    def wait_for(self, media: MediaFile, *jobs: str) -> Record:
        """Wait until nothing more is to be done for some jobs of a file."""
        over = {State.DONE, State.FAILED, State.BLOCKED}
        end_s = time.monotonic() + PATIENCE_S
        while True:
            record = self.record(media)
            entries = [find_entry(self.graph, record, job) for job in jobs]
            if all(e is not None and e.state in over and not e.notify for e in entries):
                return record
            said = [p.lines[-5:] + p.text[-5:] for p in self.pipelines]
            assert time.monotonic() < end_s, (record, said)
            time.sleep(0.2)

    def segue(self, *arguments: str, code: int = 0) -> dict:
        done = subprocess.run(
            [SEGUE, *arguments, "--json"],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)


@pytest.fixture
def cloud(firestore_url, pubsub_emulator, bucket, project, tmp_path, monkeypatch):
    monkeypatch.setenv(emulators.PUBSUB.variable, pubsub_emulator)
    settings = {
        "SEGUE_GRAPH": SHIPPED_GRAPH,
        "SEGUE_CATALOGUE": f"gs://{bucket}/masters/",
        "SEGUE_ARTIFACTS": f"gs://{bucket}/features",
        "SEGUE_LEDGER": firestore_url,
        "SEGUE_QUEUE": f"pubsub://{project}",
    }
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    environ = clean | settings | {"GOOGLE_CLOUD_PROJECT": project}
    graph = read_graph(SHIPPED_GRAPH, settings)
    queue = PubsubQueue(settings["SEGUE_QUEUE"])
    make_topics(queue, list_topics(graph), list_subscriptions(graph))
    command = [sys.executable, "-m", "segue_functions.server", "--port", "0"]
    functions = Process(command, cwd=str(tmp_path), environ=environ)
    workers = []
    try:
        for jobs in PIPELINES:
            named = [word for job in jobs for word in ("--pipeline", job)]
            worker = Process([SEGUE, "stream", *named], cwd=str(tmp_path), environ=environ)
            workers.append(worker)
        for worker in workers:
            worker.wait_until_started()
        ledger = connect_ledger(settings["SEGUE_LEDGER"])
        yield Cloud(
            environ=environ,
            graph=graph,
            catalogue=connect_store(settings["SEGUE_CATALOGUE"].rstrip("/")),
            artifacts=connect_store(settings["SEGUE_ARTIFACTS"]),
            ledger=ledger,
            queue=queue,
            port=int(functions.wait_until_started()["port"]),
            pipelines=workers,
        )
        ledger.close()
        assert [worker.terminate() for worker in workers] == [0] * len(workers)
        assert functions.terminate() == 0
    finally:
        queue.close()
        for process in (functions, *workers):
            process.kill()


def read_states(record: Record) -> dict[str, State]:
    return {entry.job: entry.state for entry in record.results.values()}


def dead_letters(cloud: Cloud) -> list[dead_letter.DeadLetter]:
    found = cloud.queue.pull([DEAD_SUBSCRIPTION.name], limit=10, wait_s=30.0)
    assert found
    cloud.queue.acknowledge(found)
    return [dead_letter.decode_dead_letter(one.data) for one in found]


def test_from_an_upload_to_features_and_from_a_request_to_its_line(cloud, tmp_path):
    graph = cloud.graph
    jobs = tuple(graph.jobs)

    # An upload: everything below the source runs.
    song = write(music(1, bpm=120, duration_s=8.0), str(tmp_path / "song.mp3"))
    media = cloud.upload("one album/ü song.mp3", song)
    cloud.arrive(media)
    cloud.arrive(media)  # Eventarc delivers at least once
    record = cloud.wait_for(media, *jobs)
    assert read_states(record) == dict.fromkeys(jobs, State.DONE)
    assert all(is_current(graph, record, job) for job in jobs)
    assert {e.attempts for e in record.results.values()} == {1}
    (name,) = record.name_artifacts(graph.fingerprints["beats"])
    beats = json.loads(cloud.artifacts.read(name))
    assert beats["tempo_bpm"] == pytest.approx(120, rel=TEMPO_TOLERANCE)
    assert sum(1 for _ in cloud.artifacts.list()) == len(jobs)

    # A request for one feature of a file of which no event came: its line runs, no sibling does.
    other = write(music(2, bpm=100, duration_s=6.0), str(tmp_path / "other.flac"))
    unseen = cloud.upload("other.flac", other)
    body = json.dumps({"files": [unseen.uri], "jobs": ["energy"]}).encode()
    call = urllib.request.Request(
        f"http://127.0.0.1:{cloud.port}/request",
        data=body,
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(call, timeout=60) as answer:
        accepted = json.load(answer)
    watched = cloud.segue("watch", accepted["request"], "--timeout", f"{PATIENCE_S:.0f}s")
    assert watched["jobs"] == {"energy": {"done": 1}}
    line = {"downsample", "beats", "energy"}
    assert set(read_states(cloud.record(unseen))) == line

    # A ping answers from every pipeline, and computes nothing.
    pinged = cloud.segue("ping", unseen.uri, "--timeout", "60s")
    assert {job: c["done"] for job, c in pinged["jobs"].items()} == dict.fromkeys(jobs, 1)
    assert set(read_states(cloud.record(unseen))) == line

    # A poison message and a corrupt file harm nobody else.
    cloud.queue.publish([Envelope(topic=format_inbox("beats"), data=b"\xff poison")])
    (poison,) = dead_letters(cloud)
    found = (poison.pipeline, poison.stage, poison.data)
    assert found == ("beats", "decode", b"\xff poison")
    (tmp_path / "broken.mp3").write_bytes(b"this is no music" * 100)
    broken = cloud.upload("broken.mp3", str(tmp_path / "broken.mp3"))
    cloud.arrive(broken)
    failed = cloud.wait_for(broken, *jobs)
    states = read_states(failed)
    readers = ("downsample", "fingerprint", "loudness")
    assert {states[job] for job in readers} == {State.FAILED}
    below = ("beats", "danceability", "energy", "key", "spectrogram")
    assert {states[job] for job in below} == {State.BLOCKED}
    assert find_entry(graph, failed, "downsample").error.kind == "corrupt_media"
    buried: list[dead_letter.DeadLetter] = []
    while len(buried) < len(readers):
        buried += dead_letters(cloud)
    assert sorted((d.job, d.stage, d.kind, d.uri) for d in buried) == [
        (job, "run", "corrupt_media", broken.uri) for job in readers
    ]

    # Overwritten with music, it is worked on; deleted, it leaves a tombstone.
    repaired = cloud.upload("broken.mp3", song)
    assert repaired.order > broken.order
    cloud.delete(broken)
    cloud.arrive(repaired)
    record = cloud.wait_for(repaired, *jobs)
    assert set(read_states(record).values()) == {State.DONE}
    cloud.delete(repaired)
    assert cloud.record(repaired).deleted_at is not None
