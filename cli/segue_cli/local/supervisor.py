"""Keeps a program running: starts it, waits until it is up, restarts it, and stops it.

No program outlives its supervisor, however that ends: it has a guard that reads a pipe which only
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any

from segue.backoff import Backoff
from segue.log import Action, describe_call

GUARDED = 'exec 3<&0; (read -r _ <&3; kill -KILL 0) & exec "$@" </dev/null 3<&-'
START_S = 180.0  # the first start on a machine compiles what the jobs import
BACKOFF = Backoff(0.5, 15.0)
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
class ProgramStatus:
    """The status of one program."""

    name: str
    state: ProgramState
    restarts: int = 0
    failure: str | None = None  # how it last exited unexpectedly
    is_misconfigured: bool = False  # it said that its configuration or a job's code is wrong
    tail: tuple[str, ...] = ()  # its last lines before that


class Supervisor:
    """Keeps one program running, in a thread.

    Parameters
    ----------
    name : str
    command : sequence of str
        Once it is up, the program prints a JSON line with the action ``started``.
    environ : mapping
        The program's environment.
    on_line : callable
        Called with the name and each JSON line that the program prints.
    on_change : callable
        Called with the program's status after each change.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        on_line: Callable[[str, dict[str, Any]], None],
        on_change: Callable[[ProgramStatus], None],
    ) -> None:
        self._command = command
        self._environ = environ
        self._on_line = on_line
        self._on_change = on_change
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.RLock()
        self._up, self._ending = threading.Event(), threading.Event()
        self._is_waiting = False  # it has no time limit while a server is unavailable
        self._tail: deque[str] = deque(maxlen=TAIL)
        self.status = ProgramStatus(name=name, state=ProgramState.STARTING)
        self.thread = threading.Thread(target=self._keep, name=name, daemon=True)

    def stop(self) -> None:
        """Terminate the program, and do not restart it."""
        with self._lock:
            self._ending.set()
            if self._process is not None and self._process.poll() is None:
                self._set(ProgramState.STOPPING)
                self._process.terminate()

    def kill(self) -> None:
        """Kill the program and all processes that it started."""
        with self._lock:
            self._ending.set()
            if self._process is not None and self.thread.is_alive():
                _kill_group(self._process)

    def _keep(self) -> None:
        pauses, failures = iter(BACKOFF), 0  # failed starts in a row
        while not self._ending.is_set():
            code = self._run()
            if self._ending.is_set():
                break
            failures = 0 if self._up.is_set() else failures + 1
            is_failed = code == USAGE or failures >= TRIES
            self._set(
                ProgramState.FAILED if is_failed else ProgramState.RESTARTING,
                failure=_describe_exit(code),
                is_misconfigured=code == USAGE,
                tail=tuple(self._tail),
                restarts=self.status.restarts + (not is_failed),
            )
            if is_failed:
                return
            self._ending.wait(next(pauses))
        self._set(ProgramState.STOPPED)

    def _run(self) -> int | None:
        """Run the program once; return its exit code, or None if it was not up in time."""
        self._tail.clear()
        self._up.clear()
        self._is_waiting = False
        with self._lock:
            if self._ending.is_set():
                return None
            self._process = process = subprocess.Popen(
                ["/bin/sh", "-c", GUARDED, "sh", *self._command],
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C in the terminal is for the supervisor
            )
        self._set(ProgramState.STARTING)
        readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (process.stdout, process.stderr)
        ]
        for reader in readers:
            reader.start()
        try:
            return self._wait_for_exit(process)
        finally:
            _kill_group(process)  # the guard, and any child that is left
            process.wait()
            for reader in readers:  # do not wait for an orphan that keeps the pipe open
                reader.join(timeout=1.0)
            assert process.stdin is not None
            process.stdin.close()

    def _wait_for_exit(self, process: subprocess.Popen[str]) -> int | None:
        """Wait for the program's exit; return None if it is not up in time."""
        began = time.monotonic()
        while not self._up.is_set() and not self._ending.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=0.1)
            if time.monotonic() - began > START_S and not self._is_waiting:
                return None
        return process.wait()

    def _read(self, stream: IO[str]) -> None:
        """Read what the program prints: it logs one JSON object per line."""
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
                elif found.get("action") == Action.PRINTED:
                    self._tail.append(str(describe_call(found)))
                self._on_line(self.status.name, found)
                self._is_waiting = self._is_waiting or found.get("action") == "unavailable"
                if found.get("action") == "started" and not self._up.is_set():
                    self._up.set()
                    self._set(ProgramState.UP)

    def _set(self, state: ProgramState, **changes: Any) -> None:
        with self._lock:
            if self._ending.is_set() and state in (ProgramState.STARTING, ProgramState.UP):
                state = ProgramState.STOPPING
            before = self.status
            self.status = dataclasses.replace(before, state=state, **changes)
            is_changed = self.status != before
        if is_changed:
            self._on_change(self.status)


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _describe_exit(code: int | None) -> str:
    """Describe how a process exited."""
    if code is None:
        return f"was not up within {START_S:g} s"
    if code >= 0:
        return f"exited with code {code}"
    return f"was killed by {signal.Signals(-code).name}"
