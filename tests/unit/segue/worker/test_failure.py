"""An exception becomes a kind, a class and a message that says where."""

from __future__ import annotations

import errno

import pytest

from segue.errors import (
    CorruptMedia,
    DiskFull,
    JobRaised,
    Kind,
    MissingInput,
    Superseded,
    Unavailable,
)
from segue.worker.failure import MAX_CHARACTERS, trouble, worth_retrying
from segue.worker.retry import patiently


@pytest.mark.parametrize(
    ("error", "kind", "permanent", "in_vain"),
    [
        (CorruptMedia("x"), Kind.CORRUPT_MEDIA, True, False),
        (MissingInput("x"), Kind.MISSING_INPUT, True, False),
        (MemoryError(), Kind.OUT_OF_MEMORY, True, False),
        (OSError(errno.ENOMEM, "no memory"), Kind.OUT_OF_MEMORY, True, False),
        (OSError(errno.EIO, "broken"), Kind.JOB_RAISED, True, False),
        (SystemExit(1), Kind.CRASHED, True, False),
        (ZeroDivisionError(), Kind.JOB_RAISED, True, False),
        (OSError(errno.ENOSPC, "full"), Kind.DISK_FULL, False, True),
        (DiskFull("x"), Kind.DISK_FULL, False, True),
        (Superseded("x"), Kind.SUPERSEDED, False, True),
        (ConnectionResetError(), Kind.UNAVAILABLE, False, False),
        (TimeoutError(), Kind.UNAVAILABLE, False, False),
        (Unavailable("x"), Kind.UNAVAILABLE, False, False),
    ],
)
def test_every_exception_has_a_meaning(
    error: BaseException, kind: str, permanent: bool, in_vain: bool
) -> None:
    found = trouble(error, 2.0)
    assert (found.failure.kind, found.permanent, found.in_vain) == (kind, permanent, in_vain)
    assert found.failure.type == type(error).__name__


def test_a_message_is_one_line_of_bounded_length_that_keeps_the_place() -> None:
    def job() -> None:
        raise ValueError("a\nb" * MAX_CHARACTERS)

    with pytest.raises(ValueError, match="a") as caught:
        job()
    message = trouble(caught.value, 2.0).failure.message
    assert len(message) <= MAX_CHARACTERS
    assert "\n" not in message
    assert "worker/test_failure.py:" in message
    assert "in job" in message


def test_only_what_may_pass_is_worth_a_retry() -> None:
    assert [worth_retrying(e) for e in (Unavailable("x"), ConnectionError(), TimeoutError())] == [
        True
    ] * 3
    assert [worth_retrying(e) for e in (DiskFull("x"), Superseded("x"), JobRaised("x"))] == [
        False
    ] * 3


def test_the_last_error_of_all_attempts_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segue.worker.retry.INITIAL_S", 0.0)
    monkeypatch.setattr("segue.worker.retry.JITTER_S", 0.0)
    calls: list[str] = []

    def action() -> None:
        calls.append("try")
        raise Unavailable(f"attempt {calls.count('try')}")

    with pytest.raises(Unavailable, match="attempt 3"):
        patiently(
            action,
            attempts=3,
            before=lambda: calls.append("before"),
            waiting=lambda: calls.append("waiting"),
        )
    pause = ["waiting", "before", "try"]
    assert calls == ["try", *pause, *pause, "waiting"]


def test_what_is_not_worth_it_is_tried_once() -> None:
    calls: list[int] = []

    def action() -> None:
        calls.append(1)
        raise DiskFull("full")

    with pytest.raises(DiskFull):
        patiently(action, attempts=5)
    assert len(calls) == 1
