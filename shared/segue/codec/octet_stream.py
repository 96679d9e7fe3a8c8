"""``application/octet-stream``: bytes as they are."""

from __future__ import annotations

from segue.codec.encoded import Encoded, described
from segue.errors import BadOutput


class BytesCodec:
    """Bytes, bytearrays and memoryviews; decoding gives bytes."""

    extension = "bin"

    def encode(self, value: object) -> Encoded:
        """Keep the bytes."""
        if not isinstance(value, bytes | bytearray | memoryview):
            raise BadOutput(
                f"the job returned {described(value)}; application/octet-stream holds bytes: "
                "return bytes, or declare another content type"
            )
        data = bytes(value)
        return Encoded(data, data)

    def decode(self, data: bytes) -> bytes:
        """Return the bytes."""
        return bytes(data)
