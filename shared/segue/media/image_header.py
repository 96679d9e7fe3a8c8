"""Whether a file begins like an image of a format whose first bytes alone prove little.

Sources: ITU-T T.81, annex B (JPEG); TIFF 6.0, section 2; Microsoft's BITMAPINFOHEADER (BMP).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from segue.media.containers import Bytes

MAX_SEGMENTS = 256  # a large colour profile or preview has dozens
# Start of frame: those from C0 on, but the markers of tables in between.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
TIFF_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
TIFF_WIDTH = 256
BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)


def is_jpeg(data: Bytes) -> bool:
    """Return whether a file has the markers of JPEG up to its size in pixels."""
    if data.read(0, 3) != b"\xff\xd8\xff":
        return False
    at = 2
    for _ in range(MAX_SEGMENTS):
        marker = data.read(at, 4)
        if len(marker) < 4 or marker[0] != 0xFF:
            return False
        if marker[1] == 0xFF:  # any number of fill bytes may precede a marker
            at += 1
        elif marker[1] in JPEG_FRAMES:
            return data.integer(at + 5, 2) > 0 and data.integer(at + 7, 2) > 0
        else:
            at += 2 + int.from_bytes(marker[2:], "big")
    return False


def is_tiff(data: Bytes) -> bool:
    """Return whether a file has a directory of TIFF, with the width of its first image."""
    order = TIFF_ORDERS.get(data.read(0, 4))
    if order is None:
        return False
    at = data.integer(4, 4, order)
    count = min(data.integer(at, 2, order), 4096)
    entries = data.read(at + 2, 12 * count)
    tags = {int.from_bytes(entries[i : i + 2], order) for i in range(0, len(entries) - 11, 12)}
    return TIFF_WIDTH in tags


def is_bmp(data: Bytes) -> bool:
    """Return whether a file has the two headers of a bitmap."""
    return (
        data.read(0, 2) == b"BM"
        and data.integer(14, 4, "little") in BMP_HEADER_BYTES
        and 0 < data.integer(10, 4, "little") <= data.size
    )
