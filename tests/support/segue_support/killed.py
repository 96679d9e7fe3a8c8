"""Kills Segue's processes at random moments while files come, change and go.

python -m segue_support.killed --seeds 0:20

Each seed is a round of some ten SIGKILLs at a backfill, at the whole system (``segue up``), or at
the functions' server and a streaming pipeline. What is killed is drawn at random: the program
itself, a streaming pipeline, a supervisor, a child in the middle of a job, the server, or
everything at once. Then the system runs until it is quiet, and the ledger, the artifacts and the
noted runs of the jobs are held against the files on the disk.

Nothing may be lost, no result may be of other content, and a job may run again for a file only if
somebody had claimed it and was killed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from segue.adapters.connect import connect_ledger, connect_store
from segue.errors import MissingInput, Superseded, Unavailable
from segue.model.artifact import compute_checksum
from segue.model.ledger import Query
from segue.model.media_file import MediaFile
from segue.model.object_store import Object
from segue.model.record import Record, State
from segue_support.cloud_events import build_object_event, post_event
from segue_support.processes import Process
from segue_support.seeds import parse_seeds

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
KILLS = 10
PROCESSES = 2
QUIET_S = 150.0
JOBS = """
import hashlib, json, os, time


def note(job, uri, content):
    line = json.dumps([job, uri, content]) + "\\n"
    file = os.open(os.environ["RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)
    time.sleep(0.004)


def digest(media):
    with open(media.path, "rb") as file:
        content = hashlib.sha256(file.read()).hexdigest()
    note("digest", media.uri, content)
    return {"uri": media.uri, "content": content, "filler": "x" * 3000}


def left(above):
    note("left", above["uri"], above["content"])
    return {"uri": above["uri"], "content": above["content"], "filler": "y" * 20000}


def right(above):
    note("right", above["uri"], above["content"])
    return {"uri": above["uri"], "content": above["content"]}


def join(left, right):
    assert (left["uri"], left["content"]) == (right["uri"], right["content"])
    note("join", left["uri"], left["content"])
    return {"uri": left["uri"], "content": left["content"]}
"""
GRAPH = """
include: ["*.wav"]
pipelines: {sides: [left, right]}
jobs:
  digest: {run: "noted_jobs:digest", needs: {media: source}, writes: application/json}
  left: {run: "noted_jobs:left", needs: {above: digest}, writes: application/json}
  right: {run: "noted_jobs:right", needs: {above: digest}, writes: application/json}
  join: {run: "noted_jobs:join", needs: {left: left, right: right}, writes: application/json}
"""
NAMES = ("digest", "left", "right", "join")
# What is killed, in proportion.
VICTIMS = {
    "backfill": {"backfill": 2, "supervisor": 2, "child": 3, "everything": 1},
    "up": {"up": 2, "stream": 2, "supervisor": 2, "child": 3, "everything": 1},
    "serve": {"server": 2, "stream": 3, "supervisor": 1, "child": 2},
}


@dataclass
class Figures:
    """What rounds of kills have shown."""

    kills: Counter[str] = field(default_factory=Counter)
    files: int = 0
    results: int = 0
    again: int = 0  # results that were computed again after a kill
    retried: int = 0  # files that were blamed for a kill, and tried again by hand
    violations: list[str] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Add the figures of another round."""
        self.kills += other.kills
        self.files += other.files
        self.results += other.results
        self.again += other.again
        self.retried += other.retried
        self.violations += other.violations


class Round:
    """One round: a folder, the system on it, and what happens to both."""

    def __init__(self, place: Path, seed: int, mode: str, kills: int = KILLS) -> None:
        self.place = place
        self.rng = random.Random(seed)
        self.mode = mode
        self.kills = kills
        self.figures = Figures()
        self._contents = 0
        self._stop = threading.Event()
        self._changes = random.Random(seed + 1)
        self._port = 0
        self._processes: dict[str, Process] = {}
        (place / "noted_jobs.py").write_text(JOBS)
        (place / "jobs.yaml").write_text(GRAPH)
        (place / "music").mkdir()
        (place / "staging").mkdir()
        (place / "runs").touch()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        self._environ = clean | {
            "RUNS": str(place / "runs"),
            "SEGUE_GRAPH": str(place / "jobs.yaml"),
            "SEGUE_CATALOGUE": str(place / "music"),
        }
        self._store = connect_store(str(place / "music"))

    # --- the system ---

    def run(self) -> Figures:
        """Kill while files change, wait until it is quiet, and check."""
        try:
            self._start_all()
            changes = threading.Thread(target=self._change_files)
            changes.start()
            try:
                self._kill_some()
            finally:
                self._stop.set()
                changes.join()
            self._wait_until_quiet()
            self._check()
        finally:
            for process in self._processes.values():
                process.kill()
            for pid in self._list_processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return self.figures

    def _start_all(self) -> None:
        for name in ("server", "stream") if self.mode == "serve" else (self.mode,):
            self._start(name)

    def _start(self, name: str) -> None:
        old = self._processes.get(name)
        if old is not None:
            old.kill()
        command = {
            "backfill": [
                SEGUE,
                "backfill",
                "--prefix",
                "music",
                "--all",
                "--processes",
                str(PROCESSES),
            ],
            "up": [SEGUE, "up", "music", "--processes", str(PROCESSES), "--json"],
            "server": [sys.executable, "-m", "segue_functions.server", "--port", "0"],
            "stream": [SEGUE, "stream", "--all", "--processes", str(PROCESSES)],
        }[name]
        self._processes[name] = process = Process(
            command, cwd=str(self.place), environ=self._environ
        )
        if name == "server":
            self._port = int(process.wait_until_started()["port"])

    def _kill_some(self) -> None:
        victims = VICTIMS[self.mode]
        while sum(self.figures.kills.values()) < self.kills:
            self._wait_for_work()
            for name, process in list(self._processes.items()):
                if (
                    not process.is_running
                ):  # a backfill has ended, or its supervisor's loss ended it
                    self._start(name)
            (kind,) = self.rng.choices(list(victims), list(victims.values()))
            found = self._list_processes()
            candidates = [p for p, k in found.items() if kind in (k, "everything")]
            if not candidates:
                continue
            for pid in candidates if kind == "everything" else [self.rng.choice(candidates)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.figures.kills[kind] += 1
            if kind in ("backfill", "up", "everything"):
                self._start_all()
            elif kind in ("server", "stream"):
                self._start(kind)

    def _wait_for_work(self) -> None:
        """Wait until jobs run, and then for a random time."""
        runs = self.place / "runs"
        size, end_s = runs.stat().st_size, time.monotonic() + 15
        while runs.stat().st_size == size and time.monotonic() < end_s:
            if self.mode == "backfill" and not self._processes["backfill"].is_running:
                self._start("backfill")
            time.sleep(0.01)
        time.sleep(self.rng.random() * self.rng.choice([0.05, 0.3, 1.0]))

    def _list_processes(self) -> dict[int, str]:
        """Return this round's processes, and what each of them is."""
        mark = f"RUNS={self.place / 'runs'}".encode()
        found: dict[int, tuple[int, str]] = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, IndexError):
                folder = Path("/proc", pid)
                if mark not in (folder / "environ").read_bytes().split(b"\0"):
                    continue
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(pid)] = (int(parent), command)
        return {pid: self._name_process(pid, found) for pid in found}

    @staticmethod
    def _name_process(pid: int, found: dict[int, tuple[int, str]]) -> str:
        parent, command = found[pid]
        above = found.get(parent, (0, ""))[1]
        if "segue.worker" in command:
            return "child" if "segue.worker" in above else "supervisor"
        if "segue_functions.server" in command:
            return "server"
        for name in ("stream", "backfill", "up"):
            if f" {name} " in f"{command} ":
                return name
        return "other"

    # --- the files ---

    def _change_files(self) -> None:
        """Add, overwrite, rename and delete files until it is stopped."""
        number = 0
        while not self._stop.is_set():
            time.sleep(self._changes.random() * 0.06)
            there = sorted(p.name for p in (self.place / "music").iterdir())
            (what,) = self._changes.choices(
                ["add", "replace", "overwrite", "delete"], [50, 20, 10, 10]
            )
            if what == "add" or not there:
                number += 1
                self._put(f"{number:05}.wav")
            elif what == "replace":
                self._put(self._changes.choice(there))
            elif what == "overwrite":  # in place, as a careless program writes
                name = self._changes.choice(there)
                (self.place / "music" / name).write_bytes(self._new_content())
                self._announce(name)
            else:
                self._delete(self._changes.choice(there))

    def _new_content(self) -> bytes:
        self._contents += 1
        return b"%d " % self._contents * self._changes.randint(1, 400)

    def _put(self, name: str) -> None:
        staged = self.place / "staging" / name
        staged.write_bytes(self._new_content())
        os.rename(staged, self.place / "music" / name)
        self._announce(name)

    def _delete(self, name: str) -> None:
        media = self._find(name)
        os.unlink(self.place / "music" / name)
        if self.mode == "serve" and media is not None:
            self._send("deletion", build_object_event("deleted", media))

    def _find(self, name: str) -> MediaFile | None:
        try:
            found: Object = self._store.identify(name)
        except (MissingInput, Superseded):
            return None
        return found.to_media_file(self._store.uri(name))

    def _announce(self, name: str) -> None:
        media = self._find(name)
        if self.mode == "serve" and media is not None:
            self._send("arrival", build_object_event("finalized", media))

    def _send(self, function: str, event: CloudEvent) -> None:
        """Send an event as Eventarc does: again until the function has taken it."""
        while True:
            try:
                post_event(self._port, function, event)
            except Unavailable:
                time.sleep(0.05)
            else:
                return

    # --- the end ---

    def _wait_until_quiet(self) -> None:
        if self.mode == "backfill":
            self._backfill_until_complete()
            return
        end_s = time.monotonic() + QUIET_S
        retry_at_s = time.monotonic() + 5
        while (missing := self._find_missing()) and time.monotonic() < end_s:
            for name, process in self._processes.items():
                if not process.is_running:
                    self._start(name)
                    break
            if time.monotonic() > retry_at_s:
                retry_at_s = time.monotonic() + 5
                self._retry_failed()
            time.sleep(0.2)
        if missing:
            self.figures.violations.append(
                f"{len(missing)} not complete after {QUIET_S:g} s: {missing[:3]}"
            )

    def _backfill_until_complete(self) -> None:
        self._processes["backfill"].kill()
        for _ in range(5):
            code = self._run(
                "backfill", "--prefix", "music", "--all", "--processes", str(PROCESSES)
            )
            self._retry_failed()
            self._run("reconcile", "--prefix", "music", "--apply", "--yes")
            if code == 0 and not self._find_missing():
                return
        self.figures.violations.append(
            f"not complete after 5 backfills: {self._find_missing()[:3]}"
        )

    def _run(self, *arguments: str) -> int:
        return subprocess.run(
            [SEGUE, *arguments],
            cwd=self.place,
            env=self._environ,
            capture_output=True,
            timeout=QUIET_S,
            check=False,
        ).returncode

    def _retry_failed(self) -> None:
        """Try again what is blamed for the kill of its child, as a user would."""
        blamed = [
            (record.uri, entry.job)
            for record in self._read_records()
            if record.deleted_at is None
            for entry in record.results.values()
            if entry.state is State.FAILED
        ]
        if blamed:
            self.figures.retried += len(blamed)
            self._run("retry", "--yes")

    def _read_records(self) -> list[Record]:
        ledger = connect_ledger(f"sqlite:///{self.place}/.segue/ledger.db")
        try:
            return list(ledger.find(Query(), limit=100_000))
        finally:
            ledger.close()

    def _list_contents(self) -> dict[str, str]:
        """Return the hash of each file's content, by its URI."""
        return {
            self._store.uri(path.name): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (self.place / "music").iterdir()
        }

    def _find_missing(self) -> list[str]:
        """Return what is not as it should be once everything is done."""
        records = {record.uri: record for record in self._read_records()}
        there = {self._store.uri(p.name) for p in (self.place / "music").iterdir()}
        missing = [
            f"{uri} is recorded, and gone"
            for uri, record in records.items()
            if uri not in there and record.deleted_at is None
        ]
        for uri in there:
            media = self._find(uri.rpartition("/")[2])
            record = records.get(uri)
            if record is None or record.deleted_at is not None:
                missing.append(f"{uri} is not recorded")
            elif media is None or record.version != media.version:
                missing.append(f"{uri} is recorded with other content")
            else:
                entries = {entry.job: entry for entry in record.results.values()}
                for name in NAMES:
                    entry = entries.get(name)
                    if entry is None or entry.state is not State.DONE:
                        state = "missing" if entry is None else entry.state
                        missing.append(f"{uri}: {name} is {state}")
                    elif entry.lease is not None or entry.notify:
                        missing.append(f"{uri}: {name} has work left")
        return missing

    def _check(self) -> None:
        """Hold the ledger and the artifacts against the files, and the runs against the claims."""
        found, violations = self.figures, self.figures.violations
        violations += self._find_missing()[:5]
        contents = self._list_contents()
        artifacts = connect_store(str(self.place / ".segue" / "artifacts"))
        lines = (self.place / "runs").read_text().splitlines()
        runs = Counter(tuple(json.loads(line)) for line in lines)
        beyond = 0
        found.again = sum(times - 1 for times in runs.values())
        for record in self._read_records():
            if record.deleted_at is not None:
                continue
            found.files += 1
            content = contents.get(record.uri)
            for fingerprint, entry in record.results.items():
                if entry.state is not State.DONE:
                    continue
                found.results += 1
                name = entry.job
                ((suffix, checksum),) = entry.checksums.items()
                data = artifacts.read(record.name_artifact(fingerprint, suffix))
                if compute_checksum(data) != checksum:
                    violations.append(f"{record.uri}: the bytes of {name} are not those recorded")
                elif json.loads(data)["content"] != content:
                    violations.append(f"{record.uri}: {name} is of other content")
                if not runs[name, record.uri, content]:
                    violations.append(f"{record.uri}: {name} is done, and never ran")
                beyond += max(0, runs[name, record.uri, content] - entry.attempts)
        # A pool tries a lost child's file again without a new claim: the file's whole line.
        in_flight = len(NAMES) * (found.kills["child"] + PROCESSES * found.kills["supervisor"])
        if beyond > in_flight + found.retried:
            violations.append(f"{beyond} runs without a claim, of {in_flight} in flight")


def run_round(seed: int, *, kills: int = KILLS, mode: str | None = None) -> Figures:
    """Run one round in a folder of its own; keep the folder if a promise was broken."""
    place = Path(tempfile.mkdtemp(prefix="segue-killed-"))
    mode = mode or list(VICTIMS)[seed % len(VICTIMS)]
    figures = Round(place, seed, mode, kills).run()
    if figures.violations:
        figures.violations = [f"seed {seed} ({mode}, {place}): {v}" for v in figures.violations]
    else:
        shutil.rmtree(place)
    return figures


def main(argv: list[str] | None = None) -> int:
    """Run rounds and print the figures; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m segue_support.killed", description=__doc__)
    parser.add_argument("--seeds", type=parse_seeds, default=range(20), metavar="FIRST:END")
    arguments = parser.parse_args(argv)
    total = Figures()
    for seed in arguments.seeds:
        total.add(run_round(seed))
        print(f"seed {seed}: {total.kills.total()} kills", file=sys.stderr, flush=True)
    for violation in total.violations:
        print(violation)
    by_kind = ", ".join(f"{kind} {count}" for kind, count in sorted(total.kills.items()))
    print(
        f"{total.kills.total()} SIGKILLs ({by_kind}): {total.results:,} results of {total.files:,} "
        f"files, {len(total.violations)} lost or wrong, {total.again} computed again, "
        f"{total.retried} retried by hand"
    )
    return int(bool(total.violations))


if __name__ == "__main__":
    sys.exit(main())
