"""Tells others how far a run is: at its first failure, at its limit of failures, and at its end.

Nothing that is wrong with a notification delays the run or makes it fail. One that is not taken in
some seconds no longer keeps the next one of its target waiting. At the end of the process what is
still to be sent has some seconds.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from types import TracebackType
from typing import Literal, Self

import msgspec

from segue.adapters.notification_target import NotificationTarget, parse_target
from segue.backoff import Backoff, retry
from segue.errors import SegueError, Unavailable
from segue.log import Action, log_event
from segue.model.failure_limit import FailureLimit
from segue.model.run import RunRecord, RunState

ATTEMPTS = 3
BACKOFF = Backoff(1.0, 5.0)
PATIENCE_S = 6.0  # for one notification, before the next one is sent beside it
LAST_S = 20.0  # for what is still to be sent when the run has ended
OPEN = frozenset({RunState.RUNNING, RunState.ACCEPTED})


class RunEvent(StrEnum):
    """What a notification is about."""

    FIRST_FAILURE = "first_failure"
    TOO_MANY_FAILURES = "too_many_failures"  # the limit is reached, and the run stops
    END = "end"


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a notification."""

    format: Literal[1] = 1
    event: RunEvent
    text: str  # a sentence for people
    run: RunRecord  # as it is at that moment


class Notifier:
    """Sends the notifications of one run; a context manager around it.

    Parameters
    ----------
    targets : sequence of NotificationTarget
    limit : FailureLimit, optional
        At how many failures the run stops.
    """

    def __init__(
        self,
        targets: Sequence[NotificationTarget],
        *,
        limit: FailureLimit | None = None,
        backoff: Backoff = BACKOFF,
        patience_s: float = PATIENCE_S,
        last_s: float = LAST_S,
    ) -> None:
        self._limit = limit
        self._backoff = backoff
        self._patience_s = patience_s
        self._last_s = last_s
        self._sent: set[RunEvent] = set()
        self._outboxes = [(target, queue.SimpleQueue[Notification | None]()) for target in targets]
        self._threads = [
            threading.Thread(target=self._send_all, args=outbox, daemon=True)
            for outbox in self._outboxes
        ]

    @classmethod
    def of_urls(cls, urls: Iterable[str], *, limit: FailureLimit | None = None) -> Notifier:
        """Build a notifier; raise ``ConfigurationError`` if a URL is wrong."""
        return cls([parse_target(url) for url in urls], limit=limit)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Give what is still to be sent some seconds."""
        for _, outbox in self._outboxes:
            outbox.put(None)
        until_s = time.monotonic() + self._last_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))

    def observe(self, run: RunRecord) -> None:
        """Look at the record of the run, and have sent what it is the first to say."""
        for event, holds in (
            (RunEvent.FIRST_FAILURE, run.counts.newly_failed_files > 0),
            (RunEvent.TOO_MANY_FAILURES, self._is_over_limit(run)),
            (RunEvent.END, run.state not in OPEN),
        ):
            if holds and event not in self._sent:
                self._sent.add(event)
                told = Notification(event=event, text=describe_event(event, run), run=run)
                for _, outbox in self._outboxes:
                    outbox.put(told)

    def _is_over_limit(self, run: RunRecord) -> bool:
        counts = run.counts
        return self._limit is not None and self._limit.is_reached(
            counts.newly_failed_files, counts.tried_files
        )

    def _send_all(
        self, target: NotificationTarget, outbox: queue.SimpleQueue[Notification | None]
    ) -> None:
        """Send what is in an outbox, until the run has ended."""
        while (told := outbox.get()) is not None:
            sender = threading.Thread(target=self._send, args=(target, told), daemon=True)
            sender.start()
            sender.join(None if told.event is RunEvent.END else self._patience_s)

    def _send(self, target: NotificationTarget, told: Notification) -> None:
        data = msgspec.json.encode(told, order="deterministic")
        attributes = {"event": str(told.event), "run": told.run.id, "state": str(told.run.state)}
        try:
            retry(
                lambda: target.send(data, attributes),
                backoff=self._backoff,
                should_retry=lambda error: isinstance(error, Unavailable),
                attempts=ATTEMPTS,
            )
        except SegueError as error:
            is_away = isinstance(error, Unavailable)
            action = Action.UNAVAILABLE if is_away else Action.MISCONFIGURED
            log_event(
                action,
                severity="WARNING",
                run=told.run.id,
                error=f"the notification of {told.event} was not sent: {error}",
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
            kind = type(error).__name__
            log_event(
                Action.MISCONFIGURED,
                severity="WARNING",
                run=told.run.id,
                error=f"the notification of {told.event} to {target.name} was not sent ({kind})",
            )


Observer = Callable[[RunRecord], None]


def open_notifier(
    urls: Sequence[str], limit: FailureLimit | None
) -> contextlib.AbstractContextManager[Notifier | None]:
    """Return a notifier, or None if nobody is to be notified."""
    return Notifier.of_urls(urls, limit=limit) if urls else contextlib.nullcontext()


def describe_event(event: RunEvent, run: RunRecord) -> str:
    """Return a sentence for people about an event of a run."""
    what = f"The {run.kind} {run.id} of {', '.join(run.jobs)}"
    failures = _list_failures(run.counts.failures)
    match event:
        case RunEvent.FIRST_FAILURE:
            return f"{what} has its first failures: {failures}."
        case RunEvent.TOO_MANY_FAILURES:
            return (
                f"{what} stops: {run.counts.newly_failed_files:,} of {run.counts.tried_files:,} "
                f"files failed ({failures})."
            )
    counts = f"{run.counts.files:,} files, {run.counts.failed_files:,} failed"
    why = f": {run.error}" if run.error is not None else ""
    return f"{what} is {run.state} ({counts}){why}."


def _list_failures(failures: Mapping[str, Mapping[str, int]]) -> str:
    found = [f"{job} {kind} {n:,}" for job, kinds in failures.items() for kind, n in kinds.items()]
    return ", ".join(found) or "their kinds are not known yet"
