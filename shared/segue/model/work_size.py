"""How much work a file is, as far as a listing tells: how long it plays, roughly.

Most of what a job costs grows with the length of the sound or film, not with the number of files.
A listing has the size in bytes only; what a second takes depends on the kind of the file, which its
suffix tells well enough to compare files of a catalogue with each other.
"""

from __future__ import annotations

from segue.model.media_file import FileStat, MediaFile

# Bytes for a second, of usual files: CD quality, halved by lossless compression, 160 kbit/s, and
# 2.4 Mbit/s of film.
UNCOMPRESSED, LOSSLESS, LOSSY, FILM = 176_400, 100_000, 20_000, 300_000
BYTES_PER_S = {
    **dict.fromkeys(("wav", "aif", "aiff", "aifc", "w64", "caf", "au", "rf64"), UNCOMPRESSED),
    **dict.fromkeys(("mp3", "mp2", "m4a", "m4b", "aac", "ogg", "oga", "opus", "wma"), LOSSY),
    **dict.fromkeys(("mp4", "m4v", "mkv", "mov", "webm", "avi", "mpg", "mpeg", "ts"), FILM),
}
KINDS = frozenset({*BYTES_PER_S, "flac"})


def find_suffix_kind(media: MediaFile) -> str:
    """Return the suffix of a file, in lower case, if it is one of sound or films; else ''."""
    suffix = media.uri.rpartition(".")[2].lower()
    return suffix if suffix in KINDS else ""


def guess_duration_s(media: MediaFile) -> float:
    """Return about how many seconds a file plays, by its size and suffix."""
    size_bytes = media.size_bytes
    if not size_bytes and media.stat is not None:  # of a file in a folder that was not read
        size_bytes = FileStat.parse(media.stat).size_bytes
    return size_bytes / BYTES_PER_S.get(find_suffix_kind(media), LOSSLESS)
