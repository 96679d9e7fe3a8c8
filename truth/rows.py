"""Runs systems over sounds and gathers what they answer into rows of a table."""

from __future__ import annotations

import json
import statistics
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from truth.caller import Caller, CallFailed, System

Row = dict[str, Any]
AT_ONCE = 2  # children; what counts is CPU time


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a system answered for one sound: a value, or why there is none."""

    value: Any
    cpu_s: float
    error: str | None = None


class Progress:
    """Counts calls on one line of the standard error."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total, self._done = label, total, 0
        self._lock = threading.Lock()

    def advance(self) -> None:
        """Count one more call."""
        with self._lock:
            self._done += 1
            if not sys.stderr.isatty() and self._done < self._total:
                return  # a log needs no bar
            end = "\n" if self._done == self._total else ""
            bar = "#" * (30 * self._done // self._total)
            text = f"\r{self._label} [{bar:30}] {self._done}/{self._total}"
            print(text, end=end, file=sys.stderr, flush=True)


class Answers:
    """The answers of systems for sounds: each question is asked once.

    Parameters
    ----------
    store : Path or None
        A file that keeps the answers of references, whose code does not change. None asks anew.
    """

    def __init__(self, store: Path | None = None) -> None:
        self._known: dict[str, Answer] = {}
        if store is not None and store.exists():
            for question, (value, cpu_s) in json.loads(store.read_text()).items():
                self._known[question] = Answer(value=value, cpu_s=cpu_s)

    def ask(
        self, systems: Sequence[System], paths: Sequence[Path], label: str
    ) -> dict[str, list[Answer]]:
        """Return each system's answer for each sound, in the order of the sounds.

        A child's first sound is asked for twice: what it loads and compiles is not timed.
        """
        questions = {
            system.name: [name_question(system, path) for path in paths] for system in systems
        }
        unknown = {
            name: [pair for pair in zip(asked, paths, strict=True) if pair[0] not in self._known]
            for name, asked in questions.items()
        }
        progress = Progress(label, sum(map(len, unknown.values())))

        def ask_part(system: System, part: int) -> None:
            chosen = unknown[system.name][part::AT_ONCE]
            if not chosen:
                return
            with Caller(system) as caller:
                call(caller, chosen[0][1])
                for question, path in chosen:
                    self._known[question] = call(caller, path)
                    progress.advance()

        with ThreadPoolExecutor(AT_ONCE) as pool:
            parts = [(system, part) for system in systems for part in range(AT_ONCE)]
            list(pool.map(ask_part, *zip(*parts, strict=True)))
        return {
            name: [self._known[question] for question in asked] for name, asked in questions.items()
        }

    def write(self, store: Path, systems: Sequence[str]) -> None:
        """Keep the answers of these systems, without errors."""
        store.parent.mkdir(parents=True, exist_ok=True)
        kept = {
            question: [answer.value, answer.cpu_s]
            for question, answer in self._known.items()
            if question.partition(" ")[0] in systems and answer.error is None
        }
        before = json.loads(store.read_text()) if store.exists() else {}
        store.write_text(json.dumps({**before, **kept}))


def name_question(system: System, path: Path) -> str:
    """Return what tells a call from all others, those for another sound of that name included."""
    found = path.stat()
    how = json.dumps(system.parameters, sort_keys=True, default=str)
    return f"{system.name} {system.call} {how} {path.name} {found.st_size} {found.st_mtime_ns}"


def call(caller: Caller, path: Path) -> Answer:
    """Call a system; a failure is an answer, too."""
    try:
        value, cpu_s = caller.call(path)
    except CallFailed as error:
        return Answer(value=None, cpu_s=0.0, error=str(error))
    return Answer(value=value, cpu_s=cpu_s)


def list_values(scores: Iterable[dict[str, Any]], key: str) -> list[float]:
    """Return a score of all items that have it."""
    return [score[key] for score in scores if score.get(key) is not None]


def reduce(
    function: Callable[[list[float]], float], scores: Iterable[dict[str, Any]], key: str
) -> float | None:
    """Return the mean, median or maximum of a score; None if no item has it."""
    values = list_values(scores, key)
    return function(values) if values else None


def describe(
    feature: str, names: dict[str, str], system: str, answers: Sequence[Answer], seconds: float
) -> Row:
    """Return what all rows of a system say.

    Parameters
    ----------
    feature : str
    names : dict
        The ``set``, and the ``split`` if it is not development.
    system : str
    answers : sequence of Answer
        Errors are listed, and take no time.
    seconds : float
        How long the sounds are.
    """
    return {
        "feature": feature,
        "split": "development",
        **names,
        "system": system,
        "files": len(answers),
        "errors": [answer.error for answer in answers if answer.error],
        "cpu_ms_per_s": 1000 * sum(answer.cpu_s for answer in answers) / seconds,
    }


mean = statistics.fmean
median = statistics.median
