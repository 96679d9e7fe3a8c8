"""Reconcile in the cloud: compares a bucket with Firestore, and publishes to Pub/Sub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.adapters.pubsub import PubsubQueue
from segue.model.graph import read_graph
from segue.model.ledger import Change, Query
from segue.model.media_file import MediaFile
from segue.model.message import decode_message
from segue.model.queue import list_subscriptions, list_topics
from segue.model.transitions import arrive
from segue_support import emulators
from segue_support.pubsub_topics import make_topics

if TYPE_CHECKING:
    from pathlib import Path

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
GRAPH = """
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  after: {run: "segue_support.jobs:after", needs: {value: fine}, writes: application/json}
"""
NAMES = ["masters/a.wav", "masters/a/b.wav", "masters/é.wav", "masters/\U0001f3b5.wav"]
LONG_AGO = datetime.now(UTC) - timedelta(days=1)


def build_media(uri: str, order: int) -> MediaFile:
    return MediaFile(uri=uri, version=str(order), order=order)


pytestmark = pytest.mark.xdist_group("firestore")


class Cloud:
    """A bucket, a ledger, and the topics and subscriptions of a graph."""

    def __init__(self, folder: Path, bucket: str, ledger_url: str, project: str) -> None:
        self.folder, self.bucket = folder, bucket
        (folder / "jobs.yaml").write_text(GRAPH)
        self.graph = read_graph(str(folder / "jobs.yaml"), {})
        self.store = connect_store(f"gs://{bucket}")
        self.ledger = connect_ledger(ledger_url)
        self.stack = ("--ledger", ledger_url, "--queue", f"pubsub://{project}")
        self.queue = PubsubQueue(f"pubsub://{project}")
        make_topics(self.queue, list_topics(self.graph), list_subscriptions(self.graph))

    def close(self) -> None:
        self.store.close()
        self.ledger.close()
        self.queue.close()

    def upload(self, name: str, data: bytes = b"sound") -> MediaFile:
        self.store.create(name, data, content_type="audio/wav", metadata={}, replace=True)
        return self.store.stat(name).to_media_file(self.store.uri(name))

    def record(self, media: MediaFile) -> None:
        self.ledger.change([Change(uri=media.uri, transition=lambda r: arrive(r, media, LONG_AGO))])

    def pull_all(self, subscription: str) -> set[tuple[str, str]]:
        """Return all that a subscription has; the emulator may return it in parts."""
        found: set[tuple[str, str]] = set()
        while pulled := self.queue.pull([subscription], limit=100, wait_s=0.3):
            messages = [decode_message(one.data) for one in pulled]
            found.update((message.uri, message.version) for message in messages)
            self.queue.acknowledge(pulled)
        return found

    def reconcile(self, *arguments: str) -> dict:
        place = ("--prefix", f"gs://{self.bucket}/masters/")
        done = subprocess.run(
            [SEGUE, "reconcile", *place, *self.stack, *arguments, "--json"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)


@pytest.fixture
def cloud(tmp_path, bucket, firestore_url, pubsub_emulator, project, monkeypatch):
    monkeypatch.setenv(emulators.PUBSUB.variable, pubsub_emulator)
    made = Cloud(tmp_path, bucket, firestore_url, project)
    yield made
    made.close()


def test_changes_without_an_event_are_found_first_and_then_repaired(cloud):
    mode = ("--direct_running_mode", "multi_threading", "--direct_num_workers", "2")
    new, over, idle, kept = (cloud.upload(name) for name in NAMES)
    cloud.upload("elsewhere.wav")
    cloud.record(build_media(over.uri, over.order - 1))
    cloud.record(idle)
    gone = [build_media(f"gs://{cloud.bucket}/masters/{n}.wav", 7) for n in "0zö"]
    for media in gone:
        cloud.record(media)
    cloud.record(build_media(f"gs://{cloud.bucket}/other/gone.wav", 7))

    counts = {"unrecorded": 2, "overwritten": 1, "unstarted": 1, "gone": 3}
    found = cloud.reconcile(*mode)
    assert {kind: group["files"] for kind, group in found["kinds"].items()} == counts
    assert (found["listed"], found["recorded"]) == (4, 5)
    assert cloud.pull_all("fine.source") == set()

    found = cloud.reconcile(*mode, "--apply", "--yes")
    assert {kind: group["files"] for kind, group in found["kinds"].items()} == counts
    assert cloud.pull_all("fine.source") == {(m.uri, m.version) for m in (new, over, idle, kept)}
    assert cloud.pull_all("after.done-fine") == cloud.pull_all("fine.inbox") == set()
    deleted = cloud.ledger.find(Query(deleted=True))
    assert {(r.uri, r.version) for r in deleted} == {(m.uri, m.version) for m in gone}

    found = cloud.reconcile(*mode, "--older-than", "1w")
    assert (found["listed"], found["recorded"], found["total"]) == (4, 4, 0)
