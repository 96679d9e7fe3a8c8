"""Keeps programs running: starts them, waits until they are up, restarts them, and stops them.

No program outlives the supervisor, however that ends: each has a guard that reads a pipe which only
the supervisor holds open, and kills the program's process group when the pipe closes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import IO, Any

from segue.backoff import Backoff

GUARDED = 'exec 3<&0; (read -r _ <&3; kill -KILL 0) & exec "$@" </dev/null 3<&-'
START_S = 180.0  # the first start on a machine compiles what the jobs import
BACKOFF = Backoff(0.5, 15.0)
GOOD_S = 30.0  # after running for so long, a program's next exit is a new problem
TRIES = 5  # failed starts in a row before the program is given up
TAIL = 30  # last printed lines to keep
USAGE = 2  # the exit code of a wrong configuration: a restart would not help
MAX_LINE = 1 << 20


class ProgramState(StrEnum):
    """The state of a program."""

    STARTING = "starting"
    UP = "up"
    RESTARTING = "restarting"  # it exited, and will be started again after a pause
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"  # it did not start, and is not started again


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program to keep running; once up, it prints a JSON line with the action ``started``."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramStatus:
    """The status of one program."""

    name: str
    state: ProgramState
    pid: int | None = None
    restarts: int = 0
    started: Mapping[str, Any] = field(default_factory=dict)  # the line that it printed when up
    failure: str | None = None  # how it last exited unexpectedly
    tail: tuple[str, ...] = ()  # its last lines before that


class Supervisor:
    """Keeps programs running, each in its own thread.

    Parameters
    ----------
    programs : sequence of Program
    on_line : callable
        Called with a program's name and each JSON line that it prints.
    on_change : callable
        Called with a program's status after each change.
    first_pause_s, start_s : float, optional
        The first pause before a restart, and the time limit for a program to be up.
    """

    def __init__(
        self,
        programs: tuple[Program, ...],
        *,
        on_line: Callable[[str, dict[str, Any]], None],
        on_change: Callable[[ProgramStatus], None],
        first_pause_s: float = BACKOFF.first_s,
        start_s: float = START_S,
    ) -> None:
        self._runners = {
            p.name: _ProgramRunner(
                p, on_line, on_change, first_pause_s=first_pause_s, start_s=start_s
            )
            for p in programs
        }

    def start(self) -> None:
        """Start all programs at once."""
        for runner in self._runners.values():
            runner.thread.start()

    def list_statuses(self) -> list[ProgramStatus]:
        """Return the status of each program."""
        return [runner.status for runner in self._runners.values()]

    def find_status(self, name: str) -> ProgramStatus:
        """Return the status of one program."""
        return self._runners[name].status

    def stop(self, names: tuple[str, ...], *, grace_s: float | None) -> None:
        """Terminate programs, wait for them, and kill those that exceed the grace period."""
        runners = [self._runners[name] for name in names]
        for runner in runners:
            runner.end()
        until = None if grace_s is None else time.monotonic() + grace_s
        for runner in runners:
            runner.join(until)

    def kill(self) -> None:
        """Kill all programs at once."""
        for runner in self._runners.values():
            runner.kill()


class _ProgramRunner:
    """Keeps one program running."""

    def __init__(
        self,
        program: Program,
        on_line: Callable[[str, dict[str, Any]], None],
        on_change: Callable[[ProgramStatus], None],
        *,
        first_pause_s: float,
        start_s: float,
    ) -> None:
        self._program = program
        self._on_line = on_line
        self._on_change = on_change
        self._backoff = dataclasses.replace(BACKOFF, first_s=first_pause_s)
        self._start_s = start_s
        self._process: subprocess.Popen[str] | None = None
        self._lock, self._status_lock = threading.RLock(), threading.Lock()
        self._ending = threading.Event()
        self._tail: deque[str] = deque(maxlen=TAIL)
        self.status = ProgramStatus(name=program.name, state=ProgramState.STARTING)
        self.thread = threading.Thread(target=self._keep, name=program.name, daemon=True)

    def end(self) -> None:
        """Terminate the program, and do not restart it."""
        with self._lock:
            self._ending.set()
            if self._process is not None and self._process.poll() is None:
                self._set(ProgramState.STOPPING)
                self._process.terminate()

    def join(self, until: float | None) -> None:
        """Wait for the program's exit; kill it when the time is up."""
        if self.thread.ident is None:
            return
        self.thread.join(None if until is None else max(until - time.monotonic(), 0.0))
        if self.thread.is_alive():
            self.kill()
            self.thread.join()

    def kill(self) -> None:
        """Kill the program and all processes that it started."""
        with self._lock:
            self._ending.set()
            if self._process is not None:
                _kill_group(self._process.pid)

    def _keep(self) -> None:
        pauses, failures = iter(self._backoff), 0
        while not self._ending.is_set():
            began = time.monotonic()
            code = self._run()
            if self._ending.is_set():
                break
            came_up = bool(self.status.started)
            failures = 0 if came_up else failures + 1
            if time.monotonic() - began > GOOD_S:
                pauses = iter(self._backoff)
            failure = (
                _describe_exit(code)
                if code is not None
                else f"was not up within {self._start_s:g} s"
            )
            if code == USAGE or failures >= TRIES:
                self._set(ProgramState.FAILED, failure=failure, tail=tuple(self._tail), pid=None)
                return
            self._set(
                ProgramState.RESTARTING,
                failure=failure,
                tail=tuple(self._tail),
                pid=None,
                started={},
                restarts=self.status.restarts + 1,
            )
            self._ending.wait(next(pauses))
        self._set(ProgramState.STOPPED, pid=None)

    def _run(self) -> int | None:
        """Run the program once; return its exit code, or None if it was not up in time."""
        self._tail.clear()
        with self._lock:
            if self._ending.is_set():
                return 0
            process = subprocess.Popen(
                ["/bin/sh", "-c", GUARDED, "sh", *self._program.command],
                env=dict(self._program.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C in the terminal is for the supervisor
            )
            self._process = process
        self._set(ProgramState.STARTING, pid=process.pid, started={})
        up = threading.Event()
        readers = [
            threading.Thread(target=read, args=arguments, daemon=True)
            for read, arguments in (
                (self._read_lines, (process.stdout, up)),
                (self._read_tail, (process.stderr,)),
            )
        ]
        for reader in readers:
            reader.start()
        try:
            code = self._wait_for_exit(process, up)
        finally:
            _kill_group(process.pid)  # the guard, and any child that is left
            process.wait()
            for reader in readers:  # do not wait for an orphan that keeps the pipe open
                reader.join(timeout=1.0)
            assert process.stdin is not None
            process.stdin.close()
        return code

    def _wait_for_exit(self, process: subprocess.Popen[str], up: threading.Event) -> int | None:
        """Wait for the program's exit; return None if it is not up in time."""
        until = time.monotonic() + self._start_s
        while not up.is_set() and not self._ending.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=0.1)
            if time.monotonic() > until:
                return None
        return process.wait()

    def _read_lines(self, stream: IO[str], up: threading.Event) -> None:
        """Read what the program logs: one JSON object per line."""
        with contextlib.suppress(ValueError), stream:
            while line := stream.readline(MAX_LINE):
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError):
                    found = None
                if not isinstance(found, dict):
                    self._tail.append(line.rstrip("\n"))
                    continue
                if found.get("severity") == "ERROR":
                    self._tail.append(str(found.get("error") or found.get("reason")))
                self._on_line(self._program.name, found)
                if found.get("action") == "started" and not up.is_set():
                    self._set(ProgramState.UP, started=found)
                    up.set()

    def _read_tail(self, stream: IO[str]) -> None:
        with contextlib.suppress(ValueError), stream:
            while line := stream.readline(MAX_LINE):
                self._tail.append(line.rstrip("\n"))

    def _set(self, state: ProgramState, **changes: Any) -> None:
        if self._ending.is_set() and state in (ProgramState.STARTING, ProgramState.UP):
            state = ProgramState.STOPPING
        with self._status_lock:
            before = self.status
            self.status = dataclasses.replace(before, state=state, **changes)
        if self.status != before:
            self._on_change(self.status)


def _kill_group(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def _describe_exit(code: int) -> str:
    """Describe how a process exited."""
    if code >= 0:
        return f"exited with code {code}"
    return f"was killed by {signal.Signals(-code).name}"
