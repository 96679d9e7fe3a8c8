"""What a file is, as its bytes prove: the content type of its container, and what that holds.

Names and declarations are often wrong, so whether a job is for a file is decided by its bytes where
they prove something. Text proves nothing: a song that holds an error page is a damaged song.

Sources: the registry of media types of IANA, and for types that are not registered, the names that
are in use. The formats' own sources are named in `segue.media.containers` and
`segue.media.stream_kinds`; those of images in `segue.media.image_header`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from segue.media.containers import ASF_HEADER, EBML, WAVE64_RIFF, Bytes
from segue.media.frame_sync import find_frame_type
from segue.media.image_header import is_bmp, is_jpeg, is_tiff
from segue.media.source import open_at_once
from segue.media.stream_kinds import (
    find_asf_kinds,
    find_avi_kinds,
    find_box_kinds,
    find_flv_kinds,
    find_matroska_kinds,
    find_ogg_kinds,
    find_program_stream_kinds,
    find_transport_stream_kinds,
    is_transport_stream,
)
from segue.model.content_types import MIDI, accepts, normalise_type

if TYPE_CHECKING:
    from typing import BinaryIO

# A hostile file could have any number of boxes, tags and pages; a film's index is found with less.
MAX_READS = 20_000
MAX_READ_BYTES = 16 * 2**20

# The bytes at the start, those at a later place, and what they prove.
MAGICS: tuple[tuple[bytes, int, bytes, str], ...] = (
    (b"RIFF", 8, b"WAVE", "audio/wav"),
    (b"RIFX", 8, b"WAVE", "audio/wav"),
    (b"RF64", 8, b"WAVE", "audio/wav"),
    (b"BW64", 8, b"WAVE", "audio/wav"),
    (WAVE64_RIFF, 24, b"wave", "audio/x-w64"),
    (b"FORM", 8, b"AIF", "audio/aiff"),
    (b"FORM", 8, b"8SVX", "audio/x-8svx"),
    (b"FORM", 8, b"16SV", "audio/x-8svx"),
    (b"FORM", 8, b"MAUD", "audio/x-maud"),
    (b"FRM8", 12, b"DSD ", "audio/x-dff"),
    (b"DSD ", 28, b"fmt ", "audio/x-dsf"),
    (b"caff\0\1", 0, b"", "audio/x-caf"),
    (b".snd\0\0", 0, b"", "audio/basic"),
    (b"Creative Voice File\x1a", 0, b"", "audio/x-voc"),
    (b"NIST_1A\n", 0, b"", "audio/x-nist"),
    (b"fLaC", 0, b"", "audio/flac"),
    (b"wvpk", 0, b"", "audio/x-wavpack"),
    (b"TTA1", 0, b"", "audio/x-tta"),
    (b"MPCK", 0, b"", "audio/x-musepack"),
    (b"MP+\x07", 0, b"", "audio/x-musepack"),
    (b"MP+\x17", 0, b"", "audio/x-musepack"),
    (b"DTSHDHDR", 0, b"", "audio/vnd.dts.hd"),
    (b"#!AMR\n", 0, b"", "audio/amr"),
    (b"#!AMR-WB\n", 0, b"", "audio/amr-wb"),
    (b"MThd\0\0\0\6", 0, b"", MIDI),
    (b"\x89PNG\r\n\x1a\n", 12, b"IHDR", "image/png"),
    (b"GIF87a", 0, b"", "image/gif"),
    (b"GIF89a", 0, b"", "image/gif"),
    (b"RIFF", 8, b"WEBPVP8", "image/webp"),
    (b"8BPS\0\1", 0, b"", "image/vnd.adobe.photoshop"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", 0, b"", "image/jxl"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", 0, b"", "image/jp2"),
    (b"%PDF-", 0, b"", "application/pdf"),
    (b"PK\3\4", 0, b"", "application/zip"),
    (b"\x1f\x8b\x08", 0, b"", "application/gzip"),
    (b"7z\xbc\xaf\x27\x1c", 0, b"", "application/x-7z-compressed"),
)
MONKEYS_AUDIO = b"MAC "
MONKEYS_VERSIONS = range(3_800, 5_000)
IMAGES: tuple[tuple[Callable[[Bytes], bool], str], ...] = (
    (is_jpeg, "image/jpeg"),
    (is_tiff, "image/tiff"),
    (is_bmp, "image/bmp"),
)
# MP4's relatives, by the brand of their first box. Images are in boxes, too.
BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"hevc": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
    b"crx ": "image/x-canon-cr3",
}
QUICKTIME = b"qt  "

# By a name's extension. `mimetypes` of Python reads the tables of the machine it runs on.
EXTENSIONS = {
    **dict.fromkeys(("wav", "bwf", "rf64"), "audio/wav"),
    **dict.fromkeys(("aif", "aiff", "aifc"), "audio/aiff"),
    **dict.fromkeys(("au", "snd"), "audio/basic"),
    **dict.fromkeys(("mp3", "mp2"), "audio/mpeg"),
    **dict.fromkeys(("ogg", "oga", "opus", "spx"), "audio/ogg"),
    **dict.fromkeys(("m4a", "m4b", "m4r"), "audio/mp4"),
    **dict.fromkeys(("mid", "midi"), MIDI),
    **dict.fromkeys(("mpc", "mp+", "mpp"), "audio/x-musepack"),
    **dict.fromkeys(("sph", "nist"), "audio/x-nist"),
    **dict.fromkeys(("8svx", "iff"), "audio/x-8svx"),
    "w64": "audio/x-w64",
    "caf": "audio/x-caf",
    "voc": "audio/x-voc",
    "dff": "audio/x-dff",
    "dsf": "audio/x-dsf",
    "flac": "audio/flac",
    "wv": "audio/x-wavpack",
    "tta": "audio/x-tta",
    "ape": "audio/x-ape",
    "aac": "audio/aac",
    "ac3": "audio/ac3",
    "eac3": "audio/eac3",
    "dts": "audio/vnd.dts",
    "dtshd": "audio/vnd.dts.hd",
    "amr": "audio/amr",
    "gsm": "audio/x-gsm",
    "mka": "audio/x-matroska",
    "wma": "audio/x-ms-wma",
    **dict.fromkeys(("mp4", "m4v"), "video/mp4"),
    **dict.fromkeys(("mov", "qt"), "video/quicktime"),
    **dict.fromkeys(("3gp", "3g2"), "video/3gpp"),
    **dict.fromkeys(("wmv", "asf"), "video/x-ms-asf"),
    **dict.fromkeys(("ts", "m2ts", "mts"), "video/mp2t"),
    **dict.fromkeys(("mpg", "mpeg", "vob"), "video/mpeg"),
    "mkv": "video/x-matroska",
    "webm": "video/webm",
    "avi": "video/x-msvideo",
    "flv": "video/x-flv",
    "ogv": "video/ogg",
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "image/jpeg"),
    **dict.fromkeys(("tif", "tiff"), "image/tiff"),
    **dict.fromkeys(("heic", "heics"), "image/heic"),
    **dict.fromkeys(("bmp", "dib"), "image/bmp"),
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "heif": "image/heif",
    "jxl": "image/jxl",
    "jp2": "image/jp2",
    "psd": "image/vnd.adobe.photoshop",
    "svg": "image/svg+xml",
    "ico": "image/vnd.microsoft.icon",
    "cr3": "image/x-canon-cr3",
    **dict.fromkeys(("txt", "log", "nfo", "lrc", "cue"), "text/plain"),
    **dict.fromkeys(("htm", "html"), "text/html"),
    **dict.fromkeys(("m3u", "m3u8", "pls"), "audio/x-mpegurl"),
    **dict.fromkeys(("yaml", "yml"), "application/yaml"),
    "md": "text/markdown",
    "csv": "text/csv",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "json": "application/json",
    "xml": "application/xml",
    "pdf": "application/pdf",
    "zip": "application/zip",
    "gz": "application/gzip",
    "7z": "application/x-7z-compressed",
    "parquet": "application/vnd.apache.parquet",
}
# What a server says that knows nothing, or that was told how the file was sent, not what it is.
UNKNOWN = (
    *("application/octet-stream", "binary/octet-stream", "application/unknown"),
    *("application/x-www-form-urlencoded", "multipart/form-data", "application/force-download"),
)
NOUNS = {
    "application": "a document",
    "audio": "sound",
    "image": "an image",
    "text": "text",
    "video": "sound",  # with pictures, it is a film
    MIDI: "notes",
}

_CONTENT_TYPE = re.compile(r"[a-z]+/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")


class LimitedBytes(Bytes):
    """The bytes of a file, of which only so many can be read; behind them, there are none."""

    _reads = MAX_READS
    _read_bytes = MAX_READ_BYTES

    def read(self, start: int, count: int) -> bytes:
        """Read up to ``count`` bytes, or none if too much was read before."""
        if self._reads <= 0 or self._read_bytes < count:
            return b""
        data = super().read(start, count)
        self._reads -= 1
        self._read_bytes -= len(data)
        return data


def find_content_types(path: str) -> frozenset[str]:
    """Find out what a file is, from its bytes alone.

    A few kilobytes are read of most files, and at most 16 MiB, in some milliseconds; nothing is
    decoded, and no other file is opened.

    Parameters
    ----------
    path : str
        A local file.

    Returns
    -------
    frozenset of str
        The content type of its container, such as ``audio/flac``, ``image/png`` or ``video/mp4``.
        For a container that can hold several kinds of streams, also ``audio/*`` if it has sound,
        and ``video/*`` if it has moving pictures; an attached cover is none. It is empty if the
        bytes prove nothing: those of noise, of text, of a file of which the beginning is damaged,
        of a film whose list of streams is missing, of what is not a file.

    Raises
    ------
    OSError
        If the file does not exist, or cannot be read.
    """
    with open(path, "rb", opener=open_at_once) as file:
        return find_types_in(file)


def find_types_in(file: BinaryIO) -> frozenset[str]:
    """Find out what an open file is, like `find_content_types`; its position changes."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return frozenset()
    return _recognise(LimitedBytes(file))


def find_declared_type(file_name: str, content_type: str | None) -> str | None:
    """Return the content type that a file is declared to be of.

    Parameters
    ----------
    file_name : str
        Its name; the extension counts if the bucket declares nothing.
    content_type : str or None
        What the bucket declares, perhaps with parameters, as in ``text/plain; charset=utf-8``.

    Returns
    -------
    str or None
        The type without parameters, by the name that `find_content_types` uses; None if neither
        says anything.
    """
    declared = normalise_type((content_type or "").partition(";")[0])
    if _CONTENT_TYPE.fullmatch(declared) and declared not in UNKNOWN:
        return declared
    stem, _, extension = file_name.rpartition("/")[2].rpartition(".")
    return EXTENSIONS.get(extension.lower()) if stem else None


def find_declared_types(file_name: str, content_type: str | None) -> frozenset[str]:
    """Find out what a file is declared to be, in the form of `find_content_types`.

    A film may have sound; that is not declared.
    """
    declared = find_declared_type(file_name, content_type)
    if declared is None:
        return frozenset()
    is_film = declared.startswith("video/")
    return frozenset((declared, "audio/*", "video/*") if is_film else (declared,))


def describe_types(found: frozenset[str]) -> str:
    """Return what a file is, for messages, such as ``an image (image/png)``.

    Parameters
    ----------
    found : frozenset of str
        The result of `find_content_types`, which is not empty.
    """
    [name] = [each for each in found if not each.endswith("/*")]
    if accepts(["video/*"], found):
        return f"a film {'with' if accepts(['audio/*'], found) else 'without'} sound ({name})"
    noun = NOUNS.get(name) or NOUNS.get(name.partition("/")[0], "a file")
    return f"{noun} ({name})"


def has_sound(found: frozenset[str]) -> bool:
    """Return whether what a file is found to be has sound; a MIDI file holds notes."""
    return accepts(["audio/*"], found - {MIDI})


def _recognise(data: Bytes) -> frozenset[str]:
    head = data.read(0, 64)
    for magic, place, second, name in MAGICS:
        if head.startswith(magic) and head[place:].startswith(second):
            return frozenset((name,))
    version = int.from_bytes(head[4:6], "little")
    if head.startswith(MONKEYS_AUDIO) and version in MONKEYS_VERSIONS:
        return frozenset(("audio/x-ape",))
    for is_image, name in IMAGES:
        if is_image(data):
            return frozenset((name,))
    container = _recognise_container(data, head)
    if container is not None:
        return container
    frames = find_frame_type(data)
    return frozenset((frames,)) if frames else frozenset()


def _recognise_container(data: Bytes, head: bytes) -> frozenset[str] | None:
    """Return the types of a container of streams; None if the file is none."""
    if head[4:8] == b"ftyp" and head[8:12] in BRANDS:
        return frozenset((BRANDS[head[8:12]],))
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof"):
        kinds = find_box_kinds(data)
        if head[4:8] != b"ftyp" or head[8:12] == QUICKTIME:
            return _name(kinds, "video/quicktime", "video/quicktime")
        return _name(kinds, "audio/mp4", "video/mp4")
    if head.startswith(EBML):
        is_webm, kinds = find_matroska_kinds(data)
        suffix = "webm" if is_webm else "x-matroska"
        return _name(kinds, f"audio/{suffix}", f"video/{suffix}")
    for magic, find_kinds, sound, film in (
        (b"OggS\0", find_ogg_kinds, "audio/ogg", "video/ogg"),
        (ASF_HEADER, find_asf_kinds, "audio/x-ms-wma", "video/x-ms-asf"),
        (b"FLV\1", find_flv_kinds, "video/x-flv", "video/x-flv"),
        (b"\0\0\1\xba", find_program_stream_kinds, "video/mpeg", "video/mpeg"),
    ):
        if head.startswith(magic):
            return _name(find_kinds(data), sound, film)
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return _name(find_avi_kinds(data), "video/x-msvideo", "video/x-msvideo")
    if is_transport_stream(data):
        return _name(find_transport_stream_kinds(data), "video/mp2t", "video/mp2t")
    return None


def _name(kinds: frozenset[str], sound: str, film: str) -> frozenset[str]:
    """Return the types of a container that holds some kinds of streams."""
    if not kinds:
        return frozenset()
    return frozenset((film if "video" in kinds else sound, *(f"{kind}/*" for kind in kinds)))
