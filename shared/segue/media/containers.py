"""Whether a media file is as long as its container says, from the sizes in its structure.

ffmpeg decodes what is there, and is silent about the rest: the missing part of a truncated file,
and the part of a file behind a size that is too small. Most containers declare sizes, which are
compared with the file here:

- RIFF, RIFX, RF64, Wave64, AIFF, CAF, DSF, DSDIFF and DTS-HD are sequences of chunks, some of which
  hold the sound; AVI is a sequence of RIFF chunks, VOC one of blocks; AU and SPHERE have a header
  with a size;
- MP4 and QuickTime are sequences of boxes, ASF (WMA) of objects, Matroska and WebM of elements;
- FLV repeats the size of each tag behind it, and each Ogg page has a size;
- MP3 may start with a Xing or VBRI frame, which holds the size of all frames.

ADTS, AC-3, DTS, GSM, AMR and MPEG streams declare nothing: a part of such a file is a whole file.

Sources: Multimedia Programming Interface and Data Specifications 1.0 (RIFF), EBU Tech 3306 (RF64),
Sony's Wave64, Apple's AIFF-C (1991) and Core Audio Format 1.0, Sony's DSF 1.01, Philips' DSDIFF
1.5, ETSI TS 102 114 (DTS-HD), ISO/IEC 14496-12 (boxes), RFC 9559 (Matroska), Microsoft's ASF 1.2,
Adobe's FLV 10.1, RFC 3533 (Ogg), ISO/IEC 11172-3 and 13818-3 (MP3).
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from segue.media import riff

if TYPE_CHECKING:
    from typing import BinaryIO

# Some writers count a header or a pad byte into a size.
SLACK_BYTES = 128
# What may follow the last chunk unexplained: a stray line break, or zeros up to a sector.
MAX_TRAILER_BYTES = 1024
MAX_TRAILING_ZEROS = 1 << 16
TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")
# A hostile file could hold millions of empty chunks; a film of hours has a few thousand clusters.
MAX_CHUNKS = 100_000

OGG_TAIL_BYTES = 1 << 17  # a page is at most 65,307 bytes long
OGG_PAGE_HEADER_BYTES = 27

WAVE64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
WAVE64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
ASF_DATA_HEADER_BYTES = 50
EBML = bytes.fromhex("1a45dfa3")
MATROSKA_SEGMENT = bytes.fromhex("18538067")
MATROSKA_CLUSTER = bytes.fromhex("1f43b675")
FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"styp")
OTHER_BOXES = (b"udta", b"meta", b"uuid", b"mfra", b"sidx", b"PICT", b"emsg")
FLV_TAGS = (8, 9, 18)
VOC_END = 0
VOC_LAST_TYPE = 9

# Kilobits per second of layer III, by "is MPEG-1".
MP3_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MP3_RATES_HZ = (44_100, 48_000, 32_000)
MP3_SYNC_BYTES = 1 << 16  # how far into the file the first frame may be
# The Xing frame itself may or may not be counted; a frame is at most 1,441 bytes long.
MP3_SLACK_BYTES = 1_500

CUT = "truncated: the file ends {missing:,} bytes before {what} does"
MORE = (
    "its size disagrees with its header: {extra:,} bytes follow its sound that are no whole chunk; "
    "the size in the header wrapped at 4 GiB, or was not updated when a recording broke off: write "
    "the header anew"
)
NO_SAMPLES = "it holds no samples"
ANOTHER = "another file follows in the same file: separate them"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkLayout:
    """How a container writes its chunks."""

    start: int  # of the first chunk
    id_bytes: int = 4
    size_bytes: int = 4
    byteorder: Literal["little", "big"] = "little"
    sound: tuple[bytes, ...] = (b"data",)  # the chunks that hold sound
    alignment: int = 2
    counts_header: bool = False  # the size includes the chunk's own header


# By the bytes at the start of the file, and those at a later place.
CHUNK_LAYOUTS: dict[tuple[bytes, int, bytes], ChunkLayout] = {
    (b"RIFF", 8, b"WAVE"): ChunkLayout(start=12),
    (b"RF64", 8, b"WAVE"): ChunkLayout(start=12),
    (b"BW64", 8, b"WAVE"): ChunkLayout(start=12),
    (b"RIFX", 8, b"WAVE"): ChunkLayout(start=12, byteorder="big"),
    (b"RIFF", 8, b"AVI "): ChunkLayout(start=0, sound=(b"RIFF",)),
    (b"FORM", 8, b""): ChunkLayout(
        start=12,
        byteorder="big",
        sound=(b"SSND", b"BODY", b"MDAT"),  # AIFF, 8SVX and 16SV, MAUD
    ),
    (b"FRM8", 12, b"DSD "): ChunkLayout(
        start=16, size_bytes=8, byteorder="big", sound=(b"DSD ", b"DST ")
    ),
    (b"DSD ", 28, b"fmt "): ChunkLayout(start=0, size_bytes=8, alignment=1, counts_header=True),
    (b"caff", 8, b""): ChunkLayout(start=8, size_bytes=8, byteorder="big", alignment=1),
    (b"DTSHDHDR", 0, b""): ChunkLayout(
        start=0, id_bytes=8, size_bytes=8, byteorder="big", alignment=1, sound=(b"STRMDATA",)
    ),
    (WAVE64_RIFF, 24, b"wave"): ChunkLayout(
        start=40, id_bytes=16, size_bytes=8, sound=(WAVE64_DATA,), alignment=8, counts_header=True
    ),
}
WAVE_FORMS = (b"RIFF", b"RF64", b"BW64", b"RIFX")


class Bytes:
    """The bytes of an open file behind its ID3v2 tags, by position."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.start = 0  # in the file
        self.size = os.fstat(file.fileno()).st_size
        # ID3v2.4, section 3.1: the size has seven bits in each byte.
        for _ in range(MAX_CHUNKS):
            tag = self.read(0, 10)
            if tag[:3] != b"ID3" or len(tag) < 10:
                break
            size = tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]
            self.start += 10 + size
            self.size = max(0, self.size - 10 - size)

    def read(self, start: int, count: int) -> bytes:
        """Read up to ``count`` bytes; behind the end, there are none."""
        if not 0 <= start < self.size:
            return b""
        self._file.seek(self.start + start)
        return self._file.read(count)

    def integer(self, start: int, count: int, byteorder: Literal["little", "big"] = "big") -> int:
        """Read an unsigned integer; bytes that are not there count as none."""
        return int.from_bytes(self.read(start, count), byteorder)


def find_big_endian_format(data: Bytes) -> tuple[int, int] | None:
    """Return the format tag and the bits of a sample of an RIFX file; None for other files."""
    layout = CHUNK_LAYOUTS[(b"RIFX", 8, b"WAVE")]
    head = data.read(0, 12)
    if head[:4] != b"RIFX" or head[8:] != b"WAVE":
        return None
    at = layout.start
    for _ in range(MAX_CHUNKS):
        chunk = _read_chunk(data, layout, at)
        if chunk is None:
            break
        name, start, end = chunk
        if name == b"fmt ":
            tag, bits = data.integer(start, 2), data.integer(start + 14, 2)
            return data.integer(start + 24, 2) if tag == riff.EXTENSIBLE else tag, bits
        at = _find_next_chunk(data, layout, end)
    return None


def is_streamed_avi(data: Bytes) -> bool:
    """Return whether the header of an AVI file was written before its length was known."""
    return data.read(4, 4) in (bytes(4), b"\xff" * 4)


def find_wrong_size(data: Bytes) -> str | None:
    """Return how a file is shorter or longer than it declares, or None if it is neither.

    A container that declares nothing, or is none that is known here, is neither.
    """
    head = data.read(0, 48)
    for (magic, place, second), layout in CHUNK_LAYOUTS.items():
        if head.startswith(magic) and head[place:].startswith(second):
            return _check_chunks(data, layout, magic)
    if head[4:8] in FIRST_BOXES:
        return _check_boxes(data)
    for magic, check in (
        (b".snd", _check_au),
        (b"Creative Voice File\x1a", _check_voc),
        (b"NIST_1A\n", _check_sphere),
        (EBML, _check_matroska),
        (ASF_HEADER, _check_asf),
        (b"FLV", _check_flv),
        (b"OggS", _check_ogg),
    ):
        if head.startswith(magic):
            return check(data)
    return _check_mp3(data)


# Chunks


def _check_chunks(data: Bytes, layout: ChunkLayout, magic: bytes) -> str | None:
    wide_size: int | None = None  # of the sound, in an RF64 file's ds64 chunk
    found = False
    at = layout.start
    for _ in range(MAX_CHUNKS):
        chunk = _read_chunk(data, layout, at)
        if chunk is None:
            break
        name, start, end = chunk
        if name in layout.sound:
            if wide_size is not None and end - start == 0xFFFF_FFFF:
                end = start + wide_size
            if _is_unknown(end - at if layout.counts_header else end - start, data.size < end):
                return NO_SAMPLES if _are_chunks(data, layout, end) else None
            if end > data.size + SLACK_BYTES:
                return CUT.format(missing=end - data.size, what="its sound")
            found = True
        elif end > data.size + SLACK_BYTES or end < start:
            break
        elif found and name == magic:
            return ANOTHER
        elif name == b"ds64":
            wide_size = data.integer(start + 8, 8, layout.byteorder)
        at = _find_next_chunk(data, layout, end)
    return _check_trailer(data, at) if found else None


def _read_chunk(data: Bytes, layout: ChunkLayout, at: int) -> tuple[bytes, int, int] | None:
    """Return a chunk's ID, and the start and end of what it holds; None if there is none."""
    start = at + layout.id_bytes + layout.size_bytes
    name = data.read(at, layout.id_bytes)
    if start > data.size or not _is_printable(name[:4]):
        return None
    size = data.integer(at + layout.id_bytes, layout.size_bytes, layout.byteorder)
    return name, start, (at if layout.counts_header else start) + size


def _is_unknown(size: int, is_beyond: bool) -> bool:
    """Return whether a size stands for "up to the end of the file", as written to a pipe."""
    # To a pipe, ffmpeg writes all ones or 0, SoX 0x7FFFF000 less a part of a block, or 0x7F000000
    # and a header's size for AIFF, others 2 GiB. A file may really be that large.
    if size in (0, 0xFFFF_FFFF) or size >= 1 << 62:
        return True
    return is_beyond and (
        0x7FFE_F000 < size <= 0x8000_0000
        or 0xFFFF_F000 <= size < 1 << 32
        or 0 <= size - 0x7F00_0000 < 64
    )


def _is_printable(name: bytes) -> bool:
    return len(name) > 0 and all(0x20 <= byte < 0x7F for byte in name)


def _find_next_chunk(data: Bytes, layout: ChunkLayout, end: int) -> int:
    padded = -(-end // layout.alignment) * layout.alignment
    # Some writers forget the padding.
    if padded != end and _is_printable(data.read(end, 4)):
        return end
    return padded


def _are_chunks(data: Bytes, layout: ChunkLayout, at: int) -> bool:
    """Return whether the rest of the file consists of chunks, at least one."""
    for _ in range(MAX_CHUNKS):
        chunk = _read_chunk(data, layout, at)
        if chunk is None or not at < chunk[2] <= data.size:
            break
        at = _find_next_chunk(data, layout, chunk[2])
        if at >= data.size:
            return True
    return False


def _check_trailer(data: Bytes, at: int) -> str | None:
    extra = data.size - at
    if extra <= MAX_TRAILER_BYTES or data.read(at, 16).startswith(TAGS):
        return None
    if extra <= MAX_TRAILING_ZEROS and not data.read(at, extra).strip(b"\0"):
        return None
    return MORE.format(extra=extra)


def _check_au(data: Bytes) -> str | None:
    start, size = data.integer(4, 4), data.integer(8, 4)
    return None if size in (0, 0xFFFF_FFFF) else _check_end(data, start + size)


def _check_end(data: Bytes, end: int) -> str | None:
    """Check where sound ends that nothing may follow, since ffmpeg would decode it as sound."""
    if end > data.size + SLACK_BYTES:
        return CUT.format(missing=end - data.size, what="its sound")
    extra = data.size - end
    return MORE.format(extra=extra) if extra > SLACK_BYTES else None


def _check_voc(data: Bytes) -> str | None:
    at = data.integer(20, 2, "little")
    for _ in range(MAX_CHUNKS):
        if at >= data.size:
            return None
        kind, size = data.integer(at, 1), data.integer(at + 1, 3, "little")
        if kind == VOC_END or data.size - at <= SLACK_BYTES:
            return _check_trailer(data, at + 1)
        if kind > VOC_LAST_TYPE:
            return _check_trailer(data, at)
        if at + 4 + size > data.size:
            return CUT.format(missing=at + 4 + size - data.size, what="its sound")
        at += 4 + size
    return None


def _check_sphere(data: Bytes) -> str | None:
    header = data.read(0, 1024)
    fields = dict(re.findall(rb"^(\w+) -i (\d{1,18})$", header, re.MULTILINE))
    sizes = [fields.get(name) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
    if b"shorten" in header or None in sizes:
        return None
    end = int(header[8:16].strip() or 0) if header[8:16].strip().isdigit() else 1024
    end += math.prod(int(size) for size in sizes if size is not None)
    return _check_end(data, end)


# Boxes, objects and elements


def _check_boxes(data: Bytes) -> str | None:
    at, indexes, is_fragmented = 0, 0, False
    for _ in range(MAX_CHUNKS):
        if at + 8 > data.size:
            break
        size, name = data.integer(at, 4), data.read(at + 4, 4)
        if size == 1:
            size = data.integer(at + 8, 8)
        if size < 8 or name not in FIRST_BOXES + OTHER_BOXES:
            break
        if at + size > data.size:
            what = f"its {name.decode('ascii')} box"
            return CUT.format(missing=at + size - data.size, what=what)
        indexes += name == b"moov"
        is_fragmented = is_fragmented or name == b"moof"
        at += size
    return ANOTHER if indexes > 1 and not is_fragmented else None


def _check_asf(data: Bytes) -> str | None:
    at, is_last = 0, False
    for _ in range(MAX_CHUNKS):
        name, size = data.read(at, 16), data.integer(at + 16, 8, "little")
        if at + 24 > data.size or size < 24 or (is_last and at + size > data.size):
            break
        if at + size > data.size and name in (ASF_HEADER, ASF_DATA):
            return CUT.format(missing=at + size - data.size, what="its sound")
        if name == ASF_DATA and size <= ASF_DATA_HEADER_BYTES:  # a broadcast
            return None
        is_last = is_last or name == ASF_DATA  # only indexes follow
        at += size
    return _check_trailer(data, at) if is_last else None


def _check_matroska(data: Bytes) -> str | None:
    at, in_segment = 0, False
    for _ in range(MAX_CHUNKS):
        element = read_element(data, at)
        if element is None:
            break
        name, start, size = element
        is_segment = name == MATROSKA_SEGMENT
        if size is None:
            if name != MATROSKA_SEGMENT:  # a cluster of a live stream: its end is not declared
                break
            at, in_segment = start, True
            continue
        if start + size > data.size and (is_segment or name == MATROSKA_CLUSTER):
            what = "its segment" if is_segment else "its last cluster"
            return CUT.format(missing=start + size - data.size, what=what)
        if is_segment:
            is_joined = data.read(start + size, 4) == EBML
            return ANOTHER if is_joined else _check_trailer(data, start + size)
        if name == EBML and in_segment:
            return ANOTHER
        at = start + size
    return None


def read_element(data: Bytes, at: int) -> tuple[bytes, int, int | None] | None:
    """Return an element's ID, the start of what it holds, and its size (None: unknown)."""
    head = data.read(at, 12)
    if len(head) < 2 or head[0] < 0x10:
        return None
    id_bytes = 9 - head[0].bit_length()
    if len(head) <= id_bytes or head[id_bytes] == 0:
        return None
    size_bytes = 9 - head[id_bytes].bit_length()
    size = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big")
    all_ones = (1 << 7 * size_bytes) - 1
    value = size & all_ones
    return head[:id_bytes], at + id_bytes + size_bytes, None if value == all_ones else value


# Streams of tags, pages and frames


def _check_flv(data: Bytes) -> str | None:
    size = data.integer(data.size - 4, 4) if data.size > 13 else 0
    start = data.size - 4 - size
    is_tag = start >= 9 and data.integer(start, 1) & 0x1F in FLV_TAGS
    if is_tag and data.integer(start + 1, 3) + 11 == size:
        return None
    return "truncated: the last of its tags breaks off"


def _check_ogg(data: Bytes) -> str | None:
    tail = data.read(max(0, data.size - OGG_TAIL_BYTES), OGG_TAIL_BYTES)
    page = tail[tail.rfind(b"OggS") :]
    lengths = page[OGG_PAGE_HEADER_BYTES : OGG_PAGE_HEADER_BYTES + page[26]] if page[26:] else b""
    if not lengths or len(page) < OGG_PAGE_HEADER_BYTES + page[26] + sum(lengths):
        return "truncated: the last of its Ogg pages breaks off"
    return None


def _check_mp3(data: Bytes) -> str | None:
    found = find_mp3_count(data)
    if found is None or found.size_bytes is None:
        return None
    missing = found.start + found.size_bytes - data.size
    if missing <= MP3_SLACK_BYTES:
        return None
    return CUT.format(missing=missing, what="the last frame that its header counts")


@dataclass(frozen=True, slots=True)
class Mp3Count:
    """What the first frame of an MP3 file says about the others (Xing, Info or VBRI)."""

    start: int  # of that frame
    size_bytes: int | None  # of all frames


def find_mp3_count(data: Bytes) -> Mp3Count | None:
    """Return what an MP3 file says about its frames; None if it says nothing."""
    start_bytes = data.read(0, MP3_SYNC_BYTES)
    at = start_bytes.find(b"\xff")
    while at >= 0:
        head = start_bytes[at : at + 256]
        if (length := _measure_mp3_frame(head[:4])) and _measure_mp3_frame(
            data.read(at + length, 4)
        ):
            return _parse_mp3_count(head, at)
        at = start_bytes.find(b"\xff", at + 1)
    return None


def _parse_mp3_count(head: bytes, start: int) -> Mp3Count | None:
    is_mpeg_1, is_mono = bool(head[1] & 0x08), head[3] & 0xC0 == 0xC0
    side_bytes = (17 if is_mono else 32) if is_mpeg_1 else (9 if is_mono else 17)
    xing = head[4 + side_bytes :]
    if xing[:4] in (b"Xing", b"Info"):
        flags = int.from_bytes(xing[4:8], "big")
        at = 8 + 4 * (flags & 1)
        size = int.from_bytes(xing[at : at + 4], "big") if flags & 2 else 0
        return Mp3Count(start, size or None)
    if head[36:40] == b"VBRI":
        return Mp3Count(start, int.from_bytes(head[46:50], "big") or None)
    return None


def _measure_mp3_frame(head: bytes) -> int | None:
    """Return the length of a layer III frame in bytes from its header; None if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or head[1] & 0x18 == 0x08:
        return None
    is_mpeg_1 = bool(head[1] & 0x08)
    rate_index, kbps_index = head[2] >> 2 & 3, head[2] >> 4
    if rate_index == 3 or kbps_index in (0, 15):
        return None
    # Version bits: 3 is MPEG-1, 2 is MPEG-2 at half its rates, 0 is MPEG-2.5 at a quarter.
    rate_hz = MP3_RATES_HZ[rate_index] >> {3: 0, 2: 1, 0: 2}[head[1] >> 3 & 3]
    slots = 144_000 if is_mpeg_1 else 72_000
    return slots * MP3_KBPS[is_mpeg_1][kbps_index] // rate_hz + (head[2] >> 1 & 1)


def has_all_mp3_frames(data: Bytes) -> bool:
    """Return whether an MP3 file has all bytes that it declares, and nothing but frames in them.

    If so, a number of frames that does not agree with them was never right.
    """
    found = find_mp3_count(data)
    if found is None or found.size_bytes is None or _check_mp3(data) is not None:
        return False
    at = found.start
    end = min(found.start + found.size_bytes, data.size)
    while at < end:
        length = _measure_mp3_frame(data.read(at, 4))
        if length is None:
            return end - at <= MP3_SLACK_BYTES  # tags, or the end of what is counted differently
        at += length
    return True
