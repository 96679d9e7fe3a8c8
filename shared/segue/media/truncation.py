"""Whether a decoded file is all there: what its container declares, against what came out.

Containers differ in what they know of their own length:

- FLAC, MP4, AIFF and MP3 with a Xing header say it, and ffmpeg prints it as ``Duration``;
- MP3 and ADTS without such a header don't, and ffmpeg says that it estimates: a part of such a
  file is a whole file;
- WAV says it, but ffmpeg forgets it where the file is shorter: the header is read here;
- Ogg says nothing, but a page tells how long it is: a last page that is not whole is proof;
- a duration is that of the longest stream: with a film beside the sound, it proves nothing.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from segue.media import riff

if TYPE_CHECKING:
    from typing import BinaryIO

# What a header may be wrong by in an honest file: encoder delay and padding, a few bad frames.
TOLERANCE_S = 0.25
TOLERANCE_RATIO = 0.01
TOLERANCE_AT_MOST_S = 5.0

# An Ogg page is at most 65,307 bytes long.
OGG_TAIL_BYTES = 1 << 17
OGG_PAGE_HEADER_BYTES = 27

_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?),", re.MULTILINE)
_STREAM = re.compile(r"^ +Stream #0:\d+[^\n]*?: (\w+): ([^\n]*)$", re.MULTILINE)
_ESTIMATED = "Estimating duration from bitrate"
_PAST_THE_END = re.compile(r": partial file\s*$", re.MULTILINE)


def truncation(path: str, log: str, decoded_s: float) -> str | None:
    """Return how a file is cut of which `decoded_s` seconds came out, or None if it is whole.

    Parameters
    ----------
    path : str
        The media file.
    log : str
        What ffmpeg wrote while it decoded the file.
    decoded_s : float
        Length of the decoded sound in seconds.
    """
    declared_s = _declared_in_log(log)
    with open(path, "rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        header = riff.read(file)
        if header is not None:
            declared_s = _declared_in_wav(header, size_bytes, decoded_s)
        ogg_is_cut = _last_ogg_page_is_cut(file, size_bytes)
    if declared_s is not None:
        tolerance_s = min(max(TOLERANCE_S, TOLERANCE_RATIO * declared_s), TOLERANCE_AT_MOST_S)
        if decoded_s < declared_s - tolerance_s:
            return f"truncated: {decoded_s:.1f} s of {declared_s:.1f} s decoded"
    if ogg_is_cut:
        return f"truncated: {decoded_s:.1f} s decoded, then an Ogg page breaks off"
    if _PAST_THE_END.search(log):
        return f"truncated: {decoded_s:.1f} s decoded, then the index points behind the file's end"
    return None


def _declared_in_log(log: str) -> float | None:
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


def _declared_in_wav(header: riff.Header, size_bytes: int, decoded_s: float) -> float | None:
    if header.size_bytes is None:
        return None
    present = size_bytes - header.offset_bytes
    # By proportion, since the header's bytes per second are wrong in many a compressed WAV.
    return decoded_s * header.size_bytes / present if present > 0 else None


def _last_ogg_page_is_cut(file: BinaryIO, size_bytes: int) -> bool:
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
