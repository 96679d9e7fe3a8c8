"""What parent and child say to each other: MessagePack on a socket, each piece after its length."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from segue.model.record import Failure, State

LENGTH = struct.Struct("<I")
MAX_BYTES = 2**26


class Order(msgspec.Struct, array_like=True, gc=False):
    """Parent to child: run these jobs on this file."""

    serial: int  # grows; says which order is meant
    uri: str
    generation: int
    run: tuple[str, ...]
    inputs: dict[str, str] = {}
    force: tuple[str, ...] = ()
    alone: bool = False  # in no batch with others: such a batch has crashed


class Done(msgspec.Struct, array_like=True, tag=1, gc=False):
    """Child to parent: what became of one job of an order."""

    serial: int
    job: str
    state: State
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    cold: bool = False  # it was this job's first call in this process
    artifact: str | None = None
    checksum: str | None = None
    error: Failure | None = None


class Returned(msgspec.Struct, array_like=True, tag=2):
    """Child to parent: these orders came back untouched, as they had been revoked."""

    serials: list[int]


class Built(msgspec.Struct, array_like=True, tag=3):
    """Child to parent: a job that runs in batches, and of what size."""

    job: str
    batch_size: int


class Broken(msgspec.Struct, array_like=True, tag=4):
    """Child to parent: no file can be worked on, and why."""

    message: str
    transient: bool = False


class Leaving(msgspec.Struct, array_like=True, tag=5):
    """Child to parent: this process has grown too large or too old, and ends."""


Frame = Done | Returned | Built | Broken | Leaving

_encoder = msgspec.msgpack.Encoder()
_orders = msgspec.msgpack.Decoder(list[Order])
_frames = msgspec.msgpack.Decoder(Frame)


def encode_orders(orders: Sequence[Order]) -> bytes:
    """Return one message of orders, with its length before it."""
    data = _encoder.encode(orders)
    return LENGTH.pack(len(data)) + data


def encode_frame(frame: Frame) -> bytes:
    """Return a frame with its length before it."""
    data = _encoder.encode(frame)
    return LENGTH.pack(len(data)) + data


class Inbox:
    """Takes a stream of bytes apart into messages, whatever pieces it comes in."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Any]) -> None:
        self._decoder = decoder
        self._rest = b""

    @classmethod
    def of_orders(cls) -> Inbox:
        """For what a child receives."""
        return cls(_orders)

    @classmethod
    def of_frames(cls) -> Inbox:
        """For what the parent receives."""
        return cls(_frames)

    def feed(self, data: bytes) -> Iterator[Any]:
        """Add bytes, and yield each message that is whole by then."""
        data = self._rest + data if self._rest else data
        view, start, decode = memoryview(data), 0, self._decoder.decode
        while start + 4 <= len(data):
            (size,) = LENGTH.unpack_from(data, start)
            if size > MAX_BYTES:
                raise msgspec.DecodeError(f"{size} bytes are no message")
            end = start + 4 + size
            if end > len(data):
                break
            yield decode(view[start + 4 : end])
            start = end
        self._rest = data[start:]
