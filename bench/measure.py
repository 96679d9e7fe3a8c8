"""CPU, wall time and memory of a command and all its descendants, including those that outlive
their parents.
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

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that a command used."""

    cpu_s: float
    wall_s: float
    peak_mib: float  # the sum of the private memory of all its processes
    printed: str


def measure_usage(arguments: list[str]) -> Usage:
    """Run ``python arguments…`` until it and all its descendants have exited."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this kernel has no child subreaper; run on Linux")
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        environ = {**os.environ, "PYTHONPATH": ROOT}  # for the graphs, whose jobs are in bench
        process = subprocess.Popen([sys.executable, *arguments], stdout=out, env=environ)
        sampler = _MemorySampler(process.pid)
        sampler.start()
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
        peak = sampler.stop()
        out.seek(0)
        printed = out.read()
    if code:
        raise SystemExit(f"{' '.join(arguments)} exited with {code}\n{printed}")
    return Usage(cpu_s=cpu_s, wall_s=wall_s, peak_mib=peak, printed=printed)


class _MemorySampler(threading.Thread):
    """Samples the memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._peak = 0
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.5):
            total = sum(_read_private_kib(pid) for pid in list_tree(self._pid))
            self._peak = max(self._peak, total)

    def stop(self) -> float:
        self._done.set()
        self.join()
        return self._peak / 1024


def list_tree(top: int, *, skip: int = 0) -> list[int]:
    """Return a process and all that descend from it, without the first levels."""
    depths = {top: 0}
    for pid in (pids := [top]):
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    below = [int(p) for p in file.read().split()]
                depths.update(dict.fromkeys(below, depths[pid] + 1))
                pids += below
        except OSError:
            continue
    return [pid for pid in pids if depths[pid] >= skip]


def _read_private_kib(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            lines = [line.split() for line in file]
    except OSError:
        return 0
    return sum(int(line[1]) for line in lines if line[0] in {"Private_Dirty:", "Private_Clean:"})


def report(**values: object) -> None:
    """Print the results of a benchmark as one line of JSON."""
    print(json.dumps(values), flush=True)
