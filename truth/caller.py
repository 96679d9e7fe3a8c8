"""Calls functions in other Pythons: this checkout's Segue, another's, or a reference."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parent.parent
# The machine's other cores would help one tracker more than another.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class CallFailed(Exception):
    """A function raised an error, or its process ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Something that computes a feature.

    Attributes
    ----------
    name : str
        As in the table.
    python : str
        The interpreter that has it.
    call : str
        ``package.module:function``
    parameters : dict
    media : bool
        Whether it is a job of Segue that needs the source file itself.
    file : bool
        Whether it takes the path of a file, not samples.
    """

    name: str
    python: str
    call: str
    parameters: dict[str, Any] = field(default_factory=dict)
    media: bool = False
    file: bool = False


class Caller:
    """A child process that calls one system's function; a context manager.

    It has a folder of its own for what numba compiles: two processes that compile at the same time
    spoil each other's, and die of it.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="segue-truth-"))
            self._process = opened.enter_context(
                subprocess.Popen(
                    [self._system.python, "-P", str(ROOT / "truth" / "child.py"), str(ROOT)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    env={**os.environ, **ONE_THREAD, "NUMBA_CACHE_DIR": folder},
                )
            )
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    def call(self, path: Path) -> tuple[Any, float]:
        """Return the function's value for a sound, and the seconds of CPU time that it took.

        Raises
        ------
        CallFailed
            If the function fails; the message has its error.
        """
        request = {
            "call": self._system.call,
            "path": str(path),
            "parameters": self._system.parameters,
            "media": self._system.media,
            "file": self._system.file,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise CallFailed(f"{self._system.name}: the process ended at {path}")
        answered = json.loads(line)
        if "error" in answered:
            raise CallFailed(f"{self._system.name}: {path}: {answered['error']}")
        return answered["value"], answered["cpu_s"]
