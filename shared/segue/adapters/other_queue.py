"""The queue of another namespace: opened when it is used, and again after it was away."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from segue.adapters.urls import find_file
from segue.backoff import Backoff
from segue.errors import (
    ConfigurationError,
    DatabaseReplaced,
    Kind,
    SegueError,
    TransientError,
    Unavailable,
)
from segue.log import Action, log_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from segue.model.queue import Envelope, Queue, ReceivedEnvelope, Subscription

RETRYING = Backoff(0.2, 10.0)  # between the pulls from a queue that is away


class OtherQueue:
    """A queue to publish to, and a namespace's subscriptions there if it is a file.

    It is not this namespace's to repair, and must not stop it: while it is away or cannot be used,
    pulls return nothing, what is acknowledged comes again, and one line says why. Only ``publish``
    raises errors, and ``subscribe`` those of the configuration. After its file was replaced, the
    subscriptions are created again.

    Parameters
    ----------
    url : str
    reader : str
        The namespace that reads; its subscriptions are called ``READER/NAME`` there.
    connect : callable
        Opens a queue by its URL.
    """

    def __init__(self, url: str, *, reader: str, connect: Callable[[str], Queue]) -> None:
        self._url = url
        self._reader = reader
        self._connect = connect
        self._lock = threading.Lock()
        self._queue: Queue | None = None
        self._openings = 0
        self._subscriptions: dict[str, Subscription] = {}  # by the name at the reader
        self._pauses: Iterator[float] | None = None  # None while it is not away
        self._retry_at = 0.0

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """Create subscriptions, as soon as the queue can be reached."""
        with self._lock:
            for one in subscriptions:
                there = replace(one, name=f"{self._reader}/{one.name}", queue=None)
                self._subscriptions[one.name] = there
        try:
            with self._use() as (queue, _):
                queue.subscribe(list(self._subscriptions.values()))
        except TransientError as error:
            self._record_outage(error)

    def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Publish envelopes."""
        with self._use() as (queue, _):
            queue.publish(envelopes)

    def pull(self, name: str, limit: int) -> list[ReceivedEnvelope]:
        """Return up to ``limit`` envelopes of a subscription, without waiting."""
        if time.monotonic() < self._retry_at:
            return []
        pulled: list[ReceivedEnvelope] = []
        with self._tolerate_errors(), self._use() as (queue, opening):
            found = queue.pull([self._subscriptions[name].name], limit=limit)
            pulled += [
                replace(one, subscription=name, ack_id=f"{opening}/{one.ack_id}") for one in found
            ]
            self._pauses = None
        return pulled

    def acknowledge(self, envelopes: Sequence[ReceivedEnvelope]) -> None:
        """Remove envelopes."""
        if held := self._find_held(envelopes):
            with self._tolerate_errors(), self._use() as (queue, _):
                queue.acknowledge(held)

    def extend(self, envelopes: Sequence[ReceivedEnvelope], seconds: float) -> None:
        """Hide envelopes for some seconds from now."""
        if held := self._find_held(envelopes):
            with self._tolerate_errors(), self._use() as (queue, _):
                queue.extend(held, seconds)

    def _find_held(self, envelopes: Sequence[ReceivedEnvelope]) -> list[ReceivedEnvelope]:
        """Return envelopes as they were pulled, without those of a file that was replaced since.

        In another file, their ack ids may be those of others.
        """
        with self._lock:
            opening = str(self._openings) if self._queue is not None else None
        held = []
        for one in envelopes:
            pulled_in, _, ack_id = one.ack_id.partition("/")
            if pulled_in == opening:
                there = self._subscriptions[one.subscription].name
                held.append(replace(one, subscription=there, ack_id=ack_id))
        return held

    def measure_depth(self, name: str) -> int:
        """Return how many envelopes a subscription holds; 0 while the queue is away."""
        there, depth = self._subscriptions[name].name, None
        with self._tolerate_errors(), self._use() as (queue, _):
            depth = queue.measure_depth([there])
        return 0 if depth is None else depth[there]

    def sync(self) -> None:
        """Return once all that was published or acknowledged survives a power cut."""
        if self._queue is not None:
            with self._tolerate_errors(), self._use() as (queue, _):
                queue.sync()

    def close(self) -> None:
        """Close the queue."""
        with self._lock:
            queue, self._queue = self._queue, None
        if queue is not None:
            with self._tolerate_errors():
                queue.close()

    @contextlib.contextmanager
    def _tolerate_errors(self) -> Iterator[None]:
        """Log the first error of an outage, and go on."""
        try:
            yield
        except SegueError as error:
            self._record_outage(error)

    @contextlib.contextmanager
    def _use(self) -> Iterator[tuple[Queue, int]]:
        """Yield the queue, and how often it was opened; errors say whose it is.

        Raises ``Unavailable`` for a file that is gone or was replaced: it may come back.
        """
        queue = None
        try:
            queue, opening = self._open()
            yield queue, opening
        except ConfigurationError as error:
            fault = str(error).partition(";")[0]  # the remedy is about the own queue
            message = f"the queue of another namespace cannot be used: {fault}"
            was_closed = queue is not self._queue  # by another thread, for the same reason
            if queue is not None and (was_closed or isinstance(error, DatabaseReplaced)):
                self._forget(queue)
                raise Unavailable(f"{message}; it is opened again") from error
            remedy = "ask its team, or run 'segue lock' if it has moved"
            raise ConfigurationError(f"{message}; {remedy}") from error

    def _open(self) -> tuple[Queue, int]:
        with self._lock:
            if self._queue is None:
                path = find_file(self._url)
                if path is not None and not self._subscriptions and not os.path.exists(path):
                    raise Unavailable(
                        f"the queue {self._url!r} of another namespace does not exist; it is "
                        "created when that namespace is started"
                    )
                queue = self._connect(self._url)
                try:
                    if self._subscriptions:
                        queue.subscribe(list(self._subscriptions.values()))
                except BaseException:
                    queue.close()
                    raise
                self._queue = queue
                self._openings += 1
            return self._queue, self._openings

    def _forget(self, queue: Queue) -> None:
        """Close a queue whose file was replaced, to open it again at the next call."""
        with self._lock:
            if self._queue is queue:
                self._queue = None
        with contextlib.suppress(SegueError):  # nothing in it is of use any more
            queue.close()

    def _record_outage(self, error: SegueError) -> None:
        """Log the first error of an outage, and let some time pass until the next try."""
        if self._pauses is None:
            self._pauses = iter(RETRYING)
            log_event(
                Action.UNAVAILABLE,
                severity="WARNING",
                kind=Kind.UNAVAILABLE,
                queue=self._url,
                error=str(error),
            )
        self._retry_at = time.monotonic() + next(self._pauses)
