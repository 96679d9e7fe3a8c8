"""An exception becomes a kind, a class and a message with its location."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

import segue
from segue.backoff import Backoff
from segue.errors import (
    CorruptMedia,
    DiskFull,
    JobCrashed,
    JobKilled,
    JobRaised,
    Kind,
    MissingInput,
    NotAccepted,
    NotApplicable,
    Reason,
    Superseded,
    Unavailable,
)
from segue.media.decode import LocalMedia
from segue.model.record import State
from segue.worker.failure import (
    CUT,
    MAX_CHARACTERS,
    MAX_TRACEBACK,
    call_with_retry,
    describe_failure,
    drop_traceback,
    is_retryable,
)


@pytest.mark.parametrize(
    ("error", "kind", "state", "aborts_line"),
    [
        (CorruptMedia("x"), Kind.CORRUPT_MEDIA, State.FAILED, False),
        (MissingInput("x"), Kind.MISSING_INPUT, State.FAILED, False),
        (MemoryError(), Kind.OUT_OF_MEMORY, State.FAILED, False),
        (OSError(errno.ENOMEM, "no memory"), Kind.OUT_OF_MEMORY, State.FAILED, False),
        (
            ImportError("libx.so: failed to map segment from shared object"),
            Kind.OUT_OF_MEMORY,
            State.FAILED,
            False,
        ),
        (ImportError("libx.so: no such file"), Kind.JOB_RAISED, State.FAILED, False),
        (OSError(errno.EIO, "broken"), Kind.JOB_RAISED, State.FAILED, False),
        (SystemExit(1), Kind.CRASHED, State.FAILED, False),
        (ZeroDivisionError(), Kind.JOB_RAISED, State.FAILED, False),
        (OSError(errno.ENOSPC, "full"), Kind.DISK_FULL, State.QUEUED, True),
        (DiskFull("x"), Kind.DISK_FULL, State.QUEUED, True),
        (KeyboardInterrupt(), Kind.JOB_RAISED, State.FAILED, False),
        (GeneratorExit(), Kind.JOB_RAISED, State.FAILED, False),
        (JobKilled("x"), Kind.CRASHED, State.FAILED, False),
        (Superseded("x"), Kind.SUPERSEDED, State.QUEUED, True),
        (ConnectionResetError(), Kind.UNAVAILABLE, State.QUEUED, False),
        (TimeoutError(), Kind.UNAVAILABLE, State.QUEUED, False),
        (Unavailable("x"), Kind.UNAVAILABLE, State.QUEUED, False),
        (NotApplicable("x"), Reason.DECLINED, State.NOT_APPLICABLE, False),
        (NotAccepted("x"), Reason.DECLINED, State.NOT_APPLICABLE, False),  # by the job itself
    ],
)
def test_every_exception_has_a_meaning(
    error: BaseException, kind: str, state: State, aborts_line: bool
) -> None:
    found = describe_failure(error, 2.0)
    assert (found.failure.kind, found.state, found.aborts_line) == (
        kind,
        state,
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


def _catch(job: Callable[[], object]) -> BaseException:
    """Return what a job raises, with the frames of the worker that called it."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - a job may raise anything
        call_with_retry(job, attempts=1)
    trace = caught.value.__traceback__
    assert trace is not None
    return caught.value.with_traceback(trace.tb_next)


def _find_traceback(job: Callable[[], object]) -> str:
    traceback = describe_failure(_catch(job), 2.0).failure.traceback
    assert traceback is not None
    return traceback


def _raise(error: BaseException) -> Callable[[], object]:
    def job() -> None:
        raise error

    return job


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("nothing"), MemoryError(), SystemExit(3), ConnectionResetError("gone")],
)
def test_a_traceback_shows_the_jobs_own_code(error: BaseException) -> None:
    title, file, code, message = _find_traceback(_raise(error)).splitlines()
    assert title == "Traceback (most recent call last):"
    assert "test_failure.py" in file
    assert file.endswith("in job")
    assert code.strip() == "raise error"
    assert message.startswith(type(error).__name__)


def test_a_traceback_has_no_frames_of_the_worker_that_called_the_job() -> None:
    text = _find_traceback(_raise_from_another)
    assert text.count("Traceback (most recent call last)") == 2
    assert "the direct cause" in text
    assert "backoff.py" not in text
    assert "call_with_retry" not in text


def _raise_from_another() -> None:
    try:
        _raise(KeyError("tempo"))()
    except KeyError as error:
        raise ValueError("no tempo") from error


def test_segues_own_frames_have_no_absolute_path(tmp_path: Path) -> None:
    here = str(Path(segue.__file__).parent)
    media = LocalMedia(uri="file:///a", version="1", path="a", folder=str(tmp_path))

    def job() -> None:
        media._decode = _raise(OSError(errno.EIO, "broken"))  # type: ignore[method-assign, assignment]
        media.audio()

    text = _find_traceback(job)
    assert 'File "segue/media/decode.py", line ' in text
    assert here not in text


@pytest.mark.parametrize(
    "error",
    [
        CorruptMedia("damaged"),
        MissingInput("gone"),
        Superseded("overwritten"),
        Unavailable("away"),
        DiskFull("full"),
        OSError(errno.ENOSPC, "full"),
    ],
)
def test_a_failure_that_its_message_explains_has_no_traceback(error: BaseException) -> None:
    assert describe_failure(_catch(_raise(error)), 2.0).failure.traceback is None


def test_a_traceback_without_the_jobs_code_says_nothing() -> None:
    assert describe_failure(ValueError("never raised"), 2.0).failure.traceback is None


def test_a_long_traceback_is_cut_in_the_middle() -> None:
    def call(depth: int) -> None:
        if depth == 0:
            raise ValueError("the end" + "!" * 100)
        if depth % 2:  # else Python itself would cut it
            call(depth - 1)
        else:
            call(depth - 1)

    text = _find_traceback(lambda: call(60))
    assert len(text) == MAX_TRACEBACK
    assert text.count(CUT) == 1
    assert text.startswith("Traceback (most recent call last)")
    assert text.endswith("ValueError: the end" + "!" * 100 + "\n")


def test_a_traceback_with_a_huge_message_is_cut_too() -> None:
    text = _find_traceback(_raise(ValueError("a" * 10_000_000)))
    assert len(text) == MAX_TRACEBACK
    assert "in job" in text


def test_a_traceback_can_be_recorded_whatever_the_error_does() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    text = _find_traceback(_raise(ValueError("caf\udce9.wav")))
    assert "caf\\udce9.wav" in text
    assert text.encode()
    assert "in job" in _find_traceback(_raise(Unprintable()))


def test_a_traceback_for_which_there_is_no_memory_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> str:
        raise MemoryError

    error = _catch(_raise(MemoryError()))
    for name in ("format_exception", "format_tb"):
        monkeypatch.setattr(f"traceback.{name}", fail)
    failure = describe_failure(error, 2.0).failure
    assert (failure.kind, failure.traceback) == (Kind.OUT_OF_MEMORY, None)


def test_a_traceback_can_be_dropped() -> None:
    failure = describe_failure(_catch(_raise(KeyError("x"))), 2.0).failure
    dropped = drop_traceback(failure)
    assert dropped is not None
    assert (dropped.message, dropped.traceback) == (failure.message, None)
    assert drop_traceback(None) is None


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
