"""Batches reach the model: full while there is work, in backfills and streams, and never late."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 120.0
SIZE = 16
FILES = 48
JOBS = """
import os, time

def first(media):
    time.sleep(0.02)
    return {"name": os.path.basename(media.uri)}

class Model:
    batch_size = 16

    def batch(self, inputs):
        with open(os.environ["SIZES"], "a") as file:
            file.write(f"{len(inputs)}\\n")
        time.sleep(0.1)
        return [{"name": i["above"]["name"]} for i in inputs]

class Patient(Model):
    batch_wait_s = 600

def last(above):
    return above
"""
GRAPH = """
catalogue: music
jobs:
  first: {run: "batched:first", needs: {media: source}, writes: application/json}
  model: {run: "batched:Model", needs: {above: first}, writes: application/json}
  last: {run: "batched:last", needs: {above: model}, writes: application/json}
"""
LINE = ("first", "model", "last")


class Place:
    """A folder with files, a graph, and the processes that work on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "music").mkdir()
        (folder / "jobs.yaml").write_text(GRAPH)
        (folder / "batched.py").write_text(JOBS)
        (folder / "sizes").touch()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        self.environ = {**clean, "SIZES": str(folder / "sizes")}
        self.processes: list[subprocess.Popen[str]] = []

    def add(self, count: int) -> list[str]:
        names = [f"music/{number:02}.wav" for number in range(count)]
        for name in names:
            (self.folder / name).write_bytes(name.encode())
        return names

    def segue(self, *arguments: str) -> str:
        done = subprocess.run(
            [SEGUE, *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [SEGUE, *arguments],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    @property
    def sizes(self) -> list[int]:
        return [int(size) for size in (self.folder / "sizes").read_text().split()]

    def list_results(self, job: str = "last") -> list[str]:
        """Return what the results of a job say whose they are, in the order of the files."""
        found = sorted((self.folder / ".segue/artifacts" / job).rglob("*.json"))
        return [json.loads(path.read_text())["name"] for path in found]

    def count_done(self) -> dict[str, int]:
        jobs = json.loads(self.segue("status", "--json"))["jobs"]
        return {job: jobs[job]["done"] for job in LINE}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    for process in place.processes:
        process.kill()
        process.communicate()


def wait_until(is_true: Callable[[], object], what: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < end_s, f"waited in vain until {what}"
        time.sleep(0.05)


def check_batches(place: Place, names: list[str]) -> None:
    """Check that batches are full, and each file has its own result."""
    sizes = place.sizes
    assert sum(sizes) == len(names)
    assert sum(sizes) / len(sizes) >= 0.9 * SIZE, Counter(sizes)
    assert place.list_results() == [os.path.basename(name) for name in names]
    assert place.count_done() == dict.fromkeys(LINE, len(names))


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_backfill_fills_its_batches(place: Place, processes: str) -> None:
    names = place.add(FILES)
    place.segue("backfill", "--prefix", "music", "--job", "last", "--processes", processes)
    check_batches(place, names)


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize("command", ["stream", "work"])
def test_a_stream_fills_its_batches(place: Place, command: str, processes: str) -> None:
    names = place.add(FILES)
    place.segue("request", "--all", *names)
    place.segue(command, "--all", "--processes", processes, "--until-idle", "1")
    check_batches(place, names)


def test_a_file_waits_for_no_file_that_does_not_come(place: Place) -> None:
    worker = place.start("work", "--all", "--processes", "2")
    for count, name in enumerate(place.add(3), start=1):
        place.segue("request", "--all", name)
        # The next one comes only once this one has its results.
        wait_until(lambda count=count: len(place.list_results()) == count, f"{name} is done")
    assert place.sizes == [1, 1, 1]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0


def test_a_worker_that_is_stopped_runs_what_waits_for_a_batch(place: Place) -> None:
    graph = (place.folder / "jobs.yaml").read_text().replace("batched:Model", "batched:Patient")
    (place.folder / "jobs.yaml").write_text(graph)
    names = place.add(3)
    worker = place.start("work", "--all", "--processes", "1")
    place.segue("request", "--all", *names)
    wait_until(lambda: len(place.list_results("first")) == 3, "all wait for the batch")
    assert place.sizes == []
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 0
    assert place.sizes == [3]
    assert place.count_done() == dict.fromkeys(LINE, 3)


def test_the_end_of_a_backfill_waits_for_nothing(place: Place) -> None:
    graph = (place.folder / "jobs.yaml").read_text().replace("batched:Model", "batched:Patient")
    (place.folder / "jobs.yaml").write_text(graph)
    place.add(SIZE + 3)
    place.segue("backfill", "--prefix", "music", "--job", "last", "--processes", "1")
    assert place.sizes == [SIZE, 3]
