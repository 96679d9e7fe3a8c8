"""Real processes for tests, which read their logs, stop or kill them, and leave none behind.

A Segue process logs JSON lines to standard output; ``Process`` collects them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

START_S = 120.0
GRACE_S = 30.0


class Process:
    """One child process in its own session, with all that it starts."""

    def __init__(
        self, command: Sequence[str], *, cwd: str, environ: Mapping[str, str] | None = None
    ) -> None:
        self.lines: list[dict[str, Any]] = []
        self.text: list[str] = []  # lines that are not JSON, including standard error
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=None if environ is None else dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """The process id, which is also that of its group."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not exited."""
        return self._process.poll() is None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            line = raw.decode(errors="replace").rstrip("\n")
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            with self._news:
                if isinstance(found, dict):
                    self.lines.append(found)
                else:
                    self.text.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def wait_for(
        self, predicate: Callable[[dict[str, Any]], bool], *, timeout_s: float = START_S
    ) -> dict[str, Any]:
        """Wait for a log line that satisfies a predicate, and return it."""
        end_s = time.monotonic() + timeout_s
        with self._news:
            while True:
                for line in self.lines:
                    if predicate(line):
                        return line
                left_s = end_s - time.monotonic()
                if left_s <= 0 or not self._reader.is_alive():
                    tail = "\n".join([*map(str, self.lines[-20:]), *self.text[-40:]])
                    raise AssertionError(f"no such line within {timeout_s:g} s; it logged:\n{tail}")
                self._news.wait(min(left_s, 0.5))

    def wait_until_started(self, *, timeout_s: float = START_S) -> dict[str, Any]:
        """Wait until the process has logged that it started."""
        return self.wait_for(lambda line: line.get("action") == "started", timeout_s=timeout_s)

    def terminate(self) -> int:
        """Send SIGTERM, wait, and return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, *, timeout_s: float = GRACE_S) -> int:
        """Wait for the process to exit, and return its exit code."""
        code = self._process.wait(timeout_s)
        self._reader.join(GRACE_S)
        return code

    def kill_leader(self) -> None:
        """Kill the process itself, but none that it started."""
        self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """Kill the whole process group, whether the process runs or not."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(GRACE_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


def list_descendants(process: int) -> set[int]:
    """Return the processes that a process has started, and those that these have, by ``/proc``."""
    parents: dict[int, int] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            state, parent, *_ = file.read().rpartition(")")[2].split()
            if state != "Z":
                parents[int(name)] = int(parent)
    found, layer = set(), {process}
    while layer := {one for one, parent in parents.items() if parent in layer}:
        found |= layer
    return found


def is_alive(process: int) -> bool:
    """Whether a process exists and has not ended, by ``/proc``."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
