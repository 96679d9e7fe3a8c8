"""The messages between parent and child: MessagePack on a socket, with a length prefix."""

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

    serial: int  # identifies the order; increases
    uri: str
    generation: int
    run: tuple[str, ...]
    inputs: dict[str, str] = {}
    force: tuple[str, ...] = ()
    alone: bool = False  # not to be batched with other files: such a batch has crashed


class Done(msgspec.Struct, array_like=True, tag=1, gc=False):
    """Child to parent: the result of one job of an order."""

    serial: int
    job: str
    state: State
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    cold: bool = False  # this was the job's first call in this process
    artifact: str | None = None
    checksum: str | None = None
    error: Failure | None = None


class Returned(msgspec.Struct, array_like=True, tag=2):
    """Child to parent: these orders were not started, as they had been revoked."""

    serials: list[int]


class BatchJobLoaded(msgspec.Struct, array_like=True, tag=3):
    """Child to parent: this job takes batches, of this size."""

    job: str
    batch_size: int


class Aborted(msgspec.Struct, array_like=True, tag=4):
    """Child to parent: no file can be processed, for this reason."""

    message: str
    transient: bool = False


class Exiting(msgspec.Struct, array_like=True, tag=5):
    """Child to parent: this process exits, as it has grown too large or too old."""


Frame = Done | Returned | BatchJobLoaded | Aborted | Exiting

_encoder = msgspec.msgpack.Encoder()
_orders = msgspec.msgpack.Decoder(list[Order])
_frames = msgspec.msgpack.Decoder(Frame)


def encode_orders(orders: Sequence[Order]) -> bytes:
    """Return orders as one message with its length prefix."""
    data = _encoder.encode(orders)
    return LENGTH.pack(len(data)) + data


def encode_frame(frame: Frame) -> bytes:
    """Return a frame with its length prefix."""
    data = _encoder.encode(frame)
    return LENGTH.pack(len(data)) + data


class StreamDecoder:
    """Splits a stream of bytes into messages, however the bytes are chunked."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Any]) -> None:
        self._decoder = decoder
        self._rest = b""

    @classmethod
    def for_orders(cls) -> StreamDecoder:
        """Return a decoder for what a child receives."""
        return cls(_orders)

    @classmethod
    def for_frames(cls) -> StreamDecoder:
        """Return a decoder for what the parent receives."""
        return cls(_frames)

    def feed(self, data: bytes) -> Iterator[Any]:
        """Add bytes, and yield each message that is now complete."""
        data = self._rest + data if self._rest else data
        view, start, decode = memoryview(data), 0, self._decoder.decode
        while start + 4 <= len(data):
            (size,) = LENGTH.unpack_from(data, start)
            if size > MAX_BYTES:
                raise msgspec.DecodeError(
                    f"a message has {size} bytes; at most {MAX_BYTES} are allowed"
                )
            end = start + 4 + size
            if end > len(data):
                break
            yield decode(view[start + 4 : end])
            start = end
        self._rest = data[start:]
