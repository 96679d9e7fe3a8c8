"""Detection of files of which a part is missing or damaged, from what ffmpeg decoded and logged.

The sizes that a container declares are compared with the file before it is decoded (`containers`).
Here, the duration that it declares is compared with that of the decoded audio:

- FLAC, MP4, APE, Matroska, MP3 with a Xing header and others declare it, and ffmpeg prints it as
  ``Duration``; some count from 0 to the end, although the sound starts later;
- MP3 and ADTS without such a header do not, and ffmpeg logs that it estimates;
- MPEG streams do not either: ffmpeg subtracts the first time stamp from the last, between which
  there may be jumps;
- the duration is that of the longest stream: if there is a video stream, it proves nothing;
- a stream with pauses between its packets decodes to less than its duration, but its last packet
  ends where the stream does, which ffmpeg prints as ``time``. If ffmpeg complains about packets as
  well, the pauses are damage;
- FLAC, TTA, WavPack, APE and Ogg have checksums, and ffmpeg logs which are wrong.
"""

from __future__ import annotations

import re
from enum import Enum

from segue.media.containers import Bytes, has_all_mp3_frames, is_streamed_avi

# The error that a header may have in a whole file: encoder delay and padding, a few bad frames.
TOLERANCE_S = 0.25
TOLERANCE_RATIO = 0.01
TOLERANCE_AT_MOST_S = 5.0
EXACT_TOLERANCE_S = 0.01  # ffmpeg prints hundredths of a second


class DurationClaim(Enum):
    """What the duration that ffmpeg prints for a container means."""

    NOTHING = 1  # it is derived from fields that many writers get wrong, or from time stamps
    OF_LAST_PACKET = 2  # the container declares none, or counts from another start
    WITH_PAUSES = 3  # packets have times, so there may be pauses between them
    ABOUT_ALL = 4  # of all samples, and perhaps of what an encoder has added to them
    OF_SAMPLES = 5  # of all samples, exactly


# By the first of a demuxer's names; `DurationClaim.ABOUT_ALL` is that of all others.
DURATION_CLAIMS = {
    **dict.fromkeys(("wav", "aiff", "iff", "mpegts", "mpeg"), DurationClaim.NOTHING),
    **dict.fromkeys(("ogg", "avi"), DurationClaim.OF_LAST_PACKET),
    **dict.fromkeys(("mov", "matroska", "asf", "flv"), DurationClaim.WITH_PAUSES),
    **dict.fromkeys(("flac", "tta", "wv", "ape"), DurationClaim.OF_SAMPLES),
}

_CLOCK = r"(\d+):(\d\d):(\d\d(?:\.\d+)?)"
_DEMUXER = re.compile(r"^Input #0, (\w+)", re.MULTILINE)
_DURATION = re.compile(rf"^  Duration: {_CLOCK}(?:, start: (-?\d+\.\d+))?,", re.MULTILINE)
_REACHED = re.compile(rf"^size=.* time={_CLOCK} ", re.MULTILINE)
_STREAM = re.compile(r"^ +Stream #0:\d+[^\n]*?: (\w+): ([^\n]*)$", re.MULTILINE)
_ESTIMATED = "Estimating duration from bitrate"
# Of a demuxer or decoder; "[out#0" is a summary.
_COMPLAINT = re.compile(
    r"^(\[(?!out#)[^\n]*(?<!Could not update timestamps for skipped samples\.)"
    r"|Error while decoding [^\n]*)$",
    re.MULTILINE,
)
# The start of a file is read before the output is opened; of FLV, that is where ffmpeg complains.
_SKIPPED_TAGS = re.compile(r"^\[[^\]\n]*\bflv @ [^\n]*Packet mismatch", re.MULTILINE)
# Others, such as those of MP3 frames, are wrong in many whole files.
_WRONG_CHECKSUM = re.compile(
    r"^\[[^\]\n]*\b(?:flac|tta|wavpack|ape|ogg) @ [^\n]*CRC (?:error|mismatch)", re.MULTILINE
)
_PARTIAL_FILE = re.compile(r": partial file\s*$", re.MULTILINE)


def find_truncation(path: str, log: str, decoded_s: float) -> str | None:
    """Return what is missing in the decoded audio of a file, or None if it is whole.

    Parameters
    ----------
    path : str
        The media file.
    log : str
        The log of ffmpeg from decoding the file.
    decoded_s : float
        Duration of the decoded audio in seconds.
    """
    end_s = _parse_log_end(log)
    while_decoding = log.partition("\nOutput #0")[2]
    has_complaints = bool(_COMPLAINT.search(while_decoding) or _SKIPPED_TAGS.search(log))
    with open(path, "rb") as file:
        data = Bytes(file)
        claim = _find_claim(log, data)
        declared_s = parse_log_duration(log)
        if claim is DurationClaim.NOTHING or (
            claim is DurationClaim.OF_LAST_PACKET and not has_complaints
        ):
            declared_s = None
        reached_s = decoded_s
        if claim is DurationClaim.WITH_PAUSES and not has_complaints:
            reached_s = max(decoded_s, end_s)
        is_exact = claim is DurationClaim.OF_SAMPLES
        is_short = declared_s is not None and _is_short(reached_s, declared_s, is_exact=is_exact)
        if is_short and not has_all_mp3_frames(data):
            return f"truncated: {decoded_s:.2f} s of {declared_s:.2f} s decoded"
    if _WRONG_CHECKSUM.search(log):
        return f"damaged: {decoded_s:.1f} s decoded, but a block's checksum is wrong"
    if has_complaints and _is_short(decoded_s, end_s):
        return f"damaged: {decoded_s:.1f} s of {end_s:.1f} s decoded"
    if _PARTIAL_FILE.search(log):
        return (
            f"truncated: {decoded_s:.1f} s decoded, then the index points past the end of the file"
        )
    return None


def _find_claim(log: str, data: Bytes) -> DurationClaim:
    demuxer = _DEMUXER.search(log)
    name = demuxer[1] if demuxer else ""
    if name == "avi" and is_streamed_avi(data):
        return DurationClaim.NOTHING
    return DURATION_CLAIMS.get(name, DurationClaim.ABOUT_ALL)


def _is_short(part_s: float, whole_s: float, *, is_exact: bool = False) -> bool:
    tolerance_s = min(max(TOLERANCE_S, TOLERANCE_RATIO * whole_s), TOLERANCE_AT_MOST_S)
    return part_s < whole_s - (EXACT_TOLERANCE_S if is_exact else tolerance_s)


def parse_log_duration(log: str) -> float | None:
    """Return how long the audio is at least, as the container declares."""
    of_input = log.partition("\nOutput #0")[0]
    durations = _DURATION.findall(of_input)
    if not durations or _ESTIMATED in of_input:
        return None
    description = of_input.partition("\nStream mapping:")[0]
    timed = [kind for kind, rest in _STREAM.findall(description) if "attached pic" not in rest]
    if timed != ["Audio"]:
        return None
    *clock, start_s = durations[-1]
    return _parse_clock(clock) - max(0.0, float(start_s or 0))


def _parse_log_end(log: str) -> float:
    """Return where the last packet of the audio ends, after the start of the first."""
    ends = _REACHED.findall(log)
    return _parse_clock(ends[-1]) if ends else 0.0


def _parse_clock(clock: list[str] | tuple[str, ...]) -> float:
    hours, minutes, seconds = clock
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
