"""The kinds of streams that a container holds, from its list of streams: sound, moving pictures.

Only lists are read here, by some lines per family of containers; nothing is decoded. Each function
returns ``{"audio"}``, ``{"video"}``, both, or nothing if the list is missing, damaged, or names
neither. A cover, or the pictures of chapters, are no moving pictures.

Sources: ISO/IEC 14496-12 and Apple's QuickTime File Format (boxes), RFC 9559 (Matroska),
Microsoft's AVI RIFF and ASF 1.2, Adobe's FLV 10.1, RFC 3533 and the mappings of each codec (Ogg),
ISO/IEC 13818-1 (MPEG streams), ETSI EN 300 468 (descriptors of DVB), the registry of the SMPTE RA,
the Blu-ray Disc Association's AV Basic Format (HDMV).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from segue.media.containers import MATROSKA_CLUSTER, MATROSKA_SEGMENT, read_element

if TYPE_CHECKING:
    from segue.media.containers import Bytes

ASF_STREAM = bytes.fromhex("9107dcb7b7a9cf118ee600c00c205365")
ASF_AUDIO = bytes.fromhex("409e69f84d5bcf11a8fd00805f5c442b")
ASF_VIDEO = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")

EBML_DOCTYPE = bytes.fromhex("4282")
MATROSKA_TRACKS = bytes.fromhex("1654ae6b")
MATROSKA_TRACK = b"\xae"
MATROSKA_TRACK_TYPE = b"\x83"
MATROSKA_KINDS = {1: "video", 2: "audio"}

HANDLERS = {b"soun": "audio", b"vide": "video"}
MAX_CHAPTERS_BYTES = 256

# A film has sound within its first seconds, if it has any.
SEARCH_BYTES = 2 * 2**20
MAX_TAGS = 5_000
FLV_KINDS = {8: "audio", 9: "video"}

OGG_KINDS = {
    b"\x01vorbis": "audio",
    b"OpusHead": "audio",
    b"\x7fFLAC": "audio",
    b"Speex   ": "audio",
    b"PCM     ": "audio",
    b"\x80theora": "video",
    b"BBCD\0": "video",
    b"OVP80": "video",
    b"\x01video": "video",
    b"\x01audio": "audio",
}
OGG_FIRST_PAGE = 0x02

TS_PACKET_BYTES = 188
TS_PROBE_PACKETS = 5
TS_SYNC = 0x47
# Packets as they are, with a time in front of each (Blu-ray), or with a checksum behind each.
TS_STRIDES = (188, 192, 204)
MAX_SECTION_BYTES = 1_024
# Stream types.
TS_AUDIO = frozenset((0x03, 0x04, 0x0F, 0x11, 0x1C, 0x81, 0x87, 0x8A))
TS_BLU_RAY_AUDIO = frozenset((*range(0x80, 0x87), 0xA1, 0xA2))  # others use these numbers for data
TS_BLU_RAY = b"HDMV"
TS_VIDEO = frozenset((0x01, 0x02, 0x10, 0x1B, 0x20, 0x21, 0x24, 0x33, 0x42, 0xD1, 0xD2, 0xEA))
TS_PRIVATE = 0x06
# Of a private stream: descriptors of codecs, and the names in a registration descriptor.
TS_AUDIO_DESCRIPTORS = frozenset((0x6A, 0x7A, 0x7B, 0x7C, 0x81))
TS_REGISTRATION = 0x05
TS_NAMES = {
    **dict.fromkeys((b"AC-3", b"EAC3", b"BSSD", b"Opus", b"DTS1", b"DTS2", b"DTS3"), "audio"),
    **dict.fromkeys((b"HEVC", b"AV01", b"VC-1", b"drac"), "video"),
}

PS_START = b"\0\0\1"
PS_GAP_BYTES = 2_324  # a sector of a video CD
PS_PACK = 0xBA
PS_END = PS_START + b"\xb9"
PS_PRIVATE = 0xBD
PS_EXTENDED = 0xFD
# The first byte of a private stream: AC-3, DTS, PCM and the like.
PS_PRIVATE_AUDIO = range(0x80, 0xD0)


def find_box_kinds(data: Bytes) -> frozenset[str]:
    """Return what the tracks of an MP4 or QuickTime file are."""
    tracks: list[tuple[int, str]] = []
    chapters: set[int] = set()
    for name, start, end in _iterate_boxes(data, 0, data.size):
        if name != b"moov":
            continue
        for child, child_start, child_end in _iterate_boxes(data, start, end):
            if child == b"trak":
                _read_track(data, child_start, child_end, tracks, chapters)
        break
    # A podcast's pictures are a track that changes with its chapters.
    return frozenset(kind for track, kind in tracks if kind == "audio" or track not in chapters)


def _read_track(
    data: Bytes, start: int, end: int, tracks: list[tuple[int, str]], chapters: set[int]
) -> None:
    number, kind = -1, None
    for name, at, box_end in _iterate_boxes(data, start, end):
        if name == b"tkhd":
            number = data.integer(at + (20 if data.integer(at, 1) == 1 else 12), 4)
        elif name == b"mdia":
            for child, child_at, _ in _iterate_boxes(data, at, box_end):
                if child == b"hdlr":
                    kind = HANDLERS.get(data.read(child_at + 8, 4))
        elif name == b"tref":
            for child, child_at, child_end in _iterate_boxes(data, at, box_end):
                if child == b"chap":
                    listed = data.read(child_at, min(child_end - child_at, MAX_CHAPTERS_BYTES))
                    chapters.update(
                        int.from_bytes(listed[i : i + 4], "big") for i in range(0, len(listed), 4)
                    )
    if kind is not None:
        tracks.append((number, kind))  # a careless writer gives two of them one number


def _iterate_boxes(data: Bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Iterate over boxes: the name of each, and the start and end of what it holds."""
    at = start
    while at + 8 <= end:
        head = data.read(at, 16)
        if len(head) < 8:
            return
        size, header_bytes = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, header_bytes = int.from_bytes(head[8:16], "big"), 16
        elif size == 0:  # up to the end
            size = end - at
        if size < header_bytes:
            return
        yield head[4:8], at + header_bytes, min(at + size, end)
        at += size


def find_matroska_kinds(data: Bytes) -> tuple[bool, frozenset[str]]:
    """Return whether a Matroska file is WebM, and what its tracks are."""
    is_webm, at, kinds = False, 0, set()
    while (element := read_element(data, at)) is not None:
        name, start, size = element
        if at == 0:
            is_webm = _is_webm(data, start, start + (size or 0))
        at = start + (size or 0)
        if name == MATROSKA_SEGMENT:
            at = start
        elif name == MATROSKA_TRACKS:
            kinds = {_find_track_kind(data, *track) for track in _iterate_tracks(data, start, at)}
            break
        elif size is None or name == MATROSKA_CLUSTER:  # tracks are listed before what they hold
            break
    return is_webm, frozenset(kind for kind in kinds if kind is not None)


def _is_webm(data: Bytes, start: int, end: int) -> bool:
    for name, at, size in _iterate_elements(data, start, end):
        if name == EBML_DOCTYPE:
            return data.read(at, min(size, 8)).rstrip(b"\0") == b"webm"
    return False


def _iterate_tracks(data: Bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    for name, at, size in _iterate_elements(data, start, end):
        if name == MATROSKA_TRACK:
            yield at, at + size


def _find_track_kind(data: Bytes, start: int, end: int) -> str | None:
    for name, at, size in _iterate_elements(data, start, end):
        if name == MATROSKA_TRACK_TYPE:
            return MATROSKA_KINDS.get(data.integer(at, min(size, 8)))
    return None


def _iterate_elements(data: Bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Iterate over elements: the ID of each, the start of what it holds, and its size."""
    at = start
    while at < end and (element := read_element(data, at)) is not None:
        name, start, size = element
        if size is None:
            return
        yield name, start, size
        at = start + size


def find_avi_kinds(data: Bytes) -> frozenset[str]:
    """Return what the streams of an AVI file are."""
    kinds = {b"auds": "audio", b"vids": "video"}
    found: set[str | None] = set()
    for lists, start, end in _iterate_chunks(data, 12, data.size):
        if lists == b"LIST" and data.read(start, 4) == b"hdrl":
            for name, stream, stream_end in _iterate_chunks(data, start + 4, end):
                if name == b"LIST" and data.read(stream, 4) == b"strl":
                    found.update(
                        kinds.get(data.read(header, 4))
                        for child, header, _ in _iterate_chunks(data, stream + 4, stream_end)
                        if child == b"strh"
                    )
            break
    return frozenset(kind for kind in found if kind is not None)


def _iterate_chunks(data: Bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    at = start
    while at + 8 <= end:
        head = data.read(at, 8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[4:], "little")
        yield head[:4], at + 8, min(at + 8 + size, end)
        at += 8 + size + (size & 1)


def find_asf_kinds(data: Bytes) -> frozenset[str]:
    """Return what the streams of a Windows Media file are."""
    kinds = {ASF_AUDIO: "audio", ASF_VIDEO: "video"}
    found: set[str | None] = set()
    at, end = 30, data.integer(16, 8, "little")
    while at + 24 <= end:
        name, size = data.read(at, 16), data.integer(at + 16, 8, "little")
        if size < 24:
            break
        if name == ASF_STREAM:
            found.add(kinds.get(data.read(at + 24, 16)))
        at += size
    return frozenset(kind for kind in found if kind is not None)


def find_flv_kinds(data: Bytes) -> frozenset[str]:
    """Return what the first tags of an FLV file hold; the flags in its header are often wrong."""
    found: set[str] = set()
    at = data.integer(5, 4) + 4
    for _ in range(MAX_TAGS):
        head = data.read(at, 4)
        if len(head) < 4 or at > SEARCH_BYTES or len(found) == len(FLV_KINDS):
            break
        if head[0] & 0x1F in FLV_KINDS:
            found.add(FLV_KINDS[head[0] & 0x1F])
        at += 15 + int.from_bytes(head[1:], "big")
    return frozenset(found)


def find_ogg_kinds(data: Bytes) -> frozenset[str]:
    """Return what the first pages of an Ogg file announce, one for each stream."""
    found: set[str] = set()
    at = 0
    while True:
        head = data.read(at, 27)
        if len(head) < 27 or head[:4] != b"OggS" or not head[5] & OGG_FIRST_PAGE:
            break
        lengths = data.read(at + 27, head[26])
        packet = data.read(at + 27 + head[26], 16)
        found.update(kind for magic, kind in OGG_KINDS.items() if packet.startswith(magic))
        at += 27 + head[26] + sum(lengths)
    return frozenset(found)


def is_transport_stream(data: Bytes) -> bool:
    """Return whether a file begins with packets of an MPEG transport stream."""
    return _find_layout(data) is not None


def find_transport_stream_kinds(data: Bytes) -> frozenset[str]:
    """Return what the program map tables of an MPEG transport stream list."""
    layout = _find_layout(data)
    if layout is None:
        return frozenset()
    offset, stride = layout
    block = data.read(0, SEARCH_BYTES)
    maps: set[int] = set()  # the packet identifiers of program map tables
    sections: dict[int, bytes] = {}
    found: set[str] = set()
    for at in range(offset, len(block) - TS_PACKET_BYTES + 1, stride):
        packet = block[at : at + TS_PACKET_BYTES]
        identifier = int.from_bytes(packet[1:3], "big") & 0x1FFF
        if packet[0] != TS_SYNC or (identifier != 0 and identifier not in maps):
            continue
        section = _add_payload(sections, identifier, packet)
        if section is None:
            continue
        if identifier == 0:
            maps |= _parse_association(section)
        else:
            found |= _parse_map(section)
            maps.discard(identifier)
            if not maps:
                break
    return frozenset(found)


def _find_layout(data: Bytes) -> tuple[int, int] | None:
    """Return the place of the first whole packet, and the distance from each to the next.

    A recording may begin in the middle of a packet.
    """
    block = data.read(0, (TS_PROBE_PACKETS + 1) * max(TS_STRIDES))
    wanted = bytes([TS_SYNC]) * TS_PROBE_PACKETS
    for stride in TS_STRIDES:
        offset = block.find(TS_SYNC, 0, stride)
        while offset >= 0:
            if block[offset::stride][:TS_PROBE_PACKETS] == wanted:
                return offset, stride
            offset = block.find(TS_SYNC, offset + 1, stride)
    return None


def _add_payload(sections: dict[int, bytes], identifier: int, packet: bytes) -> bytes | None:
    """Add a packet to the section that it is a part of; return the section if that is complete."""
    control = packet[3] >> 4 & 3
    payload = packet[4:] if control == 1 else packet[5 + packet[4] :] if control == 3 else b""
    if packet[1] & 0x40:  # a section starts here, behind a pointer
        sections[identifier] = payload[1 + payload[0] :] if payload else b""
    elif identifier in sections:
        sections[identifier] += payload
    section = sections.get(identifier, b"")
    if len(section) < 3:
        return None
    size = 3 + (int.from_bytes(section[1:3], "big") & 0xFFF)
    if len(section) < min(size, MAX_SECTION_BYTES):
        return None
    del sections[identifier]
    return section[: size - 4] if size <= MAX_SECTION_BYTES else None  # a checksum is at the end


def _parse_association(section: bytes) -> set[int]:
    programs = range(8, len(section) - 3, 4) if section[:1] == b"\x00" else ()
    return {
        int.from_bytes(section[at + 2 : at + 4], "big") & 0x1FFF
        for at in programs
        if section[at : at + 2] != b"\0\0"  # the network's own table
    }


def _parse_map(section: bytes) -> set[str]:
    if section[:1] != b"\x02" or len(section) < 12:
        return set()
    found: set[str | None] = set()
    at = 12 + (int.from_bytes(section[10:12], "big") & 0xFFF)
    is_blu_ray = TS_BLU_RAY in section[12:at]
    while at + 5 <= len(section):
        size = int.from_bytes(section[at + 3 : at + 5], "big") & 0xFFF
        if is_blu_ray and section[at] in TS_BLU_RAY_AUDIO:
            found.add("audio")
        else:
            found.add(_find_stream_kind(section[at], section[at + 5 : at + 5 + size]))
        at += 5 + size
    return {kind for kind in found if kind is not None}


def _find_stream_kind(stream_type: int, descriptors: bytes) -> str | None:
    if stream_type in TS_AUDIO:
        return "audio"
    if stream_type in TS_VIDEO:
        return "video"
    at = 0
    while stream_type == TS_PRIVATE and at + 2 <= len(descriptors):
        tag, body = descriptors[at], descriptors[at + 2 : at + 2 + descriptors[at + 1]]
        if tag in TS_AUDIO_DESCRIPTORS:
            return "audio"
        if tag == TS_REGISTRATION and body[:4] in TS_NAMES:
            return TS_NAMES[body[:4]]
        at += 2 + descriptors[at + 1]
    return None


def find_program_stream_kinds(data: Bytes) -> frozenset[str]:
    """Return what the first packets of an MPEG program stream hold."""
    found: set[str | None] = set()
    at = 0
    for _ in range(MAX_TAGS):
        head = data.read(at, 32)
        if len(head) < 16 or head.startswith(PS_END) or at > SEARCH_BYTES:
            break
        if not head.startswith(PS_START):  # packets of a video CD are followed by zeros
            skipped = data.read(at, PS_GAP_BYTES).find(PS_START)
            if skipped < 0:
                break
            at += skipped
            continue
        if head[3] == PS_PACK:
            # MPEG-2 begins with the bits 01, and may be followed by bytes that stuff it.
            at += 14 + (head[13] & 7) if head[4] >> 6 == 1 else 12
            continue
        found.add(_find_packet_kind(head))
        at += 6 + int.from_bytes(head[4:6], "big")
    return frozenset(kind for kind in found if kind is not None)


def _find_packet_kind(head: bytes) -> str | None:
    stream_id = head[3]
    if 0xC0 <= stream_id < 0xE0:
        return "audio"
    if 0xE0 <= stream_id < 0xF0 or stream_id == PS_EXTENDED:
        return "video"
    place = 9 + head[8]
    if stream_id == PS_PRIVATE and place < len(head) and head[place] in PS_PRIVATE_AUDIO:
        return "audio"
    return None
