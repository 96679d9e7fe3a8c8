"""Runs health checks concurrently, and collects their results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from segue.errors import ConfigurationError, SegueError


class CheckStatus(StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"  # missing, but not always needed
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check."""

    status: CheckStatus
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A check with its result."""

    group: str
    name: str
    result: CheckResult


@dataclass(frozen=True, slots=True)
class Check:
    """A named check; an error that ``run`` raises becomes its result."""

    group: str
    name: str
    run: Callable[[], CheckResult]


def run_checks(checks: Sequence[Check], *, limit_s: float) -> list[Finding]:
    """Run all checks, each in a thread; one that exceeds the time limit is a fault."""
    results: dict[int, CheckResult] = {}

    def run(number: int, check: Check) -> None:
        results[number] = _run_check(check)

    threads = [
        threading.Thread(target=run, args=(number, check), daemon=True)
        for number, check in enumerate(checks)
    ]
    for thread in threads:
        thread.start()
    end_s = time.monotonic() + limit_s
    for thread in threads:
        thread.join(max(0.0, end_s - time.monotonic()))
    slow = CheckResult(
        CheckStatus.FAULT, f"no answer in {limit_s:g} s", "check that it can be reached"
    )
    return [
        Finding(check.group, check.name, results.get(number, slow))
        for number, check in enumerate(checks)
    ]


def _run_check(check: Check) -> CheckResult:
    try:
        return check.run()
    except ConfigurationError as error:
        return CheckResult(CheckStatus.FAULT, str(error))
    except SegueError as error:
        return CheckResult(CheckStatus.FAULT, str(error), "check that it exists and can be reached")
    except Exception as error:  # noqa: BLE001 - clients raise anything; the thread ends here
        return CheckResult(CheckStatus.FAULT, f"{type(error).__name__}: {error}")
