"""An exception becomes a kind, a class and a message with its location."""

from __future__ import annotations

import errno

import pytest

from segue.backoff import Backoff
from segue.errors import (
    CorruptMedia,
    DiskFull,
    JobCrashed,
    JobKilled,
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
        (
            ImportError("libx.so: failed to map segment from shared object"),
            Kind.OUT_OF_MEMORY,
            True,
            False,
        ),
        (ImportError("libx.so: no such file"), Kind.JOB_RAISED, True, False),
        (OSError(errno.EIO, "broken"), Kind.JOB_RAISED, True, False),
        (SystemExit(1), Kind.CRASHED, True, False),
        (ZeroDivisionError(), Kind.JOB_RAISED, True, False),
        (OSError(errno.ENOSPC, "full"), Kind.DISK_FULL, False, True),
        (DiskFull("x"), Kind.DISK_FULL, False, True),
        (KeyboardInterrupt(), Kind.JOB_RAISED, True, False),
        (GeneratorExit(), Kind.JOB_RAISED, True, False),
        (JobKilled("x"), Kind.CRASHED, True, False),
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


def test_only_a_full_disk_or_a_kill_may_be_the_fault_of_what_else_runs() -> None:
    errors = [DiskFull("x"), OSError(errno.ENOSPC, "full"), JobKilled("x")]
    assert all(describe_failure(error, 2.0).in_doubt for error in errors)
    errors = [JobCrashed("x"), Superseded("x"), MemoryError()]
    assert not any(describe_failure(error, 2.0).in_doubt for error in errors)


def test_a_message_with_half_of_a_surrogate_pair_can_be_recorded() -> None:
    """Such as that of an error about a file whose name is not UTF-8."""
    for error in (ValueError("caf\udce9.wav"), CorruptMedia("caf\udce9.wav"), SystemExit("\ud800")):
        message = describe_failure(error, 2.0).failure.message
        assert r"\ud" in message
        assert message.encode()


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (MemoryError(), Kind.OUT_OF_MEMORY),
        (OSError(errno.ENOSPC, "full"), Kind.DISK_FULL),
        (OSError(errno.EDQUOT, "quota"), Kind.DISK_FULL),
        (KeyError("x"), Kind.JOB_RAISED),
    ],
)
def test_the_cause_of_an_exception_decides_its_kind(cause: Exception, kind: str) -> None:
    """A library may hide it, as zipfile does, which fails again when it closes its file."""

    def job() -> None:
        try:
            raise cause
        finally:
            raise ValueError("I/O operation on closed file")

    with pytest.raises(ValueError, match="closed") as caught:
        job()
    assert describe_failure(caught.value, 2.0).failure.kind == kind


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
