"""Workers without Beam: several of them share the messages, and none is lost when one dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger
from segue.adapters.pubsub import PubsubQueue
from segue.model.graph import read_graph
from segue.model.queue import list_subscriptions, list_topics
from segue.model.record import LEASED, list_open_terms
from segue_support import emulators
from segue_support.pubsub_topics import make_topics

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 120.0
JOBS = """
import os, time

def note(job, uri):
    with open(os.environ["RUNS"], "a") as file:
        file.write(f"{job} {os.path.basename(uri)}\\n")

def first(media):
    note("first", media.uri)
    while "slow" in media.uri and not os.path.exists(os.environ["RELEASE"]):
        time.sleep(0.01)
    time.sleep(0.02)
    return {"uri": media.uri}

def second(above):
    note("second", above["uri"])
    return above
"""
GRAPH = """
catalogue: music
jobs:
  first: {run: "worked:first", needs: {media: source}, writes: application/json}
  second: {run: "worked:second", needs: {above: first}, writes: application/json}
"""
LINE = ("first", "second")


class Place:
    """A folder with files, a graph, and the processes that work on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "music").mkdir()
        (folder / "jobs.yaml").write_text(GRAPH)
        (folder / "worked.py").write_text(JOBS)
        (folder / "runs").touch()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        places = {"RUNS": str(folder / "runs"), "RELEASE": str(folder / "release")}
        self.environ = clean | places | {"PYTHONPATH": str(folder)}
        self.processes: list[subprocess.Popen[str]] = []

    def segue(self, *arguments: str) -> dict:
        done = subprocess.run(
            [SEGUE, *arguments, "--json"],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def request(self, *names: str) -> None:
        for name in names:
            (self.folder / f"music/{name}.wav").write_bytes(name.encode())
        self.segue("request", "--all", *(f"music/{name}.wav" for name in names))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [SEGUE, "work", "--all", "--processes", "1", *arguments],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def count_runs(self) -> Counter[tuple[str, str]]:
        lines = (self.folder / "runs").read_text().splitlines()
        return Counter(tuple(line.split()) for line in lines)  # type: ignore[misc]

    def count_done(self) -> dict[str, int]:
        jobs = self.segue("status")["jobs"]
        return {job: jobs[job]["done"] for job in LINE}

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.stop()


def test_two_workers_share_the_files_and_end_when_there_is_nothing_left(place):
    names = [f"{n:02}" for n in range(40)]
    place.request(*names)
    workers = [place.start("--until-idle", "2") for _ in range(2)]
    assert [worker.wait(timeout=PATIENCE_S) for worker in workers] == [0, 0]
    assert place.count_done() == dict.fromkeys(LINE, 40)
    assert place.count_runs() == Counter((job, f"{n}.wav") for job in LINE for n in names)


def test_what_a_killed_worker_leaves_goes_to_another_one(place):
    names = [f"{n:02}" for n in range(30)]
    place.request(*names)
    killed = place.start()
    wait_for(lambda: len(place.count_runs()) > 5)
    killed.kill()
    killed.wait()
    assert place.start("--until-idle", "2").wait(timeout=PATIENCE_S) == 0
    assert place.count_done() == dict.fromkeys(LINE, 30)


def test_a_signal_lets_it_finish_what_runs_and_leave_the_rest(place):
    place.request("slow", *(f"{n:02}" for n in range(20)))
    worker = place.start()
    wait_for(lambda: ("first", "slow.wav") in place.count_runs())
    worker.send_signal(signal.SIGTERM)
    (place.folder / "release").touch()
    assert worker.wait(timeout=PATIENCE_S) == 0
    ledger = connect_ledger(f"sqlite:///{place.folder}/.segue/ledger.db")
    records = [s.record for s in ledger.read([f"file://{place.folder}/music/slow.wav"])]
    ledger.close()
    assert records[0] is not None
    assert LEASED not in list_open_terms(records[0])
    assert place.start("--until-idle", "2").wait(timeout=PATIENCE_S) == 0
    assert place.count_done() == dict.fromkeys(LINE, 21)
    assert set(place.count_runs().values()) == {1}


def test_its_health_is_served_while_a_long_job_runs(place):
    place.request("slow")
    port = find_port()
    worker = place.start("--health-port", str(port))
    wait_for(lambda: ("first", "slow.wav") in place.count_runs())

    def read() -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
            assert response.status == 200
            return json.loads(response.read())

    wait_for(lambda: read()["running"] == 1)
    assert read()["pipelines"] == ["first", "second"]
    other = place.start("--health-port", str(port))
    _, text = other.communicate(timeout=PATIENCE_S)
    assert other.returncode == 2
    assert f"port {port} cannot be used" in text
    (place.folder / "release").touch()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=PATIENCE_S) == 0


def test_workers_share_a_queue_and_a_ledger_in_the_cloud_form(
    place, firestore_url, pubsub_emulator, project, monkeypatch
):
    place.environ |= {
        emulators.FIRESTORE.variable: os.environ[emulators.FIRESTORE.variable],
        emulators.PUBSUB.variable: pubsub_emulator,
        "SEGUE_LEDGER": firestore_url,
        "SEGUE_QUEUE": f"pubsub://{project}",
    }
    monkeypatch.setenv(emulators.PUBSUB.variable, pubsub_emulator)
    graph = read_graph(str(place.folder / "jobs.yaml"), {})
    make_topics(PubsubQueue(f"pubsub://{project}"), list_topics(graph), list_subscriptions(graph))
    names = [f"{n:02}" for n in range(20)]
    place.request(*names)
    workers = [place.start("--until-idle", "5") for _ in range(2)]
    assert [worker.wait(timeout=PATIENCE_S) for worker in workers] == [0, 0]
    assert place.count_done() == dict.fromkeys(LINE, 20)
    assert place.count_runs() == Counter((job, f"{n}.wav") for job in LINE for n in names)
