"""Keeps programs running: starts them, waits until they listen, starts again what dies, stops all.

None outlives the supervisor, however that ends: each has a guard that reads a pipe which only the
supervisor holds open, and that kills the program's process group when the pipe ends.
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

GUARDED = 'exec 3<&0; (read -r _ <&3; kill -KILL 0) & exec "$@" </dev/null 3<&-'
START_S = 180.0  # on a cold machine, what the jobs import is compiled first
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
GOOD_S = 30.0  # a program that ran for so long was well; its next end is a new one
TRIES = 5  # to come up at all
TAIL = 30  # lines of what it last printed
USAGE = 2  # the exit code that says that trying again is no use
MAX_LINE = 1 << 20


class State(StrEnum):
    """How a program is."""

    STARTING = "starting"
    UP = "up"
    RESTARTING = "restarting"  # it died, and is started again in a moment
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"  # it does not come up, and is not tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is kept running; it prints a JSON line with the action ``started`` when it listens."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A program, as it is."""

    name: str
    state: State
    pid: int | None = None
    restarts: int = 0
    started: Mapping[str, Any] = field(default_factory=dict)  # the line with which it came up
    trouble: str | None = None  # how it last ended, where it should not have
    tail: tuple[str, ...] = ()  # what it printed before that


class Supervisor:
    """Keeps programs running, each watched over by a thread.

    Parameters
    ----------
    programs : sequence of Program
    heard : callable
        Is told each JSON line that a program prints, with the program's name.
    changed : callable
        Is told of each change of a program's state.
    first_pause_s, start_s : float, optional
        How long to wait before a program is started again, at first, and until it is up.
    """

    def __init__(
        self,
        programs: tuple[Program, ...],
        *,
        heard: Callable[[str, dict[str, Any]], None],
        changed: Callable[[Standing], None],
        first_pause_s: float = FIRST_PAUSE_S,
        start_s: float = START_S,
    ) -> None:
        self._keepers = {
            p.name: _Keeper(p, heard, changed, first_pause_s=first_pause_s, start_s=start_s)
            for p in programs
        }

    def start(self) -> None:
        """Start all programs, side by side."""
        for keeper in self._keepers.values():
            keeper.thread.start()

    def standing(self) -> list[Standing]:
        """Tell how each program is."""
        return [keeper.standing for keeper in self._keepers.values()]

    def look(self, name: str) -> Standing:
        """Tell how one program is."""
        return self._keepers[name].standing

    def stop(self, names: tuple[str, ...], *, grace_s: float | None) -> None:
        """Ask programs to end, and wait until they have; past the grace they are killed."""
        keepers = [self._keepers[name] for name in names]
        for keeper in keepers:
            keeper.end()
        until = None if grace_s is None else time.monotonic() + grace_s
        for keeper in keepers:
            keeper.join(until)

    def kill(self) -> None:
        """End everything at once."""
        for keeper in self._keepers.values():
            keeper.kill()


class _Keeper:
    """Keeps one program running."""

    def __init__(
        self,
        program: Program,
        heard: Callable[[str, dict[str, Any]], None],
        changed: Callable[[Standing], None],
        *,
        first_pause_s: float,
        start_s: float,
    ) -> None:
        self._program = program
        self._heard = heard
        self._changed = changed
        self._first_pause_s = first_pause_s
        self._start_s = start_s
        self._process: subprocess.Popen[str] | None = None
        self._lock, self._standing_lock = threading.RLock(), threading.Lock()
        self._ending = threading.Event()
        self._tail: deque[str] = deque(maxlen=TAIL)
        self.standing = Standing(name=program.name, state=State.STARTING)
        self.thread = threading.Thread(target=self._keep, name=program.name, daemon=True)

    def end(self) -> None:
        """Ask the program to end, and start it no more."""
        with self._lock:
            self._ending.set()
            if self._process is not None and self._process.poll() is None:
                self._set(State.STOPPING)
                self._process.terminate()

    def join(self, until: float | None) -> None:
        """Wait until it has ended."""
        if self.thread.ident is None:
            return
        self.thread.join(None if until is None else max(until - time.monotonic(), 0.0))
        if self.thread.is_alive():
            self.kill()
            self.thread.join()

    def kill(self) -> None:
        """End the program with all that it has started."""
        with self._lock:
            self._ending.set()
            if self._process is not None:
                _kill_group(self._process.pid)

    def _keep(self) -> None:
        pause_s, failures = self._first_pause_s, 0
        while not self._ending.is_set():
            began = time.monotonic()
            code = self._run()
            if self._ending.is_set():
                break
            came_up = bool(self.standing.started)
            failures = 0 if came_up else failures + 1
            if time.monotonic() - began > GOOD_S:
                pause_s = self._first_pause_s
            trouble = _end(code) if code is not None else f"not up within {self._start_s:g} s"
            if code == USAGE or failures >= TRIES:
                self._set(State.FAILED, trouble=trouble, tail=tuple(self._tail), pid=None)
                return
            self._set(
                State.RESTARTING,
                trouble=trouble,
                tail=tuple(self._tail),
                pid=None,
                started={},
                restarts=self.standing.restarts + 1,
            )
            self._ending.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        self._set(State.STOPPED, pid=None)

    def _run(self) -> int | None:
        """Run the program once; returns its exit code, None if it never came up."""
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
        self._set(State.STARTING, pid=process.pid, started={})
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
            code = self._wait(process, up)
        finally:
            _kill_group(process.pid)  # the guard, and whatever was left behind
            process.wait()
            for reader in readers:  # a stray that holds the pipe must not hold us
                reader.join(timeout=1.0)
            assert process.stdin is not None
            process.stdin.close()
        return code

    def _wait(self, process: subprocess.Popen[str], up: threading.Event) -> int | None:
        """Wait for the program's end, and not for ever until it is up."""
        until = time.monotonic() + self._start_s
        while not up.is_set() and not self._ending.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=0.1)
            if time.monotonic() > until:
                return None
        return process.wait()

    def _read_lines(self, stream: IO[str], up: threading.Event) -> None:
        """Hear what the program logs, a JSON object a line."""
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
                self._heard(self._program.name, found)
                if found.get("action") == "started" and not up.is_set():
                    self._set(State.UP, started=found)
                    up.set()

    def _read_tail(self, stream: IO[str]) -> None:
        with contextlib.suppress(ValueError), stream:
            while line := stream.readline(MAX_LINE):
                self._tail.append(line.rstrip("\n"))

    def _set(self, state: State, **changes: Any) -> None:
        if self._ending.is_set() and state in (State.STARTING, State.UP):
            state = State.STOPPING
        with self._standing_lock:
            before = self.standing
            self.standing = dataclasses.replace(before, state=state, **changes)
        if self.standing != before:
            self._changed(self.standing)


def _kill_group(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def _end(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    return f"killed by {signal.Signals(-code).name}"
