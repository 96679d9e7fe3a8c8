"""What runs in a worker: for whoever owns the pool, and by way of a file for other processes.

The file is only for people to see what goes on; no decision depends on it.
"""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime

import msgspec

from segue.adapters.urls import find_file
from segue.clock import utc_now
from segue.model.lease_owner import build_owner, is_lost, is_of_this_machine
from segue.model.record import Lease

SUFFIX = ".running"


class RunningJob(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a job that has been running for a while."""

    job: str
    uris: tuple[str, ...]  # of its files, more than one in a batch; none: it is being set up
    since: datetime
    fraction: float | None = None  # that is done, as the job says; None: it has not
    text: str = ""  # what it is doing, as it says


class RunningFile(msgspec.Struct, frozen=True, kw_only=True):
    """What runs in one process."""

    owner: str  # a name of that process
    running: tuple[RunningJob, ...]


_decode = msgspec.json.Decoder(RunningFile).decode


def list_running_folders(ledger: str) -> list[str]:
    """Return the folder where the workers on a ledger write what runs; none if it is in a cloud."""
    path = find_file(ledger)
    return [] if path is None else [f"{path}{SUFFIX}"]


class RunningWriter:
    """Writes what runs in this process to a file in some folders, as long as something does."""

    def __init__(self, folders: Collection[str]) -> None:
        self._owner = build_owner()
        name = f"{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        self._paths = [os.path.join(folder, name) for folder in folders]
        self._is_written = False

    def write(self, running: Sequence[RunningJob]) -> None:
        """Write what runs now; ignore errors, as no work must fail because nobody can see it."""
        if not running:
            self.remove()
            return
        data = msgspec.json.encode(RunningFile(owner=self._owner, running=tuple(running)))
        for path in self._paths:
            with contextlib.suppress(OSError):
                # Each time: another process that ends removes the folder if it is empty.
                os.makedirs(os.path.dirname(path), exist_ok=True)
                if not self._is_written:
                    _remove_stale_files(os.path.dirname(path))
                with open(f"{path}~", "wb") as file:
                    file.write(data)
                os.replace(f"{path}~", path)
        self._is_written = True

    def remove(self) -> None:
        """Remove the files."""
        for path in self._paths if self._is_written else ():
            with contextlib.suppress(OSError):
                os.unlink(path)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))  # unless other processes have files there
        self._is_written = False


def read_running_jobs(folders: Iterable[str]) -> list[RunningJob]:
    """Return what runs in all processes that write to some folders and are alive, longest first.

    What a process of another machine, or container, has left there would count as alive for ever.
    """
    files = [
        file
        for folder in folders
        for _, file in _read_files(folder)
        if is_of_this_machine(file.owner) and is_alive(file)
    ]
    return sorted((job for file in files for job in file.running), key=lambda job: job.since)


def find_running_jobs(ledger: str, uri: str, owner: str) -> list[RunningJob]:
    """Return what the process that owns a lease runs on a file, if it is on this machine."""
    process = owner.rpartition("/")[0]
    return [
        job
        for folder in list_running_folders(ledger)
        for _, file in _read_files(folder)
        if is_alive(file) and file.owner.rpartition("/")[0] == process
        for job in file.running
        if uri in job.uris
    ]


def is_alive(file: RunningFile) -> bool:
    """Return whether the process that has written a file can still be running."""
    return not is_lost(Lease(owner=file.owner, expires_at=utc_now()))


def _read_files(folder: str) -> Iterator[tuple[str, RunningFile]]:
    for path in glob.glob(f"{glob.escape(folder)}/*{SUFFIX}"):
        with contextlib.suppress(OSError, msgspec.MsgspecError), open(path, "rb") as file:
            yield path, _decode(file.read())


def _remove_stale_files(folder: str) -> None:
    """Remove the files of processes that were killed."""
    for path, file in _read_files(folder):
        if not is_alive(file):
            with contextlib.suppress(OSError):
                os.unlink(path)
