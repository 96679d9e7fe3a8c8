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


@dataclass(slots=True, kw_only=True)
class MadePlan:
    """A plan, or how far it is."""

    began: float
    ended: float | None = None
    found: dict[str, Any] | None = None
    error: str | None = None


class Plans:
    """Makes plans, and remembers them."""

    def __init__(self) -> None:
        self._made: OrderedDict[str, MadePlan] = OrderedDict()
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="plans")
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def find(self, settings: Settings, jobs: tuple[str, ...], prefix: str) -> MadePlan:
        """Return a plan, which is begun with the first call."""
        document = json.dumps(
            {
                "jobs": list(jobs),
                "prefix": prefix or None,
                "graph": os.path.abspath(settings.graph or _find_default_graph()),
                "ledger": settings.ledger,
                "price": settings.price,
                "vcpus": settings.vcpus,
            },
            sort_keys=True,
        )
        with self._lock:
            made = self._made.get(document)
            if made is None or (made.ended is not None and time.time() - made.ended > KEPT_S):
                made = self._made[document] = MadePlan(began=time.time())
                self._executor.submit(self._make, made, settings, document)
                while len(self._made) > KEPT:
                    self._made.popitem(last=False)
        return made

    def close(self) -> None:
        """Stop the plan that is being made."""
        self._is_closed = True
        if self._process is not None:
            self._process.kill()
        self._executor.shutdown(cancel_futures=True)

    def _make(self, made: MadePlan, settings: Settings, document: str) -> None:
        if self._is_closed:
            return
        environ = dict(os.environ)
        for name in ("catalogue", "artifacts"):
            if (value := getattr(settings, name)) is not None:
                environ[SETTINGS[name].variable] = value
        self._process = subprocess.Popen(
            [sys.executable, "-m", "segue_console.plan_process", document],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            said, errors = self._process.communicate(timeout=LONGEST_S)
            if self._process.returncode == 0:
                made.found = json.loads(said)
            else:
                lines = errors.decode(errors="replace").strip().splitlines()
                made.error = lines[-1] if lines else "it ended without a word"
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            made.error = f"it took longer than {LONGEST_S / 60:g} minutes; run 'segue plan'"
        made.ended = time.time()


def _find_default_graph() -> str:
    return "jobs.yaml" if os.path.exists("jobs.yaml") else DEFAULT_PATH
