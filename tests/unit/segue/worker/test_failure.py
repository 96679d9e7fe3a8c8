"""An exception becomes a kind, a class and a message with its location."""

from __future__ import annotations

import errno

import pytest

from segue.backoff import Backoff
from segue.errors import (
    CorruptMedia,
    DiskFull,
    JobRaised,
    Kind,
    MissingInput,
    Superseded,
    Unavailable,
)
from segue.worker.failure import (
    MAX_CHARACTERS,
    call_with_retry,
    describe_failure,
    is_retryable,
)


@pytest.mark.parametrize(
    ("error", "kind", "permanent", "aborts_line"),
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
    error: BaseException, kind: str, permanent: bool, aborts_line: bool
) -> None:
    found = describe_failure(error, 2.0)
    assert (found.failure.kind, found.permanent, found.aborts_line) == (
        kind,
        permanent,
        aborts_line,
    )
    assert found.failure.type == type(error).__name__


def test_a_message_is_one_line_of_bounded_length_that_keeps_the_location() -> None:
    def job() -> None:
        raise ValueError("a\nb" * MAX_CHARACTERS)

    with pytest.raises(ValueError, match="a") as caught:
        job()
    message = describe_failure(caught.value, 2.0).failure.message
    assert len(message) <= MAX_CHARACTERS
    assert "\n" not in message
    assert "worker/test_failure.py:" in message
    assert "in job" in message


def test_only_transient_errors_are_retryable() -> None:
    assert [is_retryable(e) for e in (Unavailable("x"), ConnectionError(), TimeoutError())] == [
        True
    ] * 3
    assert [is_retryable(e) for e in (DiskFull("x"), Superseded("x"), JobRaised("x"))] == [
        False
    ] * 3


def test_the_last_error_of_all_attempts_propagates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segue.worker.failure.BACKOFF", Backoff(0.0, 0.0))
    calls: list[str] = []

    def action() -> None:
        calls.append("try")
        raise Unavailable(f"attempt {calls.count('try')}")

    with pytest.raises(Unavailable, match="attempt 3"):
        call_with_retry(action, attempts=3, before_pause=lambda _pause_s: calls.append("pause"))
    assert calls == ["try", "pause", "try", "pause", "try"]


def test_an_error_that_is_not_retryable_is_raised_at_once() -> None:
    calls: list[int] = []

    def action() -> None:
        calls.append(1)
        raise DiskFull("full")

    with pytest.raises(DiskFull):
        call_with_retry(action, attempts=5)
    assert len(calls) == 1
