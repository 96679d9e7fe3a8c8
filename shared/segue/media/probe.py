"""Describes a media file from its headers: container, streams, duration, tags.

PyAV reads the headers of sound and films, Pillow those of images. No picture is decoded, and of
sound at most the first frames, where no header says its rate and channels, as in ADTS. What a file
says about itself is passed on as it is, but within bounds: it may be wrong, and it is written by
strangers.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta

from segue.errors import CorruptMedia
from segue.media.content_type import find_types_in
from segue.media.film import MAX_STREAMS, open_container
from segue.media.formats import CONTAINERS, DECODERS
from segue.media.image import ERRORS, open_image
from segue.media.source import open_source
from segue.printable import escape_lines

if TYPE_CHECKING:
    from typing import BinaryIO

    from av.container import InputContainer
    from PIL import Image

MAX_TAGS = 64
MAX_KEY_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 1_000
MAX_FRAME_RATE_HZ = 1_000.0
# What ffmpeg and its like write about themselves, in the tags of streams.
OWN_TAGS = ("encoder", "handler_name", "vendor_id", "duration", "language", "creation_time")

# EXIF 2.32, tables 3 to 9: the tags of an image's first directory, and of the one that it names.
EXIF_TAGS = {
    0x010E: "description",
    0x010F: "make",
    0x0110: "model",
    0x0112: "orientation",
    0x0131: "software",
    0x013B: "artist",
    0x8298: "copyright",
}
EXIF_DIRECTORY = 0x8769
EXIF_DIRECTORY_TAGS = {0x9003: "date_time_original"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamInfo:
    """What a file says about one of its streams; None where no header says it."""

    kind: Annotated[
        str,
        Meta(
            description="audio, video, image (an image file, or the cover in a song), subtitle, "
            "data or attachment"
        ),
    ]
    codec: Annotated[
        str | None,
        Meta(description="by ffmpeg's name, such as aac or h264; of an image file, its format"),
    ] = None
    duration_s: Annotated[float | None, Meta(description="length")] = None
    bit_rate_bps: Annotated[int | None, Meta(description="bits per second")] = None
    sample_rate_hz: Annotated[int | None, Meta(description="of sound")] = None
    channels: Annotated[int | None, Meta(description="of sound")] = None
    width: Annotated[
        int | None, Meta(description="in pixels, as stored: orientation is not applied")
    ] = None
    height: Annotated[int | None, Meta(description="in pixels, as stored")] = None
    frame_rate_hz: Annotated[float | None, Meta(description="of moving pictures, on average")] = (
        None
    )
    language: Annotated[str | None, Meta(description="as the file names it, such as eng")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """What a media file says about itself, which may be wrong: it was not decoded."""

    size_bytes: Annotated[int, Meta(description="of the file")]
    content_types: Annotated[
        tuple[str, ...],
        Meta(description="what its bytes prove it to be, sorted; empty if they prove nothing"),
    ] = ()
    container: Annotated[
        str | None,
        Meta(
            description="by ffmpeg's name, such as mov or flac, or the format of an image, such as "
            "png; null if it is neither"
        ),
    ] = None
    duration_s: Annotated[
        float | None,
        Meta(description="length; of some formats it is an estimate from the bit rate"),
    ] = None
    bit_rate_bps: Annotated[int | None, Meta(description="bits per second, of the whole file")] = (
        None
    )
    streams: Annotated[
        tuple[StreamInfo, ...], Meta(description="at most 100; empty if the file is not media")
    ] = ()
    tags: Annotated[
        Mapping[str, str],
        Meta(
            description="at most 64, such as title and artist; of images, some of their EXIF data; "
            "in lower case, of at most 1,000 characters, unprintable ones escaped"
        ),
    ] = field(default_factory=dict)


def probe_file(path: str, uri: str) -> MediaInfo:
    """Describe a file, whatever it is.

    Parameters
    ----------
    path : str
        The path of its local copy.
    uri : str
        Its URI, for errors.

    Raises
    ------
    MissingInput
        If it does not exist or is not readable.
    """
    try:
        file = open_source(path, uri)
    except CorruptMedia:  # it is empty, or not a file
        return MediaInfo(size_bytes=0)
    with file:
        types = find_types_in(file)
        size_bytes = os.fstat(file.fileno()).st_size
        if any(name.startswith("image/") for name in types):
            found = _probe_image(file)
        elif any(name.startswith("application/") for name in types):
            found = {}
        else:
            found = _probe_streams(file)
    return MediaInfo(size_bytes=size_bytes, content_types=tuple(sorted(types)), **found)


def _probe_image(file: BinaryIO) -> dict[str, Any]:
    from PIL.Image import DecompressionBombError

    file.seek(0)
    try:
        with warnings.catch_warnings(action="ignore"), open_image(file) as image:
            name = str(image.format).lower()
            stream = StreamInfo(kind="image", codec=name, width=image.width, height=image.height)
            return {"container": name, "streams": (stream,), "tags": _read_exif(image)}
    except (DecompressionBombError, MemoryError, *ERRORS):  # of a bomb, only its type is told
        return {}


def _read_exif(image: Image.Image) -> dict[str, str]:
    try:
        exif = image.getexif()
        found = {name: exif.get(number) for number, name in EXIF_TAGS.items()}
        more = exif.get_ifd(EXIF_DIRECTORY)
        found |= {name: more.get(number) for number, name in EXIF_DIRECTORY_TAGS.items()}
    except ERRORS:  # the image is no worse for it
        return {}
    return _clean_tags({name: str(value) for name, value in found.items() if value is not None})


def _probe_streams(file: BinaryIO) -> dict[str, Any]:
    import av

    try:
        with open_container(file, CONTAINERS, decoders=DECODERS) as container:
            streams = tuple(map(_describe_stream, islice(container.streams, MAX_STREAMS)))
            return {
                "container": container.format.name.partition(",")[0],
                "duration_s": _round(container.duration, 1_000_000),
                "bit_rate_bps": container.bit_rate or None,
                "streams": streams,
                "tags": _collect_tags(container),
            }
    except av.FFmpegError:  # not media, or too damaged to be described
        return {}


def _describe_stream(stream: Any) -> StreamInfo:
    from av.stream import Disposition

    context = stream.codec_context
    is_cover = bool(stream.disposition & Disposition.attached_pic)
    base = stream.time_base
    duration_s = _round(stream.duration * base, 1) if stream.duration and base else None
    rate = getattr(stream, "average_rate", None)
    return StreamInfo(
        kind="image" if is_cover else stream.type or "data",
        codec=context.codec.canonical_name if context is not None else None,
        duration_s=None if is_cover else duration_s,
        bit_rate_bps=getattr(context, "bit_rate", None) or None,
        sample_rate_hz=getattr(context, "sample_rate", None) or None,
        channels=getattr(context, "channels", None) or None,
        width=getattr(context, "width", None) or None,
        height=getattr(context, "height", None) or None,
        frame_rate_hz=None if is_cover else _check_rate(rate),
        language=_check_language(stream.language),
    )


def _check_language(language: str | None) -> str | None:
    return None if not language or language == "und" else _clean(language, MAX_KEY_CHARACTERS)


def _check_rate(rate: Any) -> float | None:
    """Return a frame rate; that of pictures without one is the clock's, of thousands of hertz."""
    return round(float(rate), 3) if rate and 0 < rate <= MAX_FRAME_RATE_HZ else None


def _round(duration: Any, units_per_s: int) -> float | None:
    seconds = float(duration or 0) / units_per_s
    return round(seconds, 6) if math.isfinite(seconds) and seconds > 0 else None


def _collect_tags(container: InputContainer) -> dict[str, str]:
    """Return a file's tags; those of an Ogg file are those of its first stream."""
    found = dict(container.metadata)
    for stream in islice(container.streams, 1):
        for name, value in stream.metadata.items():
            if name.lower() not in OWN_TAGS:
                found.setdefault(name, value)
    return _clean_tags(found)


def _clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    clean: dict[str, str] = {}
    for name, value in tags.items():
        if len(clean) == MAX_TAGS:
            break
        key = _clean(name.lower(), MAX_KEY_CHARACTERS)
        text = _clean(value, MAX_VALUE_CHARACTERS).strip()
        if key and text:
            clean.setdefault(key, text)
    return clean


def _clean(text: str, characters: int) -> str:
    """Return a text as valid, printable Unicode of a limited length."""
    valid = text[:characters].encode("utf-8", "replace").decode()
    return escape_lines(valid)[:characters]
