"""Detection of truncated files: compares the declared duration with the decoded one.

Containers differ in how they declare their duration:

- FLAC, MP4, AIFF and MP3 with a Xing header declare it, and ffmpeg prints it as ``Duration``;
- MP3 and ADTS without such a header do not, and ffmpeg logs that it estimates: a part of such a
  file is a whole file;
- WAV declares it, but ffmpeg drops it if the file is shorter, so the header is read here;
- Ogg does not, but each page has its length: an incomplete last page is proof;
- the duration is that of the longest stream: if there is a video stream, it proves nothing.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from segue.media import riff

if TYPE_CHECKING:
    from typing import BinaryIO

# The error that a header may have in a whole file: encoder delay and padding, a few bad frames.
TOLERANCE_S = 0.25
TOLERANCE_RATIO = 0.01
TOLERANCE_AT_MOST_S = 5.0

# An Ogg page is at most 65,307 bytes long.
OGG_TAIL_BYTES = 1 << 17
OGG_PAGE_HEADER_BYTES = 27

_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?),", re.MULTILINE)
_STREAM = re.compile(r"^ +Stream #0:\d+[^\n]*?: (\w+): ([^\n]*)$", re.MULTILINE)
_ESTIMATED = "Estimating duration from bitrate"
_PARTIAL_FILE = re.compile(r": partial file\s*$", re.MULTILINE)


def find_truncation(path: str, log: str, decoded_s: float) -> str | None:
    """Return how a file is truncated, or None if it is whole.

    Parameters
    ----------
    path : str
        The media file.
    log : str
        The log of ffmpeg from decoding the file.
    decoded_s : float
        Duration of the decoded audio in seconds.
    """
    declared_s = _parse_log_duration(log)
    with open(path, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        header = riff.read_header(file)
        if header is not None:
            declared_s = _estimate_wav_duration(header, size_bytes, decoded_s)
        ogg_is_cut = _is_last_ogg_page_cut(file, size_bytes)
    if declared_s is not None:
        tolerance_s = min(max(TOLERANCE_S, TOLERANCE_RATIO * declared_s), TOLERANCE_AT_MOST_S)
        if decoded_s < declared_s - tolerance_s:
            return f"truncated: {decoded_s:.1f} s of {declared_s:.1f} s decoded"
    if ogg_is_cut:
        return f"truncated: {decoded_s:.1f} s decoded, then an Ogg page breaks off"
    if _PARTIAL_FILE.search(log):
        return (
            f"truncated: {decoded_s:.1f} s decoded, then the index points past the end of the file"
        )
    return None


def _parse_log_duration(log: str) -> float | None:
    of_input = log.partition("\nOutput #0")[0]
    durations = _DURATION.findall(of_input)
    if not durations or _ESTIMATED in of_input:
        return None
    description = of_input.partition("\nStream mapping:")[0]
    timed = [kind for kind, rest in _STREAM.findall(description) if "attached pic" not in rest]
    if timed != ["Audio"]:
        return None
    hours, minutes, seconds = durations[-1]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _estimate_wav_duration(header: riff.Header, size_bytes: int, decoded_s: float) -> float | None:
    if header.size_bytes is None:
        return None
    present = size_bytes - header.offset_bytes
    # By proportion, since many compressed WAV files declare wrong bytes per second.
    return decoded_s * header.size_bytes / present if present > 0 else None


def _is_last_ogg_page_cut(file: BinaryIO, size_bytes: int) -> bool:
    file.seek(0)
    if file.read(4) != b"OggS":
        return False
    file.seek(max(0, size_bytes - OGG_TAIL_BYTES))
    tail = file.read(OGG_TAIL_BYTES)
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < OGG_PAGE_HEADER_BYTES:
        return True
    lengths = page[OGG_PAGE_HEADER_BYTES : OGG_PAGE_HEADER_BYTES + page[26]]
    return len(page) < OGG_PAGE_HEADER_BYTES + page[26] + sum(lengths)
