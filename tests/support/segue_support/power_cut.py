"""Cuts the power at random moments, and checks what the disk holds then.

python -m segue_support.power_cut --seeds 0:50

Each seed is one cut, during a backfill (or just after it has ended) or during ``segue up`` while
files are uploaded. Right after the cut, every result that the ledger calls done must be on the disk
with the bytes of its checksum; after a backfill that ended with 0, all of them must be done. Then
the same command runs once more, and must complete every file.

The disk is an ext4 image, mounted through a loop device. The image is a file on a second ext4,
which is mounted in the same way and stands for the disk's hardware: its page cache is the disk's
write cache. The cut is the ioctl ``FS_IOC_SHUTDOWN`` on the second file system with the flag that
its journal is not flushed, as file systems' own tests do it (xfstests, ``src/godown``). From one
instant on nothing more is written, and what the first file system had sent to its device but not
flushed is lost, in any order. So a program that only starts writing (``sync_file_range``), or
copies an image while it is in use, would not pass for durable. What was killed in the machine is
killed; then both file systems are mounted again, and recover their journals as after a cut.

Mounting needs root, or ``sudo`` without a password, and loop devices.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from segue.adapters.connect import connect_ledger
from segue.model.artifact import compute_checksum
from segue.model.ledger import Query, find_records
from segue.model.record import State
from segue_support.killed import GRAPH, JOBS, NAMES, SEGUE
from segue_support.processes import Process
from segue_support.seeds import parse_seeds

if TYPE_CHECKING:
    from segue.model.record import Record

HARDWARE_MB, DISK_MB = 200, 96
FILES = 80
MAX_WORK_S = (0.8, 4.0)  # from the first job to the cut
REPAIR_S = 150.0
UNMOUNT_S = 20.0
# FS_IOC_SHUTDOWN with "no log flush", https://github.com/torvalds/linux, include/uapi/linux/fs.h
SHUT_DOWN = """
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack("I", 2))
"""


def describe_missing() -> str | None:
    """Return what this machine lacks to cut the power of a disk; None if it lacks nothing."""
    lacking = [tool for tool in ("mkfs.ext4", "mount", "umount") if _find_tool(tool) is None]
    if lacking:
        return f"power cuts need {lacking[0]}; install e2fsprogs and mount"
    if not os.path.exists("/dev/loop-control"):
        return "power cuts need loop devices, and this machine has no /dev/loop-control"
    if os.geteuid() != 0 and _run("true", check=False) != 0:
        return "power cuts need root, or sudo without a password, to mount a disk"
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        try:
            stack.enter_context(Disk(Path(folder)))
        except subprocess.CalledProcessError as error:
            return f"power cuts need to mount a disk; this failed: {' '.join(error.cmd)}"
    return None


class Disk:
    """A disk whose power can be cut; ``path`` is where it is mounted."""

    def __init__(self, folder: Path) -> None:
        self._hardware_image, self._hardware = folder / "hardware.img", folder / "hardware"
        self._image, self.path = self._hardware / "disk.img", folder / "disk"

    def __enter__(self) -> Self:
        for folder in (self._hardware, self.path):
            folder.mkdir()
        try:
            self._format(self._hardware_image, HARDWARE_MB)
            self._mount(self._hardware_image, self._hardware)
            self._format(self._image, DISK_MB)
            self._mount(self._image, self.path)
            os.sync()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._unmount()
        self._hardware_image.unlink(missing_ok=True)

    def cut(self) -> None:
        """Cut the power: from now on nothing reaches the disk, and everything on it fails."""
        _run(sys.executable, "-c", SHUT_DOWN, str(self._hardware))

    def restart(self) -> None:
        """Mount the disk again, with what it held; nobody may use it meanwhile."""
        self._unmount()
        self._mount(self._hardware_image, self._hardware)
        self._mount(self._image, self.path)

    @staticmethod
    def _format(image: Path, size_mb: int) -> None:
        with image.open("wb") as file:
            file.truncate(size_mb << 20)
        owner = f"root_owner={os.getuid()}:{os.getgid()}"
        _run("mkfs.ext4", "-q", "-F", "-E", owner, str(image))

    @staticmethod
    def _mount(image: Path, folder: Path) -> None:
        _run("mount", "-o", "loop", str(image), str(folder))

    def _unmount(self) -> None:
        for folder in (self.path, self._hardware):
            end_s = time.monotonic() + UNMOUNT_S
            while os.path.ismount(folder):
                if _run("umount", str(folder), check=time.monotonic() > end_s) != 0:
                    time.sleep(0.1)  # a process that was killed is not gone yet


def _find_tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _run(name: str, *arguments: str, check: bool = True) -> int:
    """Run a command as root."""
    command = [_find_tool(name) or name, *arguments]
    if os.geteuid() != 0:
        command = ["sudo", "-n", *command]
    done = subprocess.run(command, check=check, capture_output=True)
    return done.returncode


@dataclass
class PowerCutReport:
    """What some power cuts have shown."""

    cuts: int = 0
    running: int = 0  # cuts during work; the others came after a backfill had ended
    done: int = 0  # results that the ledger called done after a cut
    files: int = 0  # that were complete after the next run
    violations: list[str] = field(default_factory=list)

    def add(self, other: PowerCutReport) -> None:
        """Add another report."""
        self.cuts += other.cuts
        self.running += other.running
        self.done += other.done
        self.files += other.files
        self.violations += other.violations


class PowerCut:
    """One power cut, drawn from a seed, on a project that is on the disk."""

    def __init__(self, disk: Disk, outside: Path, seed: int) -> None:
        self._disk = disk
        self._rng = random.Random(seed)
        self._name = "up" if seed % 2 else "backfill"
        self._report = PowerCutReport(cuts=1)
        self._seed = seed
        self._place = disk.path / "project"
        self._runs = outside / "runs"
        self._uploaded = 0
        (self._place / "music").mkdir(parents=True)
        (self._place / "staging").mkdir()
        (self._place / "noted_jobs.py").write_text(JOBS)
        (self._place / "jobs.yaml").write_text(GRAPH)
        self._runs.touch()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("SEGUE_")}
        self._environ = clean | {"RUNS": str(self._runs), "SEGUE_GRAPH": "jobs.yaml"}

    def run(self) -> PowerCutReport:
        """Work, cut, check, repair, and check again."""
        for _ in range(self._rng.randrange(1, FILES) if self._name == "up" else FILES):
            self._upload()
        os.sync()
        ended_with = self._work_until_cut()
        self._disk.restart()
        self._check_cut(ended_with)
        if self._name == "up":
            self._repair_with_up()
        else:
            self._repair_with_backfill()
        self._report.files += len(self._list_contents())
        return self._report

    def _upload(self) -> None:
        self._uploaded += 1
        staged = self._place / "staging" / "file"
        staged.write_bytes(b"%d of %d " % (self._uploaded, self._seed) * 50)
        os.rename(staged, self._place / "music" / f"{self._uploaded:04}.wav")

    def _start(self) -> Process:
        arguments = {
            "backfill": ["backfill", "--prefix", "music", "--all", "--processes", "2"],
            "up": ["up", "music", "--processes", "2", "--json"],
        }[self._name]
        return Process([SEGUE, *arguments], cwd=str(self._place), environ=self._environ)

    def _work_until_cut(self) -> int | None:
        """Start the command, cut the power while it works; return its exit code if it had one."""
        stop = threading.Event()
        uploads = threading.Thread(target=self._keep_uploading, args=(stop,))
        with self._start() as process:
            end_s = time.monotonic() + REPAIR_S
            while not self._runs.stat().st_size and process.is_running:
                if time.monotonic() > end_s:
                    raise TimeoutError(f"no job has run in {REPAIR_S:g} s: {process.text[-20:]}")
                time.sleep(0.005)
            if self._name == "up":
                uploads.start()
            max_s = self._rng.choice(MAX_WORK_S)
            moment_s = time.monotonic() + self._rng.random() * max_s
            while process.is_running and (left_s := moment_s - time.monotonic()) > 0:
                time.sleep(min(0.02, left_s))
            ended_with = None if process.is_running else process.wait()
            self._disk.cut()
            stop.set()
        if self._name == "up":
            uploads.join()
        self._report.running += ended_with is None
        return ended_with

    def _keep_uploading(self, stop: threading.Event) -> None:
        with contextlib.suppress(OSError):  # the disk is gone
            while not stop.wait(self._rng.random() * 0.04):
                self._upload()

    def _check_cut(self, ended_with: int | None) -> None:
        """Check what the ledger and the artifacts are right after the cut."""
        records = self._read_records()
        for record in records:
            for fingerprint, entry in record.results.items():
                if entry.state is not State.DONE:
                    continue
                self._report.done += 1
                data, checksum = self._read_artifact(record, fingerprint)
                if data is None or compute_checksum(data) != checksum:
                    what = "gone" if data is None else f"other bytes ({len(data)} of them)"
                    self._blame(f"{entry.job} of {record.uri} is done, and its artifact is {what}")
        if ended_with is not None and self._name == "backfill":
            if ended_with != 0:
                self._blame(f"the backfill ended with {ended_with} before the cut")
            self._check_complete()

    def _repair_with_backfill(self) -> None:
        with self._start() as process:
            code = process.wait(timeout_s=REPAIR_S)
            if code != 0:
                self._blame(f"the backfill after the cut ended with {code}: {process.text[-5:]}")
        self._check_complete()

    def _repair_with_up(self) -> None:
        end_s = time.monotonic() + REPAIR_S
        with self._start() as process:
            while self._find_incomplete() and time.monotonic() < end_s:
                time.sleep(0.2)
            os.kill(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait()
        self._check_complete()

    def _check_complete(self) -> None:
        for what in self._find_incomplete():
            self._blame(what)

    def _find_incomplete(self) -> list[str]:
        """Return what is not done, or not made from the content that is there."""
        records = {record.uri: record for record in self._read_records()}
        found = []
        for uri, content in self._list_contents().items():
            record = records.get(uri)
            results = record.results if record is not None else {}
            by_job = {entry.job: fingerprint for fingerprint, entry in results.items()}
            for job in NAMES:
                fingerprint = by_job.get(job)
                if record is None or fingerprint is None:
                    found.append(f"{job} of {uri} is missing")
                    continue
                data, checksum = self._read_artifact(record, fingerprint)
                if data is None:
                    found.append(f"{job} of {uri} is {results[fingerprint].state}")
                elif compute_checksum(data) != checksum:
                    found.append(f"{job} of {uri} has another checksum than in the ledger")
                elif json.loads(data)["content"] != content:
                    found.append(f"{job} of {uri} was made from other content")
        return found

    def _read_artifact(self, record: Record, fingerprint: str) -> tuple[bytes | None, str]:
        """Return an artifact's bytes, if there is one, and its checksum."""
        for suffix, checksum in record.results[fingerprint].checksums.items():
            name = record.name_artifact(fingerprint, suffix)
            with contextlib.suppress(FileNotFoundError):
                return (self._place / ".segue" / "artifacts" / name).read_bytes(), checksum
        return None, ""

    def _list_contents(self) -> dict[str, str]:
        """Return the hash of each file's content, by its URI."""
        return {
            f"file://{path}": hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((self._place / "music").iterdir())
        }

    def _read_records(self) -> list[Record]:
        path = self._place / ".segue" / "ledger.db"
        if not path.exists():
            return []
        ledger = connect_ledger(f"sqlite:///{path}")
        try:
            return list(find_records(ledger, Query()))
        finally:
            ledger.close()

    def _blame(self, what: str) -> None:
        self._report.violations.append(f"seed {self._seed} ({self._name}): {what}")


def run_power_cuts(seeds: range, *, show: bool = False) -> PowerCutReport:
    """Cut the power once for each seed, each time of a new disk."""
    total = PowerCutReport()
    for seed in seeds:
        with (
            tempfile.TemporaryDirectory(prefix="segue-power-cut-") as folder,
            Disk(Path(folder)) as disk,
        ):
            report = PowerCut(disk, Path(folder), seed).run()
        total.add(report)
        for violation in report.violations[:5]:
            print(f"  {violation}", file=sys.stderr, flush=True)
        if show:
            print(f"seed {seed}: {report.done} done at the cut, {report.files} files", flush=True)
    return total


def main(argv: list[str] | None = None) -> int:
    """Cut the power, print the figures; return 1 after a violation, 2 if it cannot be done here."""
    parser = argparse.ArgumentParser(prog="python -m segue_support.power_cut")
    parser.add_argument("--seeds", type=parse_seeds, default=range(50), metavar="FIRST:END")
    parser.add_argument("--verbose", action="store_true", help="Print a line for each cut.")
    arguments = parser.parse_args(argv)
    if reason := describe_missing():
        print(f"power cuts: NOT RUN: {reason}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without unmounting the disk
    report = run_power_cuts(arguments.seeds, show=arguments.verbose)
    print(
        f"power cuts: {report.cuts} ({report.running} during work), {report.done:,} results done "
        f"when the power was cut, {report.files:,} files complete after the next run, "
        f"{len(report.violations)} violations"
    )
    return int(bool(report.violations))


if __name__ == "__main__":
    sys.exit(main())
