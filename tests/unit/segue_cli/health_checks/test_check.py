"""Checks run concurrently, and none blocks the others."""

from __future__ import annotations

import threading

from segue.errors import ConfigurationError, Unavailable
from segue_cli.health_checks.check import Check, CheckFault, CheckResult, run_checks


def fail(error: Exception):
    def run() -> CheckResult:
        raise error

    return run


def test_a_check_without_an_answer_is_a_fault_and_results_are_in_order():
    never = threading.Event()
    checks = [
        Check("places", "slow", lambda: never.wait() and None),
        Check("places", "fast", lambda: CheckResult("there")),
    ]
    (_, slow), (_, fast) = run_checks(checks, limit_s=0.2)
    never.set()
    assert (slow.status, slow.detail) == ("fault", "no answer in 0.2 s")
    assert fast == CheckResult("there")


def test_an_error_of_a_check_is_its_result():
    errors = [ConfigurationError("write x"), Unavailable("away"), RuntimeError("a client's")]
    checks = [Check("places", "it", fail(error)) for error in errors]
    found = [result for _, result in run_checks(checks, limit_s=5.0)]
    assert all(isinstance(result, CheckFault) for result in found)
    assert [s.detail for s in found] == ["write x", "away", "RuntimeError: a client's"]
