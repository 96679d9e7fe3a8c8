"""``application/octet-stream``: bytes, unchanged."""

from __future__ import annotations

from segue.codec.encoded import Encoded, describe
from segue.errors import BadOutput


class BytesCodec:
    """Bytes, bytearrays and memoryviews; decoding gives bytes."""

    extension = "bin"

    def encode(self, value: object) -> Encoded:
        """Return the bytes unchanged."""
        if not isinstance(value, bytes | bytearray | memoryview):
            raise BadOutput(
                f"the job returned {describe(value)}; application/octet-stream holds bytes: "
                "return bytes, or declare another content type"
            )
        data = bytes(value)
        return Encoded(data, data)

    def decode(self, data: bytes) -> bytes:
        """Return the bytes unchanged."""
        return bytes(data)
