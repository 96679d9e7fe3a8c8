"""Runs health checks concurrently, and collects their results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from segue.errors import ConfigurationError, SegueError


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found, and a hint if something is to be done."""

    status: ClassVar[str] = "ok"
    detail: str
    hint: str = ""


class CheckNote(CheckResult):
    """Something is missing that is not always needed."""

    status = "note"


class CheckFault(CheckResult):
    """Something is missing or wrong."""

    status = "fault"


@dataclass(frozen=True, slots=True)
class Check:
    """A named check; an error that ``run`` raises becomes its result."""

    group: str
    name: str
    run: Callable[[], CheckResult]


def run_checks(checks: Sequence[Check], *, limit_s: float) -> list[tuple[Check, CheckResult]]:
    """Run all checks, each in a thread; one that exceeds the time limit is a fault."""
    results: dict[int, CheckResult] = {}

    def run(number: int) -> None:
        results[number] = _run_check(checks[number])

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(checks))]
    for thread in threads:
        thread.start()
    end_s = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, end_s - time.monotonic()))
    slow = CheckFault(f"no answer in {limit_s:g} s", "check that it can be reached")
    return [(check, results.get(number, slow)) for number, check in enumerate(checks)]


def _run_check(check: Check) -> CheckResult:
    try:
        return check.run()
    except ConfigurationError as error:
        return CheckFault(str(error))
    except SegueError as error:
        return CheckFault(str(error), "check that it exists and can be reached")
    except Exception as error:  # noqa: BLE001 - clients raise anything; the thread ends here
        return CheckFault(f"{type(error).__name__}: {error}")
