"""Many looks at once, of which none can hold up the others."""

from __future__ import annotations

import threading

from segue.errors import ConfigurationError, Unavailable
from segue_cli.health_checks.check import Look, Seen, Status, look_at


def fail(error: Exception):
    def look() -> Seen:
        raise error

    return look


def test_what_does_not_answer_is_a_fault_and_the_rest_is_told_in_order():
    never = threading.Event()
    looks = [
        Look("places", "slow", lambda: never.wait() and None),
        Look("places", "fast", lambda: Seen(Status.OK, "there")),
    ]
    slow, fast = look_at(looks, limit_s=0.2)
    never.set()
    assert (slow.seen.status, slow.seen.detail) == (Status.FAULT, "no answer in 0.2 s")
    assert fast.seen == Seen(Status.OK, "there")


def test_what_a_look_raises_is_what_it_saw():
    errors = [ConfigurationError("write x"), Unavailable("away"), RuntimeError("a client's")]
    looks = [Look("places", "it", fail(error)) for error in errors]
    found = [f.seen for f in look_at(looks, limit_s=5.0)]
    assert [s.status for s in found] == [Status.FAULT] * 3
    assert [s.detail for s in found] == ["write x", "away", "RuntimeError: a client's"]
