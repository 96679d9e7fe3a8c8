"""Killed at random moments while files keep coming: every file is complete in the end.

Real processes on the embedded stack. The test itself stands for Cloud Storage: it sends each event
again until the function has taken it. The jobs note each time that they run, so that what is
computed can be held against what was claimed.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.errors import Unavailable
from segue.model.artifact import compute_checksum
from segue.model.graph import read_graph
from segue.model.ledger import Ledger, Query
from segue.model.media_file import MediaFile
from segue.model.queue import list_topics
from segue.model.record import Record, State
from segue_support.cloud_events import build_object_event, post_event
from segue_support.processes import Process

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
JOBS = """
import os, time

def note(name, uri):
    with open(os.environ["RUNS"], "a") as file:
        file.write(f"{name} {uri}\\n")
    time.sleep(0.003)

def first(media):
    note("first", media.uri)
    return {"uri": media.uri}

def second(above):
    note("second", above["uri"])
    return {"uri": above["uri"]}

def third(above, beside):
    note("third", above["uri"])
    return {"uri": above["uri"], "filler": "x" * 20000}
"""
GRAPH = """
jobs:
  first: {run: "noted_jobs:first", needs: {media: source}, writes: application/json}
  beside: {run: "noted_jobs:second", needs: {above: first}, writes: application/json}
  second: {run: "noted_jobs:second", needs: {above: first}, writes: application/json}
  third:
    run: "noted_jobs:third"
    needs: {above: second, beside: beside}
    writes: application/json
"""
# What a run is noted as, by job: two jobs share a function.
NOTED = {"first": ["first"], "second": ["beside", "second"], "third": ["third"]}
QUIET_S = 90.0


@pytest.fixture
def place(tmp_path) -> Path:
    (tmp_path / "noted_jobs.py").write_text(JOBS)
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    (tmp_path / "music").mkdir()
    (tmp_path / "runs").touch()
    return tmp_path


def environ(place: Path) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
    return clean | {
        "RUNS": str(place / "runs"),
        "SEGUE_GRAPH": str(place / "jobs.yaml"),
        "SEGUE_CATALOGUE": str(place / "music"),
    }


def server(place: Path) -> tuple[Process, int]:
    command = [sys.executable, "-m", "segue_functions.server", "--port", "0"]
    process = Process(command, cwd=str(place), environ=environ(place))
    return process, int(process.wait_until_started()["port"])


def pipeline(place: Path) -> Process:
    process = Process([SEGUE, "stream", "--all"], cwd=str(place), environ=environ(place))
    process.wait_until_started()
    return process


def upload(place: Path, number: int) -> MediaFile:
    """A new file, written elsewhere first: it appears whole."""
    name = f"{number:04}.wav"
    (place / name).write_bytes(b"%d" % number)
    os.rename(place / name, place / "music" / name)
    store = connect_store(str(place / "music"))
    found = store.stat(name)
    return found.to_media_file(store.uri(name))


def wait_until_complete(place: Path, ledger: Ledger, files: int) -> list[Record]:
    graph = read_graph(str(place / "jobs.yaml"), {})
    queue = connect_queue(f"sqlite:///{place}/.segue/queue.db")
    end_s = time.monotonic() + QUIET_S
    try:
        while True:
            records = ledger.find(Query(), limit=10_000)
            done = sum(
                e.state is State.DONE and not e.pending_targets
                for r in records
                for e in r.jobs.values()
            )
            left = sum((queue.measure_depth(list_topics(graph)) or {}).values())
            if done == files * len(graph.jobs) and not left:
                return records
            assert time.monotonic() < end_s, (done, files * len(graph.jobs), left, records[:2])
            time.sleep(0.1)
    finally:
        queue.close()


def check(place: Path, records: list[Record], files: int) -> None:
    """Complete, once, and whole."""
    store = connect_store(str(place / ".segue/artifacts"))
    runs = Counter((place / "runs").read_text().splitlines())
    assert len(records) == files
    for record in records:
        assert set(record.jobs) == {"first", "beside", "second", "third"}
        for entry in record.jobs.values():
            assert (entry.state, entry.lease, entry.pending_targets) == (State.DONE, None, ())
            data = store.read(entry.artifact.removeprefix(store.location + "/"))
            assert compute_checksum(data) == entry.checksum
        for noted, jobs in NOTED.items():
            # Each time that it was computed somebody had claimed it, and was then killed.
            claims = sum(record.jobs[job].attempts for job in jobs)
            assert len(jobs) <= runs[f"{noted} {record.uri}"] <= claims
    again = sum(e.attempts - 1 for r in records for e in r.jobs.values())
    assert again < files  # what was computed again is what was under way


def test_functions_and_pipelines_that_are_killed_lose_nothing_and_double_nothing(place):
    rng, files, number = random.Random(11), 240, 0
    with ExitStack() as stack:
        functions, port = server(place)
        worker = pipeline(place)
        stack.callback(lambda: (functions.kill(), worker.kill()))
        kills = 0
        while number < files:
            batch = [upload(place, n) for n in range(number, min(number + 30, files))]
            number += len(batch)
            strike_at = rng.randrange(len(batch))
            for at, media in enumerate(batch):
                if at == strike_at and kills % 2 == 0:
                    worker.kill_leader()
                    worker.kill()
                    worker = pipeline(place)
                    kills += 1
                elif at == strike_at:
                    functions.kill_leader()
                    functions.kill()
                    functions, port = server(place)
                    kills += 1
                while True:
                    try:
                        post_event(port, "arrival", build_object_event("finalized", media))
                    except Unavailable:
                        time.sleep(0.05)
                    else:
                        break
            time.sleep(rng.random() * 0.3)
        ledger = connect_ledger(f"sqlite:///{place}/.segue/ledger.db")
        stack.callback(ledger.close)
        records = wait_until_complete(place, ledger, files)
        check(place, records, files)
        assert kills >= 6
        assert worker.terminate() == 0
        assert functions.terminate() == 0


def test_the_whole_system_that_is_killed_goes_on_where_it_stopped(place):
    rng, files, number = random.Random(13), 80, 0
    command = [SEGUE, "up", "music", "--json"]
    with ExitStack() as stack:
        for ready in (True, False):
            up = Process(command, cwd=str(place), environ=environ(place))
            stack.callback(up.kill)
            if ready:
                up.wait_until_started()
            for _ in range(files // 2):
                upload(place, number)
                number += 1
                time.sleep(rng.random() * 0.02)
            time.sleep(rng.random() * 1.0)
            up.kill_leader()
        up = Process(command, cwd=str(place), environ=environ(place))
        stack.callback(up.kill)
        up.wait_until_started()
        ledger = connect_ledger(f"sqlite:///{place}/.segue/ledger.db")
        stack.callback(ledger.close)
        records = wait_until_complete(place, ledger, files)
        check(place, records, files)
        os.kill(up.pid, signal.SIGINT)
        assert up.wait() == 130 or up.wait() == 0
