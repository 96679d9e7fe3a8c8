"""Plans of backfills, made one at a time by a program of its own, and kept for a while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from segue.model.settings import SETTINGS, Settings
from segue.model.shipped_graphs import DEFAULT_PATH

KEPT_S = 300.0  # a plan, until it is made anew
KEPT = 50
LONGEST_S = 3600.0
WATCHED_S = 150.0  # after which nobody waits; a page behind others asks once a minute
LOOK_S = 0.5


@dataclass(slots=True, kw_only=True)
class MadePlan:
    """A plan, or how far it is."""

    began: float
    asked: float  # time.monotonic() when somebody last waited for it
    ended: float | None = None
    found: dict[str, Any] | None = None
    error: str | None = None

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.ended is None and time.monotonic() - self.asked > WATCHED_S

    @property
    def is_old(self) -> bool:
        """Whether it was made so long ago that it is made anew."""
        return self.ended is not None and time.time() - self.ended > KEPT_S


class Plans:
    """Makes plans, and remembers them."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, int], MadePlan] = OrderedDict()
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="plans")
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def find(
        self, settings: Settings, jobs: tuple[str, ...], prefix: str, *, retry: bool = False
    ) -> MadePlan:
        """Return a plan, which is begun with the first call, and stopped if no more calls come.

        With ``retry``, one that failed is made anew.
        """
        graph = os.path.abspath(settings.graph or _find_default_graph())
        document = json.dumps(
            {
                "jobs": list(jobs),
                "prefix": prefix or None,
                "graph": graph,
                "ledger": settings.ledger,
                "price": settings.price,
                "vcpus": settings.vcpus,
            },
            sort_keys=True,
        )
        key = (document, _read_time(graph))
        now = time.monotonic()
        with self._lock:
            made = self._made.get(key)
            if made is None or made.is_old or made.is_abandoned or (retry and made.error):
                made = self._made[key] = MadePlan(began=time.time(), asked=now)
                self._executor.submit(self._make, made, settings, document)
                while len(self._made) > KEPT:
                    self._made.popitem(last=False)
            made.asked = now
        return made

    def close(self) -> None:
        """Stop the plan that is being made."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._process.kill()
        self._executor.shutdown(cancel_futures=True)

    def _make(self, made: MadePlan, settings: Settings, document: str) -> None:
        try:
            answer = self._run(made, settings, document)
            made.found, made.error = answer.get("plan"), answer.get("error")
        except (OSError, ValueError) as error:  # no process can be started, or it wrote nonsense
            made.error = f"the plan cannot be made ({error})"
        made.ended = time.time()

    def _run(self, made: MadePlan, settings: Settings, document: str) -> dict[str, Any]:
        """Run the program, and return what it wrote."""
        process = self._start(settings, document)
        began = time.monotonic()
        while True:
            try:
                written, said = process.communicate(timeout=LOOK_S)
                break
            except subprocess.TimeoutExpired:
                if made.is_abandoned or time.monotonic() - began > LONGEST_S:
                    process.kill()
        if process.returncode == 0:
            answer: dict[str, Any] = json.loads(written)
            return answer
        if made.is_abandoned:
            return {"error": "nobody waited for it, so it was stopped; load this page again"}
        if time.monotonic() - began > LONGEST_S:
            return {"error": f"it takes longer than {LONGEST_S / 60:g} minutes; run 'segue plan'"}
        lines = said.decode(errors="replace").strip().splitlines()
        return {"error": lines[-1] if lines else f"it ended with code {process.returncode}"}

    def _start(self, settings: Settings, document: str) -> subprocess.Popen[bytes]:
        environ = dict(os.environ)
        for name in ("catalogue", "artifacts"):
            if (value := getattr(settings, name)) is not None:
                environ[SETTINGS[name].variable] = value
        command = [sys.executable, "-m", "segue_console.plan_process", str(os.getpid()), document]
        with self._lock:
            if self._is_closed:
                raise OSError("the console was stopped")
            self._process = subprocess.Popen(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        return self._process


def _find_default_graph() -> str:
    return "jobs.yaml" if os.path.exists("jobs.yaml") else DEFAULT_PATH


def _read_time(path: str) -> int:
    """Return when a file was written: a plan of a graph that has changed is another one."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
