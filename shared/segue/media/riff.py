"""The header of a WAV file, plain (RIFF) or beyond 4 GiB (RF64): format and position of samples.

After Microsoft's Multiple Channel Audio Data and WAVE Files (WAVEFORMATEXTENSIBLE) and EBU Tech
3306 (RF64). Only the header is read and written here: the samples are mapped from the file, or
follow in the same bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

PCM = 1
IEEE_FLOAT = 3
ALAW = 6
MULAW = 7
EXTENSIBLE = 0xFFFE

LARGEST_RIFF_BYTES = 0xFFFF_FFFF
# A hostile file could hold a million empty chunks in front of its samples.
MAX_CHUNKS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What precedes the samples of a WAV file."""

    format_tag: int  # PCM, IEEE_FLOAT or another; for an extensible header, that of the sub-format
    channels: int
    sample_rate_hz: int
    bits: int  # of one sample of one channel
    offset_bytes: int  # of the first sample, from the start of the file
    size_bytes: int | None  # of all samples, as declared; None: not declared (written to a pipe)
    channel_mask: int = 0  # the places of the channels, one bit each; 0: not declared


def read_header(file: BinaryIO) -> Header | None:
    """Read the header of a WAV file up to its first sample; None if the file is not a WAV file."""
    start = file.read(12)
    if len(start) < 12 or start[:4] not in (b"RIFF", b"RF64") or start[8:] != b"WAVE":
        return None
    size_in_ds64: int | None = None
    form: tuple[int, int, int, int, int] | None = None
    mask = 0
    for _ in range(MAX_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return None
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            if form is None:
                return None
            tag, channels, rate, block, bits = form
            return Header(
                format_tag=tag,
                channels=channels,
                sample_rate_hz=rate,
                bits=bits,
                offset_bytes=file.tell(),
                size_bytes=_parse_size(size, block) if size_in_ds64 is None else size_in_ds64,
                channel_mask=mask,
            )
        body = file.read(min(size, 40))
        if name == b"ds64" and len(body) >= 16:
            size_in_ds64 = int.from_bytes(body[8:16], "little")
        elif name == b"fmt " and len(body) >= 16:
            tag, channels, rate, _, block, bits = struct.unpack("<HHIIHH", body[:16])
            if tag == EXTENSIBLE and len(body) >= 26:
                mask = int.from_bytes(body[20:24], "little")
                tag = int.from_bytes(body[24:26], "little")
            form = (tag, channels, rate, block, bits)
        file.seek(size - len(body) + (size & 1), 1)  # chunks are padded to even sizes
    return None


def build_float32_header(*, channels: int, sample_rate_hz: int, frames: int) -> bytes:
    """Return the header of a WAV file of 32-bit floats, whose samples follow it.

    It has a ``fact`` chunk, which the standard requires for all formats but PCM, and no time stamp.

    Raises
    ------
    ValueError
        If the file would be larger than 4 GiB, or a field does not fit.
    """
    block = 4 * channels
    size = block * frames
    riff_size = size + 50
    if riff_size > LARGEST_RIFF_BYTES or block > 0xFFFF or sample_rate_hz * block > 0xFFFF_FFFF:
        raise ValueError(f"{frames} frames of {channels} channels at {sample_rate_hz} Hz")
    return struct.pack(
        "<4sI4s4sIHHIIHHH4sII4sI",
        *(b"RIFF", riff_size, b"WAVE"),
        *(b"fmt ", 18, IEEE_FLOAT, channels, sample_rate_hz, sample_rate_hz * block, block, 32, 0),
        *(b"fact", 4, frames),
        *(b"data", size),
    )


def _parse_size(size: int, block: int) -> int | None:
    """Return the size in a plain header, or None if it means "not known yet"."""
    # To a pipe, ffmpeg writes all ones, SoX 0x7FFFF000 less a part of a block, others 0 or 2 GiB.
    sox = 0x7FFF_F000
    unknown = size == 0 or sox - block < size <= 0x8000_0000 or size >= 0xFFFF_F000
    return None if unknown else size
