"""Whether a file without a header is a stream of coded frames of sound.

A frame begins with a few bits that noise has, too, and says how long it is. So a file is such a
stream if a frame follows where the last one ends, several times, each of the same format.

Sources: ISO/IEC 11172-3 and 13818-3 (MPEG audio), ISO/IEC 13818-7 (ADTS), ETSI TS 102 366 (AC-3 and
E-AC-3), ETSI TS 102 114 (DTS).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segue.media.containers import Bytes

MIN_FRAMES = 3
SEARCH_BYTES = 1 << 16  # how far into the file the first frame may be
HEADER_BYTES = 8
# A chain of frames breaks off early in nearly all places where none starts.
MAX_CANDIDATES = 4096

# Kilobits per second: MPEG-1 layers I, II and III, MPEG-2 layer I, and its layers II and III.
KBPS_1_1 = tuple(range(0, 480, 32))
KBPS_1_2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
KBPS_1_3 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
KBPS_2_1 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
KBPS_2_3 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
RATES_HZ = (44_100, 48_000, 32_000)
AC3_KBPS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)

# The length of a frame in bytes, and what all frames of a stream have in common.
Frame = tuple[int, object]


def find_frame_type(data: Bytes) -> str | None:
    """Return the content type of a stream of frames, such as ``audio/mpeg``; None if it is none."""
    start = data.read(0, SEARCH_BYTES)
    for content_type, sync, parse in STREAMS:
        at = start.find(sync)
        for _ in range(MAX_CANDIDATES):
            if at < 0:
                break
            frame = parse(start[at : at + HEADER_BYTES])
            if frame is not None and _count_frames(data, at, parse) >= MIN_FRAMES:
                return content_type
            at = start.find(sync, at + 1)
    return None


def _count_frames(data: Bytes, at: int, parse: Callable[[bytes], Frame | None]) -> int:
    """Return how many frames of one format follow each other, at most as many as are enough."""
    first: Frame | None = None
    for count in range(MIN_FRAMES):
        frame = parse(data.read(at, HEADER_BYTES))
        if frame is None or (first is not None and frame[1] != first[1]):
            # Two frames from the start to the end are a whole file.
            return MIN_FRAMES if count == MIN_FRAMES - 1 and at == data.size else count
        first = first or frame
        at += frame[0]
    return MIN_FRAMES


def _parse_mpeg_frame(head: bytes) -> Frame | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)  # 3 is MPEG-1, 2 MPEG-2, 0 MPEG-2.5
    kbps_index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or rate_index == 3 or kbps_index in (0, 15):
        return None
    is_mpeg_1 = version == 3
    table = (KBPS_1_1, KBPS_1_2, KBPS_1_3) if is_mpeg_1 else (KBPS_2_1, KBPS_2_3, KBPS_2_3)
    rate_hz = RATES_HZ[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    bits, padding = 1000 * table[layer - 1][kbps_index], head[2] >> 1 & 1
    common = (version, layer, rate_hz)
    if layer == 1:
        return 4 * (12 * bits // rate_hz + padding), common
    samples_per_bit = 144 if layer == 2 or is_mpeg_1 else 72
    return samples_per_bit * bits // rate_hz + padding, common


def _parse_adts_frame(head: bytes) -> Frame | None:
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    rate_index = head[2] >> 2 & 15
    return (length, (head[1], head[2])) if length > 7 and rate_index < 13 else None


def _parse_ac3_frame(head: bytes) -> Frame | None:
    if len(head) < 6 or head[:2] != b"\x0b\x77":
        return None
    stream_id = head[5] >> 3
    rate_index, size_index = head[4] >> 6, head[4] & 63
    if stream_id > 10 or rate_index == 3 or size_index >= 2 * len(AC3_KBPS):
        return None
    rate_hz = (48_000, 44_100, 32_000)[rate_index]
    words = 96_000 * AC3_KBPS[size_index // 2] // rate_hz
    return 2 * (words + (size_index & 1 if rate_hz == 44_100 else 0)), (stream_id, rate_hz)


def _parse_eac3_frame(head: bytes) -> Frame | None:
    if len(head) < 6 or head[:2] != b"\x0b\x77" or not 10 < head[5] >> 3 <= 16:
        return None
    return 2 * (((head[2] & 7) << 8 | head[3]) + 1), head[5] >> 3


def _parse_dts_frame(head: bytes) -> Frame | None:
    if len(head) < 8 or head[:4] != b"\x7f\xfe\x80\x01":
        return None
    length = ((head[5] & 3) << 12 | head[6] << 4 | head[7] >> 4) + 1
    return (length, head[4] & 0xFC) if length >= 96 else None


# The content type, the bytes that each frame begins with, and how its header is read; the longest
# first, since few places in a file begin with those.
STREAMS: tuple[tuple[str, bytes, Callable[[bytes], Frame | None]], ...] = (
    ("audio/vnd.dts", b"\x7f\xfe\x80\x01", _parse_dts_frame),
    ("audio/ac3", b"\x0b\x77", _parse_ac3_frame),
    ("audio/eac3", b"\x0b\x77", _parse_eac3_frame),
    ("audio/mpeg", b"\xff", _parse_mpeg_frame),
    ("audio/aac", b"\xff", _parse_adts_frame),
)
