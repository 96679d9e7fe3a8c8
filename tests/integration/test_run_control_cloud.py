"""Pausing and cancelling by a ledger in Firestore, and notifications in Pub/Sub: on emulators."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from segue.adapters.notification_target import parse_target
from segue.errors import ConfigurationError
from segue.testing.sound import sine_at_lufs, write
from segue_cli.exit_code import ExitCode
from segue_support import emulators

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 120
FILES = 30
GRAPH = """
include: ["*.wav"]
jobs:
  loudness:
    run: segue.features.ebu_r128:loudness
    needs: {media: source}
    writes: application/json
  slow:
    run: slowly:work
    needs: {loudness: loudness}
    writes: application/json
"""
JOBS = """
import time

def work(loudness):
    time.sleep(1.0)
    return loudness["integrated_lufs"]
"""


class Project:
    """A folder with songs, whose ledger is in Firestore."""

    def __init__(self, folder, ledger: str) -> None:
        self.folder, self.ledger = folder, ledger
        (folder / "slowly.py").write_text(JOBS)
        (folder / "jobs.yaml").write_text(GRAPH)
        (folder / "music").mkdir()
        sound = sine_at_lufs(-23.0, duration_s=1.0)
        for number in range(FILES):
            write(sound, str(folder / f"music/{number:02}.wav"))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        return subprocess.Popen(
            [SEGUE, *arguments, "--json"],
            cwd=self.folder,
            env={**clean, "SEGUE_LEDGER": self.ledger},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> dict:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == code, err
        return json.loads(out)


@pytest.fixture
def songs(tmp_path, firestore_url) -> Project:
    return Project(tmp_path, firestore_url)


BACKFILL = ("backfill", "--prefix", "music", "--all", "--processes", "2")


@pytest.mark.xdist_group("firestore")
def test_a_job_is_paused_for_all_who_use_a_ledger_in_firestore(songs):
    songs.run("pause", "slow")
    few = (*BACKFILL, "--limit", "2")
    left = songs.run(*few, code=ExitCode.UNFINISHED)
    assert left["jobs"]["loudness"]["statuses"] == {"done": 2}
    assert left["jobs"]["slow"]["statuses"] == {"paused": 2}
    assert list(songs.run("status")["paused"]) == ["slow"]
    explained = songs.run("explain", "music/00.wav")["jobs"]
    assert {job["job"]: job["next"] for job in explained}["slow"] == "paused"
    assert songs.run("resume")["resumed"] == ["slow"]
    assert songs.run(*few)["jobs"]["slow"]["statuses"] == {"done": 2}


@pytest.mark.xdist_group("firestore")
def test_a_backfill_is_cancelled_by_a_ledger_in_firestore(songs):
    with songs.start(*BACKFILL) as process:
        until_s = time.monotonic() + PATIENCE_S
        while not (found := songs.run("runs")["runs"]):
            assert time.monotonic() < until_s
        cancelled = songs.run("cancel", found[0]["id"])
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.INTERRUPTED, err
    counts = json.loads(out)
    assert cancelled["state"] == "cancelled"
    assert counts["files"] + counts["not_started"] == FILES
    assert counts["not_started"] > 0


@pytest.mark.xdist_group("pubsub")
def test_a_topic_gets_the_notifications_of_a_run(tmp_path, pubsub_emulator, project, monkeypatch):
    from google.pubsub_v1 import PublisherClient, SubscriberClient

    monkeypatch.setenv(emulators.PUBSUB.variable, pubsub_emulator)
    topic = f"projects/{project}/topics/runs"
    reading = f"projects/{project}/subscriptions/runs"
    with PublisherClient() as publisher, SubscriberClient() as subscriber:
        publisher.create_topic(name=topic)
        subscriber.create_subscription(request={"name": reading, "topic": topic})
        made = Project(tmp_path, f"sqlite:///{tmp_path}/ledger.db")
        run = made.run(*BACKFILL, "--limit", "1", "--notify", f"pubsub://{topic}")
        pulled = subscriber.pull(request={"subscription": reading, "max_messages": 5})
        [received] = pulled.received_messages
    told = json.loads(received.message.data)
    assert (told["event"], told["run"]["id"], told["run"]["state"]) == ("end", run["run"], "done")
    assert dict(received.message.attributes) == {
        "event": "end",
        "run": run["run"],
        "state": "done",
    }


@pytest.mark.xdist_group("pubsub")
def test_a_topic_that_there_is_not_is_an_error_with_a_remedy(pubsub_emulator, project, monkeypatch):
    monkeypatch.setenv(emulators.PUBSUB.variable, pubsub_emulator)
    target = parse_target(f"pubsub://projects/{project}/topics/nowhere")
    with pytest.raises(ConfigurationError, match="create the topic, or name another one"):
        target.send(b"{}", {"event": "end"})
