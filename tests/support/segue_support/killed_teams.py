"""Kills the workers of three namespaces at random moments while files arrive and are requested.

python -m segue_support.killed_teams --seeds 0:20

Each seed is a round on the emulators of Firestore, Pub/Sub and Cloud Storage: files arrive in the
first namespace, or are requested in the last one, or both, and some are deleted, while workers and
the functions are killed and started again. Then the namespaces run until they are quiet, and their
ledgers, their artifacts and the noted runs of the jobs are held against the files.

Nothing may be lost, nothing may be left over, and a job may run again for a file only if a worker
was killed that had claimed it.
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
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from segue.adapters.connect import connect_store
from segue.model.artifact import compute_checksum
from segue.model.ledger import Query
from segue.model.record import LEASED
from segue_support import emulators
from segue_support.cloud_teams import GRAPHS, JOB_OF, CloudTeams
from segue_support.seeds import parse_seeds

KILLS, FILES = 10, 100
DELETED = 0.15  # of the files
QUIET_S = 150.0
ANY_MOMENT = 0.3  # of the kills; the others are in the middle of a job
CLAIMED_S = 3.0  # to wait for one
SWEEP_EVERY_S = 5.0
WRITTEN_S = 0.1  # until what a process has sent to the ledger is written
# What is killed, in proportion.
VICTIMS = {"functions": 1, "platform": 2, "rhythm": 2, "moods": 2}


@dataclass
class TeamFigures:
    """What rounds of kills have shown."""

    kills: Counter[str] = field(default_factory=Counter)
    files: int = 0
    results: int = 0
    in_flight: int = 0  # jobs that a worker had claimed when it was killed
    again: int = 0  # results that were computed again after a kill
    swept: int = 0  # messages that sweeps sent again
    violations: list[str] = field(default_factory=list)

    def add(self, other: TeamFigures) -> None:
        """Add the figures of another round."""
        self.kills += other.kills
        self.files += other.files
        self.results += other.results
        self.in_flight += other.in_flight
        self.again += other.again
        self.swept += other.swept
        self.violations += other.violations


class TeamsRound:
    """One round: the namespaces, whose processes run, and what happens to them."""

    def __init__(self, teams: CloudTeams, seed: int, *, kills: int, files: int) -> None:
        self.teams = teams
        self.figures = TeamFigures(files=files)
        self._rng = random.Random(seed)
        self._changes = random.Random(seed + 1)
        self._kills = kills
        self._contents: dict[str, str] = {}  # hash by URI
        self._deleted: list[str] = []
        self._claimed: Counter[tuple[str, str]] = Counter()  # by job and URI: kills during it

    def run(self) -> TeamFigures:
        """Kill while files come, wait until it is quiet, and check."""
        changes = threading.Thread(target=self._add_files)
        changes.start()
        try:
            self._kill_some()
        finally:
            changes.join()
        self._wait_until_quiet()
        self._check()
        return self.figures

    def _add_files(self) -> None:
        """Let files arrive in the first namespace, or request them in the last one, or both.

        Some are deleted while the namespaces work on them.
        """
        for number in range(self.figures.files):
            time.sleep(self._changes.random() * 0.3)
            data = b"%d" % self._changes.getrandbits(64)
            media = self.teams.upload(f"{number:04}.wav", data)
            self._contents[media.uri] = hashlib.sha256(data).hexdigest()
            how = self._changes.choice([("arrive",), ("request",), ("arrive", "request")])
            for what in self._changes.sample(how, len(how)):
                if what == "arrive":
                    self.teams.send("finalized", media)
                else:
                    self.teams.request("moods", media.uri)
            if self._changes.random() < DELETED:
                time.sleep(self._changes.random())
                self.teams.catalogue.delete(f"{number:04}.wav", generation=media.order)
                self.teams.send("deleted", media)
                self._deleted.append(media.uri)

    def _kill_some(self) -> None:
        for _ in range(self._kills):
            (name,) = self._rng.choices(list(VICTIMS), list(VICTIMS.values()))
            self._wait_for_work(name)
            self._kill(name)
            self.teams.start(name)

    def _wait_for_work(self, name: str) -> None:
        """Wait for a moment in the middle of a job, or for any moment."""
        if name == "functions" or self._rng.random() < ANY_MOMENT:
            time.sleep(self._rng.random())
            return
        self.teams.processes[name].wait_until_started()
        end_s = time.monotonic() + CLAIMED_S
        while not self._list_claimed(name) and time.monotonic() < end_s:
            time.sleep(0.01)

    def _list_claimed(self, name: str) -> list[tuple[str, str]]:
        """Return the jobs, with their files, that a namespace's worker has claimed."""
        owner = f"/{self.teams.processes[name].pid}/"
        return [
            (entry.job, record.uri)
            for record in self.teams.teams[name].ledger.find(Query(open=LEASED))
            for entry in record.results.values()
            if entry.lease is not None and owner in entry.lease.owner
        ]

    def _kill(self, name: str) -> None:
        """Kill a process, and note what it had claimed: it stands still while that is read."""
        process = self.teams.processes[name]
        os.kill(process.pid, signal.SIGSTOP)
        if name != "functions":
            time.sleep(WRITTEN_S)
            claimed = self._list_claimed(name)
            self._claimed.update(claimed)
            self.figures.in_flight += len(claimed)
        process.kill_leader()
        self.figures.kills[name] += 1

    def _wait_until_quiet(self) -> None:
        """Wait until all is done and nothing is left over, and sweep now and then meanwhile.

        What a killed worker has not acknowledged comes again; what else it left, the sweep finds.
        """
        end_s = time.monotonic() + QUIET_S
        sweep_at_s = time.monotonic() + SWEEP_EVERY_S
        while left := self._list_left():
            if time.monotonic() > end_s:
                self.figures.violations.append(
                    f"{len(left)} not complete after {QUIET_S:g} s: {left[:3]}"
                )
                return
            if time.monotonic() > sweep_at_s:
                for name in GRAPHS:
                    swept = self.teams.run(name, "sweep", "--grace", "0m")
                    self.figures.swept += swept["pending"] + swept["expired"]
                sweep_at_s = time.monotonic() + SWEEP_EVERY_S
            time.sleep(0.2)

    def _list_left(self) -> list[str]:
        """Return what is not as it should be once everything is done."""
        there = [uri for uri in self._contents if uri not in self._deleted]
        alive = [
            f"{uri} is deleted, but not in {name}"
            for name in GRAPHS
            for uri, record in zip(
                self._deleted, self.teams.read(name, *self._deleted), strict=True
            )
            if record is None or record.deleted_at is None
        ]
        return [*self.teams.list_missing(there), *alive, *self.teams.list_unfinished()]

    def _check(self) -> None:
        """Hold the ledgers and the artifacts against the files, and the runs against the kills."""
        violations = self.figures.violations
        runs = self.teams.count_runs()
        for uri, content in self._contents.items():
            for job in JOB_OF.values():
                times = runs.pop((job, uri, content), 0)
                self.figures.again += max(0, times - 1)
                least = 0 if uri in self._deleted else 1
                if not least <= times <= 1 + self._claimed[job, uri]:
                    violations.append(
                        f"{uri}: {job} ran {times} times, {self._claimed[job, uri]} of them killed"
                    )
        other = [
            f"{uri}: {job} ran on other content" for job, uri, _ in runs if uri in self._contents
        ]
        violations += other
        for name in GRAPHS:
            self._check_artifacts(name)

    def _check_artifacts(self, name: str) -> None:
        artifacts = self.teams.teams[name].settings.artifacts
        assert artifacts is not None
        with closing(connect_store(artifacts)) as store:
            for record in self.teams.read(name, *self._contents):
                if record is None:
                    continue  # it is missing, and that was said
                for fingerprint, entry in record.results.items():
                    for suffix, checksum in entry.checksums.items():
                        data = store.read(record.name_artifact(fingerprint, suffix))
                        self.figures.results += 1
                        if compute_checksum(data) != checksum:
                            self.figures.violations.append(
                                f"{record.uri}: the bytes of {entry.job} are not those recorded"
                            )
                        elif json.loads(data)["content"] != self._contents[record.uri]:
                            self.figures.violations.append(
                                f"{record.uri}: {entry.job} is of other content"
                            )


def run_teams_round(seed: int, *, kills: int = KILLS, files: int = FILES) -> TeamFigures:
    """Run one round in a folder of its own; keep the folder if a promise was broken."""
    place = Path(tempfile.mkdtemp(prefix="segue-killed-teams-"))
    with CloudTeams(place, f"test-{uuid.uuid4().hex[:12]}") as teams:
        teams.start_all()
        figures = TeamsRound(teams, seed, kills=kills, files=files).run()
        logs = {name: process.lines for name, process in teams.processes.items()}
    if figures.violations:
        (place / "logs.json").write_text(json.dumps(logs, indent=1))
        figures.violations = [f"seed {seed} ({place}): {v}" for v in figures.violations]
    else:
        shutil.rmtree(place)
    return figures


def main(argv: list[str] | None = None) -> int:
    """Run rounds and print the figures; return 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m segue_support.killed_teams", description=__doc__
    )
    parser.add_argument("--seeds", type=parse_seeds, default=range(20), metavar="FIRST:END")
    arguments = parser.parse_args(argv)
    total = TeamFigures()
    with contextlib.ExitStack() as entered:
        for emulator in (emulators.FIRESTORE, emulators.PUBSUB, emulators.STORAGE):
            os.environ[emulator.variable] = entered.enter_context(emulators.run_emulator(emulator))
        for seed in arguments.seeds:
            total.add(run_teams_round(seed))
            print(f"seed {seed}: {total.kills.total()} kills", file=sys.stderr, flush=True)
    for violation in total.violations:
        print(violation)
    by_victim = ", ".join(f"{name} {count}" for name, count in sorted(total.kills.items()))
    print(
        f"{total.kills.total()} SIGKILLs ({by_victim}): {total.results:,} results of "
        f"{total.files:,} files in {len(GRAPHS)} namespaces, {len(total.violations)} lost or "
        f"wrong; {total.in_flight} jobs in flight, {total.again} computed again, {total.swept} "
        "messages sent again by sweeps"
    )
    return int(bool(total.violations))


if __name__ == "__main__":
    sys.exit(main())
