"""The messages between the pool, its supervisor and the child processes, and their transport.

The pool and its supervisor share a pair of sockets, and so do the supervisor and each child. What a
process has sent can still be received after its death.
"""

from __future__ import annotations

import math
import select
import socket
import struct
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec

from segue.model.artifact import build_references
from segue.model.graph import Graph
from segue.model.media_file import MediaFile
from segue.model.transitions import Result

_LENGTH = struct.Struct("<I")
_RECEIVE_BYTES = 2**16
# No message is larger, unless a job writes to its process's socket.
MAX_BYTES = 2**26


class Task(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """The jobs to run on one version of a file."""

    task_id: int  # repeated in the reports; unique among unfinished tasks
    media: MediaFile
    run: tuple[str, ...]  # parents first
    # Parent job that is not in ``run``, or job.output → its artifact's name; of another namespace,
    # its URI.
    inputs: Mapping[str, str] = {}
    checksums: Mapping[str, str] = {}  # of those artifacts, as far as they are known
    owner: str = ""  # of the claim on these jobs
    here: tuple[str, ...] = ()  # those of ``run`` that the child runs now; empty: all

    def continue_after(self, results: Collection[Result]) -> Task:
        """Return the task without the jobs that have a result."""
        if not results:
            return self
        finished = {result.job for result in results}
        written = [each for r in results for each in build_references(r.job, r.artifacts)]
        return msgspec.structs.replace(
            self,
            run=tuple(job for job in self.run if job not in finished),
            inputs={**self.inputs, **{reference: name for reference, name, _ in written}},
            checksums={**self.checksums, **{reference: c for reference, _, c in written if c}},
        )


class Report(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """The results of some of a task's jobs; each job is reported once."""

    task_id: int
    results: tuple[Result, ...]
    finished: bool  # all jobs of the task have been reported


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """The settings of a pool, for its supervisor and all children."""

    graph: Graph
    jobs: frozenset[str]  # preloaded by the supervisor; children load others when needed
    artifacts: str
    ledger: str | None  # the URL of the one with the tasks' claims
    saves_numba_cache: bool  # keep what numba compiles for later runs
    folder: str  # for the temporary files of all processes
    processes: int
    setup_s: float
    warmup_s: float
    max_growth_gib: float
    max_tasks: int
    requires_gpus: bool = False  # a job that needs a GPU does not run without one


class Submission(msgspec.Struct, array_like=True):
    """Pool to supervisor: run these tasks, or stop the children after their current files."""

    tasks: list[Task] = []
    flush: bool = False  # no batch is to wait for further tasks
    close: bool = False
    secrets: Mapping[str, Mapping[str, str]] = {}  # by job and parameter; sent before all tasks


class Aborted(msgspec.Struct, array_like=True, tag="aborted"):
    """Child to supervisor to pool: no file can be processed, for this reason."""

    message: str
    kind: str | None = None  # of the transient error; None: the configuration is wrong


class Line(msgspec.Struct, array_like=True, gc=False):
    """Supervisor to pool: a line that a job, or code that it calls, has printed."""

    job: str  # empty: none was running
    uri: str  # of the file, or the first of some; empty: the job was being set up
    files: int  # in the call
    text: str  # printable


class RunningCall(msgspec.Struct, array_like=True):
    """Supervisor to pool: a call that has been running for a while."""

    job: str
    uris: tuple[str, ...]  # none: the job is being set up
    since_s: float  # on the monotonic clock
    fraction: float | None = None  # that is done, as the job says; None: it has not
    text: str = ""


class Update(msgspec.Struct, array_like=True):
    """Supervisor to pool; the first is empty: all modules are imported."""

    reports: list[Report] = []
    error: Aborted | None = None
    batch_files: int | None = None  # how many files batches need; only in the first
    lines: list[Line] = []  # printed before these reports
    running: list[RunningCall] | None = None  # None: as before
    batch_jobs: tuple[str, ...] = ()  # whose files these are; only in the first


class Phase(IntEnum):
    """What a child is doing with a job."""

    SETUP = 1  # import, construction, setup()
    COLD = 2  # the first call in this process, which compiles and loads things
    CALL = 3


class Started(msgspec.Struct, array_like=True, tag="started", gc=False):
    """Child to supervisor: the job that runs from now on; sent before it can do any harm."""

    serial: int  # the task's number
    job: str
    phase: Phase
    since_s: float  # on the monotonic clock, which is the same in all processes
    last_serial: int  # of the tasks that are started; more than one in a batch
    files: int = 1  # in this call


class Done(msgspec.Struct, array_like=True, tag="done", gc=False):
    """Child to supervisor: the result of one job of a task."""

    serial: int
    result: Result
    cold: bool = False  # this was the job's first call in this process
    # What else runs may have caused this failure: the child exits, and the task is to run alone.
    in_doubt: bool = False


class Printed(msgspec.Struct, array_like=True, tag="printed"):
    """Child to supervisor: a mark in its pipe ends what was printed before this message."""


# A child's message is a list: whether it has printed anything, what it has finished, and then what
# it starts, if anything.
Frame = Started | Done | Aborted | Printed

encode = msgspec.msgpack.Encoder().encode
decode_submission = msgspec.msgpack.Decoder(Submission).decode
decode_update = msgspec.msgpack.Decoder(Update).decode
decode_tasks = msgspec.msgpack.Decoder(list[Task]).decode  # an empty list takes tasks back
decode_frames = msgspec.msgpack.Decoder(list[Frame]).decode


class Channel:
    """One end of a pair of sockets: sends and receives whole messages, and never blocks."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self._unsent = bytearray()
        self._rest = bytearray()

    @property
    def has_unsent(self) -> bool:
        """Whether something is left to ``flush``."""
        return bool(self._unsent)

    def send(self, message: Any) -> None:
        """Send a message as far as the socket takes it now; ``flush`` sends the rest."""
        data = encode(message)
        self._unsent += _LENGTH.pack(len(data))
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Send what is left, as far as the socket takes it now."""
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):  # receive() will notice
            self._unsent.clear()

    def drain(self, timeout_s: float = math.inf) -> None:
        """Send all that is left, however long that takes, or as much as goes until the timeout."""
        end_s = time.monotonic() + timeout_s
        while self._unsent and (left_s := end_s - time.monotonic()) > 0:
            self._poll(select.POLLOUT, None if left_s == math.inf else left_s)
            self.flush()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until there is something to receive; meanwhile, send what is left."""
        self._poll(select.POLLIN | (select.POLLOUT if self._unsent else 0), timeout_s)
        self.flush()

    def _poll(self, events: int, timeout_s: float | None) -> None:
        poll = select.poll()
        poll.register(self.socket, events)
        poll.poll(None if timeout_s is None else max(0.0, timeout_s * 1e3))

    def receive(self) -> list[bytes] | None:
        """Return all messages that have arrived; None once the other end is closed.

        Bytes that cannot be a message end the list as an empty one, which cannot be decoded.
        """
        received = 0
        while received < MAX_BYTES:
            try:
                data = self.socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if not data and not received:
                return None
            received += len(data)
            self._rest += data
            if len(data) < _RECEIVE_BYTES:  # nothing is left
                break
        messages, start = [], 0
        while start + _LENGTH.size <= len(self._rest):
            (size,) = _LENGTH.unpack_from(self._rest, start)
            if size > MAX_BYTES:
                messages.append(b"")
                start = len(self._rest)
                break
            end = start + _LENGTH.size + size
            if end > len(self._rest):
                break
            messages.append(bytes(self._rest[start + _LENGTH.size : end]))
            start = end
        del self._rest[:start]
        return messages
