"""Content types: which of them are the same, and which ones a job accepts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

MIDI = "audio/midi"
# Names that are in use for the same type.
ALIASES = {
    **dict.fromkeys(("audio/x-wav", "audio/wave", "audio/vnd.wave"), "audio/wav"),
    **dict.fromkeys(("audio/mp3", "audio/x-mp3", "audio/x-mpeg"), "audio/mpeg"),
    **dict.fromkeys(("audio/m4a", "audio/x-m4a", "audio/x-m4b"), "audio/mp4"),
    **dict.fromkeys(("audio/opus", "audio/vorbis", "application/ogg"), "audio/ogg"),
    **dict.fromkeys(("audio/aacp", "audio/x-aac"), "audio/aac"),
    **dict.fromkeys(("audio/mid", "audio/x-midi", "audio/sp-midi"), MIDI),
    **dict.fromkeys(("video/avi", "video/msvideo", "video/vnd.avi"), "video/x-msvideo"),
    **dict.fromkeys(("video/x-ms-wmv", "application/vnd.ms-asf"), "video/x-ms-asf"),
    **dict.fromkeys(("image/jpg", "image/pjpeg"), "image/jpeg"),
    **dict.fromkeys(("image/x-bmp", "image/x-ms-bmp"), "image/bmp"),
    "audio/x-flac": "audio/flac",
    "audio/x-aiff": "audio/aiff",
    "audio/matroska": "audio/x-matroska",
    "video/matroska": "video/x-matroska",
    "video/x-m4v": "video/mp4",
    "video/3gpp2": "video/3gpp",
    "image/apng": "image/png",
    "application/x-zip-compressed": "application/zip",
    "application/x-pdf": "application/pdf",
}


def accepts(patterns: Sequence[str], found: Collection[str]) -> bool:
    """Return whether what a file is found to be matches any of some content types.

    ``audio/*`` matches what has sound, and ``video/*`` what has moving pictures, whatever the
    container: a film in ``video/mp4`` with sound matches both, a silent one the latter only.
    ``*/*`` matches anything, and what nothing is known of.

    Parameters
    ----------
    patterns : sequence of str
        Content types, such as ``image/png`` or ``audio/*``.
    found : collection of str
        The result of `segue.media.content_type.find_content_types`, or the one type that is
        declared.
    """
    kinds = {each for each in found if each.endswith("/*")}
    # Without kinds, the container says what it holds.
    kinds = kinds or {each.partition("/")[0] + "/*" for each in found}
    accepted = set(map(normalise_type, patterns))
    return "*/*" in accepted or not accepted.isdisjoint(kinds | set(map(normalise_type, found)))


def normalise_type(content_type: str) -> str:
    """Return the one name of a content type that has several, in lower case."""
    name = content_type.strip().lower()
    return ALIASES.get(name, name)
