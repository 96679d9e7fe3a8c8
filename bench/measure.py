"""CPU, wall time and memory of a command with all its descendants, those that outlive their parents
included.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command used."""

    cpu_s: float
    wall_s: float
    peak_mib: float  # the sum over all its processes of memory that no other shares
    printed: str


def usage_of(arguments: list[str]) -> Usage:
    """Run ``python arguments…`` to its end, and that of all it started."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this kernel does not hand orphans on; run on Linux")
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, *arguments], stdout=out)
        watch = _Watch(process.pid)
        watch.start()
        cpu_s, code = 0.0, 0
        while True:
            try:
                pid, status, used = os.wait4(-1, 0)
            except ChildProcessError:
                break
            cpu_s += used.ru_utime + used.ru_stime
            if pid == process.pid:
                code = os.waitstatus_to_exitcode(status)
                wall_s = time.perf_counter() - started
        process.returncode = code
        peak = watch.stop()
        out.seek(0)
        printed = out.read()
    if code:
        raise SystemExit(f"{' '.join(arguments)} ended with {code}\n{printed}")
    return Usage(cpu_s=cpu_s, wall_s=wall_s, peak_mib=peak, printed=printed)


class _Watch(threading.Thread):
    """Samples the memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._peak = 0
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.5):
            total = sum(_private_kib(pid) for pid in _tree(self._pid))
            self._peak = max(self._peak, total)

    def stop(self) -> float:
        self._done.set()
        self.join()
        return self._peak / 1024


def _tree(top: int) -> list[int]:
    pids = [top]
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    pids += [int(p) for p in file.read().split()]
        except OSError:
            continue
    return pids


def _private_kib(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            lines = [line.split() for line in file]
    except OSError:
        return 0
    return sum(int(line[1]) for line in lines if line[0] in {"Private_Dirty:", "Private_Clean:"})


def report(**values: object) -> None:
    """Print one line of JSON: what a benchmark found."""
    print(json.dumps(values), flush=True)
