"""The protocol of codecs, the result of encoding, and the simplest codec: plain bytes."""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from segue.errors import BadOutput

if TYPE_CHECKING:
    from typing import Any

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_short = reprlib.Repr()
_short.maxother = 80


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of an artifact, and the value that decoding them returns."""

    data: bytes
    value: Any


class Codec(Protocol):
    """Encodes and decodes the values of one content type."""

    extension: str

    def encode(self, value: Any) -> Encoded:
        """Turn a value into bytes; raises BadOutput if it does not fit."""

    def decode(self, data: bytes) -> Any:
        """Turn bytes back into the value; raises CorruptMedia if they are damaged."""


def describe(value: object) -> str:
    """Return a short description of a value for a message: its type and its repr."""
    if isinstance(value, bytes):
        return f"{len(value)} bytes that begin with {value[:8]!r}"
    text = drop_addresses(_short.repr(value).replace("\n", " "))  # no line breaks
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def drop_addresses(text: str) -> str:
    """Return a text without addresses of objects, which would make every failure different."""
    return _ADDRESS.sub("", text)


class BytesCodec:
    """``application/octet-stream``: bytes, bytearrays and memoryviews; decoding gives bytes."""

    content_type = "application/octet-stream"
    extension = "bin"

    def encode(self, value: object) -> Encoded:
        """Return the bytes unchanged."""
        if not isinstance(value, bytes | bytearray | memoryview):
            raise BadOutput(
                f"the job returned {describe(value)}; {self.content_type} holds bytes: "
                "return bytes, or declare another content type"
            )
        data = bytes(value)
        return Encoded(data, data)

    def decode(self, data: bytes) -> bytes:
        """Return the bytes unchanged."""
        return bytes(data)
