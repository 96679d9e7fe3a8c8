"""``audio/midi``: a Standard MIDI File."""

from __future__ import annotations

from segue.codec.encoded import BytesCodec, Encoded, describe
from segue.errors import BadOutput, CorruptMedia

SIGNATURE = b"MThd\0\0\0\x06"  # with the length of the header, which is always 6
CHUNK_HEADER_BYTES = 8


class MidiCodec(BytesCodec):
    """The bytes of a Standard MIDI File; decoding gives bytes. Its events are not read."""

    content_type = "audio/midi"
    extension = "mid"

    def encode(self, value: object) -> Encoded:
        """Return the bytes unchanged, after their chunks have been counted."""
        encoded = super().encode(value)
        try:
            self.decode(encoded.data)
        except CorruptMedia as error:
            raise BadOutput(
                f"the job returned bytes that are not a Standard MIDI File: {error}"
            ) from error
        return encoded

    def decode(self, data: bytes) -> bytes:
        """Return the bytes unchanged, after their chunks have been counted."""
        if not data.startswith(SIGNATURE):
            raise CorruptMedia(
                f"{describe(data)} is not audio/midi: it does not start with the header of a "
                "Standard MIDI File"
            )
        end = 0
        while end < len(data):
            length = int.from_bytes(data[end + 4 : end + CHUNK_HEADER_BYTES], "big")
            end += CHUNK_HEADER_BYTES + length
        if end > len(data):
            raise CorruptMedia(f"{describe(data)} is not audio/midi: its last chunk is cut off")
        return super().decode(data)
