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
from typing import TYPE_CHECKING, Any

from segue.model.settings import SETTINGS

if TYPE_CHECKING:
    from segue.model.settings import Settings
    from segue_console.namespace import Namespace

KEPT_S = 300.0  # a plan, until it is made anew
KEPT = 50
LONGEST_S = 3600.0
# A page asks every second, one in the background every minute; nobody waits for a plan any more
# that has not been asked for in this time.
ABANDONED_S = 180.0
LOOK_S = 0.5


@dataclass(slots=True, kw_only=True)
class MadePlan:
    """A plan, or how far it is."""

    began: float
    asked_at: float
    ended: float | None = None
    found: dict[str, Any] | None = None
    error: str | None = None
    is_abandoned: bool = False

    def is_old(self, now: float) -> bool:
        """Whether who asks gets another."""
        return self.is_abandoned or (self.ended is not None and now - self.ended > KEPT_S)


class Plans:
    """Makes plans, and remembers them."""

    def __init__(self) -> None:
        self._made: OrderedDict[tuple[str, tuple[str, ...]], MadePlan] = OrderedDict()
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="plans")
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def find(self, namespace: Namespace, jobs: tuple[str, ...], prefix: str) -> MadePlan:
        """Return a plan, which is begun with the first call."""
        graph, settings = namespace.graph, namespace.settings
        document = json.dumps(
            {
                "jobs": list(jobs),
                "prefix": prefix or None,
                "graph": graph.path,
                "ledger": settings.ledger,
                "price": settings.price,
                "vcpus": settings.vcpus,
            }
        )
        key = (document, tuple(graph.fingerprints.values()))
        now = time.time()
        with self._lock:
            made = self._made.get(key)
            if made is None or made.is_old(now):
                made = self._made[key] = MadePlan(began=now, asked_at=now)
                self._executor.submit(self._make, made, settings, document)
                while len(self._made) > KEPT:
                    self._made.popitem(last=False)
            made.asked_at = now
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
            self._plan(made, settings, document)
        except OSError as error:  # such as a prefix that is too long for a command
            made.error = f"the plan cannot be made: {error.strerror}"
        made.ended = time.time()

    def _plan(self, made: MadePlan, settings: Settings, document: str) -> None:
        environ = dict(os.environ)
        for name in ("catalogue", "artifacts"):
            if (value := getattr(settings, name)) is not None:
                environ[SETTINGS[name].variable] = value
        with self._lock:
            if self._is_closed:
                return
            self._process = subprocess.Popen(
                [sys.executable, "-m", "segue_console.plan_process", document],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        process = self._process
        while True:
            try:
                said, errors = process.communicate(timeout=LOOK_S)
            except subprocess.TimeoutExpired:
                if (reason := self._find_reason_to_stop(made)) is not None:
                    process.kill()
                    process.communicate()
                    made.error = reason
                    return
            else:
                break
        if process.returncode == 0:
            made.found = json.loads(said)
        else:
            lines = errors.decode(errors="replace").strip().splitlines()
            made.error = lines[-1] if lines else "it ended without a word"

    def _find_reason_to_stop(self, made: MadePlan) -> str | None:
        now = time.time()
        if now - made.began > LONGEST_S:
            return f"it took longer than {LONGEST_S / 60:g} minutes; run 'segue plan'"
        if now - made.asked_at > ABANDONED_S:
            made.is_abandoned = True
            return "no page waited for it any more"
        return None
