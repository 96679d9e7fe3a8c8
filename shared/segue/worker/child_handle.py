"""The parent's view of one child: its channel, its shared memory, and the orders it has."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from typing import TYPE_CHECKING

import msgspec

from segue.worker.protocol import Order, StreamDecoder, encode_orders
from segue.worker.shared_state import SharedState, create_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segue.worker.fork_server_client import ForkServerClient
    from segue.worker.protocol import Frame
    from segue.worker.shared_state import Progress
    from segue.worker.task_table import TaskEntry

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
_RECEIVE_BYTES = 2**18


class ChildHandle:
    """A child, from the request to fork it until its exit is handled."""

    def __init__(
        self,
        number: int,
        fork_server: ForkServerClient,
        selector: selectors.BaseSelector,
        *,
        jobs: int,
    ) -> None:
        self.number = number
        self.process: int | None = None  # until it is forked
        self.entries: dict[int, TaskEntry] = {}  # by serial, in running order
        self._ends: list[int] = []  # the last serial of each message sent
        self.is_late = False  # it gets no more orders until it reports something
        self.exits_by_s = 0.0  # by when it must exit, if it announced that; else 0
        self.is_corrupt = False  # a job has overwritten the shared memory, or the channel
        self.killed: tuple[Progress, float] | None = None  # its progress then, and for how long
        self.has_worked = False
        self._jobs = jobs
        self._selector = selector
        self._decoder = StreamDecoder.for_frames()
        self._received_bytes = 0
        self._read_bytes = 0  # includes bytes read from shared memory before they were sent
        self._unsent = b""
        memory = create_memory()
        self.channel, child_end = socket.socketpair()
        try:
            self.shared_state = SharedState(memory)
            fork_server.fork_child(number, child_end.fileno(), memory)
        finally:
            child_end.close()
            os.close(memory)
        self.channel.setblocking(False)
        self._events = 0
        self._set_events(READ)

    def send_orders(self, orders: Sequence[Order], entries: Sequence[TaskEntry]) -> None:
        """Send one message of orders; remember the entries until their tasks are finished."""
        self.entries.update(zip([order.serial for order in orders], entries, strict=True))
        self._ends.append(orders[-1].serial)
        self._unsent += encode_orders(orders)
        self.flush()

    def flush(self) -> None:
        """Send as much as the channel takes now; the rest when it is writable again."""
        try:
            self._unsent = self._unsent[self.channel.send(self._unsent) :]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):  # its exit will be reported
            self._unsent = b""
        if self._events:
            self._set_events(READ | WRITE if self._unsent else READ)

    def receive(self) -> list[Frame]:
        """Return the frames that the child has sent."""
        data = self._receive_bytes()
        already_read = self._read_bytes - self._received_bytes
        self._received_bytes += len(data)
        self._read_bytes = max(self._read_bytes, self._received_bytes)
        return self._decode(data[already_read:])

    def read_unsent(self) -> list[Frame]:
        """Return the frames that a busy child has buffered and not sent yet."""
        data = self.shared_state.read_unsent(self._read_bytes)
        self._read_bytes += len(data)
        return self._decode(data)

    def read_final_frames(self) -> list[Frame]:
        """Return the last frames of a child that has exited, even those that it had not sent."""
        frames: list[Frame] = []
        before = -1
        while self._received_bytes > before:
            before = self._received_bytes
            frames += self.receive()
        return frames + self.read_unsent()

    def read_progress(self) -> Progress | None:
        """Return what the child is doing; None between jobs, or if shared memory is corrupt."""
        progress = self.shared_state.read_progress()
        if progress is not None and progress.job >= self._jobs:
            self.is_corrupt = True
        return None if self.is_corrupt else progress

    def _decode(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        try:
            frames.extend(self._decoder.feed(data))
        except msgspec.MsgspecError:
            self.is_corrupt = True
        return frames

    def _receive_bytes(self) -> bytes:
        try:
            data = self.channel.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except ConnectionResetError:
            data = b""
        if not data:
            self._set_events(0)  # closed by a job, or by the exit, which will be reported
        return data

    @property
    def load(self) -> int:
        """The number of messages that the child has not finished."""
        first = next(iter(self.entries), None)
        while self._ends and (first is None or self._ends[0] < first):
            del self._ends[0]
        return len(self._ends)

    def revoke_orders(self) -> list[TaskEntry]:
        """Revoke the orders that the child has not started, and return their entries."""
        if not self.entries or next(reversed(self.entries)) <= self.shared_state.last_taken:
            return []
        last_taken = self.shared_state.revoke(next(reversed(self.entries)))
        return [self.entries.pop(serial) for serial in tuple(self.entries) if serial > last_taken]

    def shut_down(self) -> None:
        """Let the child exit once it has finished its current file."""
        self.revoke_orders()
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the channel and release the shared memory."""
        self._set_events(0)
        self.channel.close()
        self.shared_state.close()

    def _set_events(self, events: int) -> None:
        """Select the events for which the pool is woken."""
        if not self._events and events:
            self._selector.register(self.channel, events, self)
        elif self._events and not events:
            self._selector.unregister(self.channel)
        elif events != self._events:
            self._selector.modify(self.channel, events, self)
        self._events = events
