"""The parent's end of one child: its channel, its cell, and the orders that it has."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from typing import TYPE_CHECKING

import msgspec

from segue.worker.protocol import Inbox, Order, encode_orders
from segue.worker.shared_state import Cell, new_handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from segue.worker.fork_server_client import Nursery
    from segue.worker.protocol import Frame
    from segue.worker.shared_state import Place
    from segue.worker.task_table import Item

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE
_RECEIVE_BYTES = 2**18


class Link:
    """A child, from the moment it is asked for until it is buried."""

    def __init__(
        self, number: int, nursery: Nursery, selector: selectors.BaseSelector, *, jobs: int
    ) -> None:
        self.number = number
        self.process: int | None = None  # not born yet
        self.items: dict[int, Item] = {}  # by serial, in the order in which they will be run
        self._ends: list[int] = []  # the last serial of each message
        self.is_late = False  # it gets nothing more until it tells something
        self.leaves_by_s = 0.0  # when it must be gone, if it said that it would leave
        self.is_garbled = False  # a job wrote over what it shares with us
        self.killed: tuple[Place, float] | None = None  # where it was, and since how long
        self.has_worked = False
        self._jobs = jobs
        self._selector = selector
        self._inbox = Inbox.of_frames()
        self._received = 0  # bytes
        self._heard = 0  # bytes; more if some were read from the cell before they were sent
        self._unsent = b""
        handle = new_handle()
        self.channel, theirs = socket.socketpair()
        try:
            self.cell = Cell(handle)
            nursery.bear(number, theirs.fileno(), handle)
        finally:
            theirs.close()
            os.close(handle)
        self.channel.setblocking(False)
        self._events = 0
        self._listen(READ)

    def give(self, orders: Sequence[Order], items: Sequence[Item]) -> None:
        """Send one message of orders."""
        self.items.update(zip([order.serial for order in orders], items, strict=True))
        self._ends.append(orders[-1].serial)
        self._unsent += encode_orders(orders)
        self.send()

    def send(self) -> None:
        """Send what the channel takes; the rest when it takes more."""
        try:
            self._unsent = self._unsent[self.channel.send(self._unsent) :]
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):  # its death will be told
            self._unsent = b""
        if self._events:
            self._listen(READ | WRITE if self._unsent else READ)

    def receive(self) -> list[Frame]:
        """Return what the child has sent."""
        data = self._read()
        overheard = self._heard - self._received
        self._received += len(data)
        self._heard = max(self._heard, self._received)
        return self._frames(data[overheard:])

    def overhear(self) -> list[Frame]:
        """Return what a child that is busy has not sent yet."""
        data = self.cell.unsent(self._heard)
        self._heard += len(data)
        return self._frames(data)

    def last_words(self) -> list[Frame]:
        """Return all that a dead child told, even what it had not sent."""
        frames: list[Frame] = []
        before = -1
        while self._received > before:
            before = self._received
            frames += self.receive()
        return frames + self.overhear()

    def place(self) -> Place | None:
        """Where the child is; None between jobs, and if what it shares with us is nonsense."""
        place = self.cell.place()
        if place is not None and place.job >= self._jobs:
            self.is_garbled = True
        return None if self.is_garbled else place

    def _frames(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        try:
            frames.extend(self._inbox.feed(data))
        except msgspec.MsgspecError:
            self.is_garbled = True
        return frames

    def _read(self) -> bytes:
        try:
            data = self.channel.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except ConnectionResetError:
            data = b""
        if not data:
            self._listen(0)  # closed by a job, or with the process, whose death will be told
        return data

    @property
    def load(self) -> int:
        """How many messages it has that are not finished."""
        first = next(iter(self.items), None)
        while self._ends and (first is None or self._ends[0] < first):
            del self._ends[0]
        return len(self._ends)

    def take_back(self) -> list[Item]:
        """Revoke the orders that the child has not taken up, and return their tasks."""
        if not self.items or next(reversed(self.items)) <= self.cell.taken:
            return []
        taken = self.cell.revoke(next(reversed(self.items)))
        return [self.items.pop(serial) for serial in tuple(self.items) if serial > taken]

    def hang_up(self) -> None:
        """Let the child end when it is done with the file that it is at."""
        self.take_back()
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let go of all."""
        self._listen(0)
        self.channel.close()
        self.cell.close()

    def _listen(self, events: int) -> None:
        """Be called for these events."""
        if not self._events and events:
            self._selector.register(self.channel, events, self)
        elif self._events and not events:
            self._selector.unregister(self.channel)
        elif events != self._events:
            self._selector.modify(self.channel, events, self)
        self._events = events
