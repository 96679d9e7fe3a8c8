"""Whatever is done to a folder, and however often ``segue up`` is killed, the ledger agrees in the
end.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from segue.adapters.connect import connect_ledger, connect_store
from segue.model.graph import Graph, read_graph
from segue.model.ledger import Ledger, Query, find_records
from segue.model.transitions import is_current

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 120.0
OPERATIONS = 400
STARTED = re.compile('"action": "started".* "process": "up"')
GRAPH = """
catalogue: music
artifacts: artifacts
include: ["*.wav"]
jobs:
  first: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  second: {run: "segue_support.jobs:after", needs: {value: first}, writes: application/json}
"""


class Hand:
    """Changes a folder as people and programs do, from a seed."""

    def __init__(self, music: Path, outside: Path, seed: int) -> None:
        self.music = music
        self.outside = outside
        self.random = random.Random(seed)
        self.number = 0
        self.writers: list[threading.Thread] = []
        self.does = (
            *(self.write, self.write, self.write, self.write_slowly, self.overwrite),
            *(self.append, self.rename, self.delete, self.touch, self.make_tree),
            *(self.move_folder, self.remove_folder, self.move_out, self.move_in),
        )

    def act(self) -> None:
        self.number += 1
        with contextlib.suppress(OSError, IndexError):  # there was no file, or not any more
            self.random.choice(self.does)()

    def folder(self) -> Path:
        return Path(self.random.choice([at for at, _, _ in os.walk(self.music)]))

    def inner_folder(self) -> Path:
        return self.random.choice([p for p in self.music.rglob("*") if p.is_dir()])

    def file(self) -> Path:
        return self.random.choice(list(self.music.rglob("*.wav")))

    def data(self) -> bytes:
        return self.random.randbytes(self.random.randint(1, 3000))

    def write(self) -> None:
        (self.folder() / f"w{self.number}.wav").write_bytes(self.data())

    def write_slowly(self) -> None:
        path, parts = self.folder() / f"s{self.number}.wav", [self.data() for _ in range(3)]

        def go() -> None:
            with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
                for part in parts:
                    file.write(part)
                    time.sleep(0.1)

        self.writers.append(threading.Thread(target=go))
        self.writers[-1].start()

    def overwrite(self) -> None:
        self.file().write_bytes(self.data())

    def append(self) -> None:
        with self.file().open("ab") as file:
            file.write(self.data())

    def rename(self) -> None:
        self.file().rename(self.folder() / f"r{self.number}.wav")

    def delete(self) -> None:
        self.file().unlink()

    def touch(self) -> None:
        self.file().touch()

    def make_tree(self) -> None:
        deep = self.folder() / f"d{self.number}/e/f"
        deep.mkdir(parents=True)
        (deep / "x.wav").write_bytes(self.data())
        (deep.parent.parent / "y.wav").write_bytes(self.data())

    def move_folder(self) -> None:
        self.inner_folder().rename(self.folder() / f"m{self.number}")

    def remove_folder(self) -> None:
        shutil.rmtree(self.inner_folder())

    def move_out(self) -> None:
        self.inner_folder().rename(self.outside / f"o{self.number}")

    def move_in(self) -> None:
        self.random.choice(list(self.outside.iterdir())).rename(self.folder() / f"i{self.number}")


class Up:
    """Runs one ``segue up`` after another in the same folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        self._log.touch()

    def start(self) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        self._began = self._log.stat().st_size
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [SEGUE, "up", "--json"], cwd=self._folder, env=environ, stdout=log, stderr=log
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        """Return the output of the last one."""
        return self._log.read_bytes()[self._began :].decode()

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not STARTED.search(self.log()):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def disagreements(music: Path, ledger: Ledger, graph: Graph) -> list[str]:
    """Return the files for which the ledger is wrong."""
    with contextlib.closing(connect_store("file:///")) as store:
        there = {f"file://{p}": store.identify(str(p)[1:]).digest for p in music.rglob("*.wav")}
    query = Query(prefix=f"file://{music}/", deleted=False)
    found = {record.uri: record for record in find_records(ledger, query)}
    gone = [uri for uri in found if uri not in there]
    return gone + [
        uri
        for uri, version in there.items()
        if uri not in found
        or found[uri].version != version
        or not all(is_current(graph, found[uri], job) for job in graph.jobs)
    ]


@pytest.mark.parametrize("seed", [1])
def test_the_ledger_agrees_with_the_folder_in_the_end(tmp_path, seed):
    music, outside = tmp_path / "music", tmp_path / "outside"
    music.mkdir()
    outside.mkdir()
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    graph = read_graph(str(tmp_path / "jobs.yaml"), {})
    ledger = connect_ledger(f"sqlite:///{tmp_path}/.segue/ledger.db")
    hand, up = Hand(music, outside, seed), Up(tmp_path)
    up.start()
    try:
        up.wait_until_up()
        for number in range(OPERATIONS):
            hand.act()
            time.sleep(0.01)
            if number in (OPERATIONS // 3, OPERATIONS * 2 // 3):
                up.kill()
                up.start()
            if number == OPERATIONS * 2 // 3:  # between the two, it is just starting
                up.wait_until_up()
        for writer in hand.writers:
            writer.join()
        deadline = time.monotonic() + PATIENCE_S
        while (left := disagreements(music, ledger, graph)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert left == [], up.log()[-2000:]
        up.process.terminate()
        assert up.process.wait(PATIENCE_S) == 0
    finally:
        up.kill()
        ledger.close()
