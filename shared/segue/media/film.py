"""Decodes the key frames of a film, or the brightness of all frames.

PyAV decodes, in the process of the job. It reads the file through an open Python file, so none of
ffmpeg's protocols is used; a demuxer that asks for another file is refused. Only the demuxers and
decoders that are listed in `segue.media.formats` run.
"""

from __future__ import annotations

import errno
import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from segue.errors import CorruptMedia, NotApplicable, TooLarge
from segue.media.containers import Bytes, find_wrong_size
from segue.media.content_type import describe_types, find_types_in
from segue.media.formats import FILM_CONTAINERS, VIDEO_DECODERS
from segue.media.memory import has_ample_memory, require_memory
from segue.media.source import open_source
from segue.model.content_types import accepts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    import numpy as np
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

MAX_DURATION_S = 6 * 3600.0
MAX_PIXELS = 1 << 26  # 8192 x 8192; a film in 8K has half of them
MAX_FRAMES = 100_000
MAX_STREAMS = 100
# From one packet to the next; slides are shown for less, and a longer step is a jump of the clock.
MAX_STEP_S = 60.0
# A decoder's own frames, of up to 16 bits, and the array.
BYTES_PER_PIXEL = 24
READ_BYTES = 1 << 18
MAX_PENDING = 1_000  # frames that a decoder has not returned; H.264 needs 16
# ffmpeg's names of formats whose first plane is luma of 8 bits.
LUMA_FIRST = (
    *("yuv410p", "yuv411p", "yuv420p", "yuv422p", "yuv440p", "yuv444p", "gray"),
    *("yuvj411p", "yuvj420p", "yuvj422p", "yuvj440p", "yuvj444p", "nv12", "nv16"),
)

_EXTENSION = re.compile(r"[a-zA-Z0-9]{1,8}")


def iterate_key_frames(
    path: str, uri: str, *, min_gap_s: float = 0.0
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Decode the key frames of a film, one at a time.

    Parameters
    ----------
    path : str
        The path of its local copy.
    uri : str
        Its URI, for errors.
    min_gap_s : float >= 0
        Key frames that follow the last one sooner are left out.

    Yields
    ------
    time_s : float
        When the frame is shown, in seconds from the start of the film's pictures.
    rgb : np.ndarray [shape=(height, width, 3)], dtype uint8
        Red, green and blue, from 0 to 255; upright, if the film is turned by right angles.

    Raises
    ------
    NotApplicable, CorruptMedia, TooLarge, MissingInput
        As `segue.Media.frames` describes.
    """
    with _open(path, uri) as container:
        yield from _decode(container, uri, min_gap_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFrame:
    """A key frame that is not decoded."""

    time_s: float  # when it is shown, from the start of the film's pictures
    size_bytes: int  # as it is coded


def scan_key_frames(path: str, uri: str) -> Iterator[KeyFrame]:
    """Find the key frames of a film, however many, without decoding any.

    Parameters
    ----------
    path : str
        The path of its local copy.
    uri : str
        Its URI, for errors.

    Yields
    ------
    KeyFrame
        At least one.

    Raises
    ------
    NotApplicable, CorruptMedia, TooLarge, MissingInput
        As `segue.Media.frames` describes; that a frame is damaged is not noticed.
    """
    is_found = False
    with _open(path, uri) as container:
        stream = _open_pictures(container, uri)
        for time_s, packet in _iterate_packets(container, stream):
            _check_time(uri, time_s)
            if packet.is_keyframe and packet.size:
                is_found = True
                yield KeyFrame(time_s=round(time_s, 6), size_bytes=packet.size)
    if not is_found:
        raise CorruptMedia(f"{uri}: it has no key frame")


def iterate_luma(path: str, uri: str) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Decode the brightness of all frames of a film, one at a time.

    Parameters
    ----------
    path : str
        The path of its local copy.
    uri : str
        Its URI, for errors.

    Yields
    ------
    time_s : float
        When the frame is shown, in seconds from the start of the film's pictures.
    luma : np.ndarray [shape=(height, width)], dtype uint8
        The luma as it is stored, which mostly goes from 16 to 235; neither turned nor scaled.

    Raises
    ------
    NotApplicable, CorruptMedia, TooLarge, MissingInput
        As `segue.Media.frames` describes.
    """
    with _open(path, uri) as container:
        stream = _open_pictures(container, uri, skip="DEFAULT")
        count = 0
        for time_s, frame in _iterate_frames(container, stream, uri):
            _check_time(uri, time_s)
            count += 1
            yield round(time_s, 6), _read_luma(frame)
        if count == 0:
            raise CorruptMedia(f"{uri}: none of its frames can be decoded")


@contextmanager
def _open(path: str, uri: str) -> Iterator[InputContainer]:
    """Open a film; an error of ffmpeg's within the block says that the file is damaged."""
    import av

    with open_source(path, uri) as file:
        types = find_types_in(file)
        if types and not accepts(["video/*"], types):
            raise NotApplicable(f"{uri} is {describe_types(types)}: it has no moving pictures")
        wrong_size = find_wrong_size(Bytes(file))
        if wrong_size is not None:
            raise CorruptMedia(f"{uri}: {wrong_size}")
        with _open_film(file, uri) as container:
            try:
                yield container
            except av.FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise
                raise CorruptMedia(f"{uri}: damaged: {error.strerror}") from error


def _open_film(file: BinaryIO, uri: str) -> InputContainer:
    import av

    try:
        return open_container(file, FILM_CONTAINERS)
    except av.FFmpegError as error:
        if isinstance(error, MemoryError) and not has_ample_memory():
            raise
        raise CorruptMedia(f"{uri}: not a film, or damaged: {error.strerror}") from error


def open_container(
    file: BinaryIO, demuxers: Sequence[str], *, decoders: Sequence[str] = ("none",)
) -> InputContainer:
    """Read the beginning of a media file.

    Of a few codecs, only the decoders know what headers do not say; those that are named decode the
    first frames for that.

    Raises
    ------
    av.FFmpegError
        If none of the demuxers recognises it.
    """
    import av

    file.seek(0)
    options = {
        "format_whitelist": ",".join(demuxers),
        "codec_whitelist": ",".join(decoders),
        "protocol_whitelist": "none",
        "max_streams": str(MAX_STREAMS),
    }
    return av.open(
        _Source(file),
        "r",
        container_options=options,
        metadata_errors="replace",
        buffer_size=READ_BYTES,
        io_open=_refuse_file,
    )


class _Source:
    """An open file as PyAV reads it; a place that no file has is an error of the file's."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.tell = file.read, file.tell
        self._seek = file.seek
        # A format without a header is recognised by its name's extension.
        extension = str(file.name).rpartition(".")[2]
        self.name = "media." + extension if _EXTENSION.fullmatch(extension) else "media"

    def seek(self, offset: int, whence: int) -> int:
        """Move to a position; return it, or the negative number of an error."""
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return -errno.EINVAL


def _refuse_file(url: str, flags: int, options: dict[str, Any]) -> object:  # noqa: ARG001
    raise PermissionError("a media file may not open another one")


def find_pictures(container: InputContainer) -> VideoStream | None:
    """Return the first stream of moving pictures; a cover is none."""
    from av.stream import Disposition

    covers = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    return next((each for each in container.streams.video if not each.disposition & covers), None)


def _decode(
    container: InputContainer, uri: str, min_gap_s: float
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    stream = _open_pictures(container, uri)
    last_s = -math.inf
    count, size = 0, (0, 0)
    for time_s, packet in _iterate_packets(container, stream):
        _check_time(uri, time_s)
        if not packet.is_keyframe:
            continue
        if 0 <= time_s - last_s < min_gap_s:
            continue
        frame = _decode_frame(stream, packet, uri)
        if frame is None:
            continue
        if (frame.width, frame.height) != size:
            size = (frame.width, frame.height)
            _check_size(uri, *size)
        count += 1
        _check_count(uri, count)
        last_s = time_s
        yield round(time_s, 6), _convert_to_rgb(frame)
    if count == 0:
        raise CorruptMedia(f"{uri}: none of its key frames can be decoded")


def _iterate_packets(
    container: InputContainer, stream: VideoStream
) -> Iterator[tuple[float, Packet[VideoStream]]]:
    """Yield packets with their times from the start of the film's pictures.

    Where the container does not say when that is, it is with the first packet. Where an MPEG stream
    was cut or joined, its clock jumps, and the film goes on.
    """
    to_seconds = _make_clock(stream)
    begin_s = to_seconds(stream.start_time)
    shift_s = -(begin_s or 0.0)
    last_s: float | None = None
    for packet in container.demux(stream):
        shown_s, decoded_s = to_seconds(packet.pts), to_seconds(packet.dts)
        if decoded_s is None:
            decoded_s = shown_s
        if decoded_s is None:
            yield 0.0, packet
            continue
        if _may_jump(container) and last_s is not None and abs(decoded_s - last_s) > MAX_STEP_S:
            shift_s += last_s - decoded_s
        last_s = decoded_s
        if shown_s is None or abs(shown_s - decoded_s) > MAX_STEP_S:  # of both sides of a jump
            shown_s = decoded_s
        if begin_s is None:
            begin_s, shift_s = shown_s, -shown_s
        yield max(0.0, shown_s + shift_s), packet


def _may_jump(container: InputContainer) -> bool:
    return container.format.name in ("mpegts", "mpeg")


def _open_pictures(
    container: InputContainer, uri: str, *, skip: Literal["NONKEY", "DEFAULT"] = "NONKEY"
) -> VideoStream:
    stream = find_pictures(container)
    if stream is None:
        raise CorruptMedia(f"{uri}: it has no stream of pictures")
    context = stream.codec_context
    name = context.name if context is not None else "something unknown"
    if name not in VIDEO_DECODERS:
        raise CorruptMedia(
            f"{uri}: its pictures are coded as {name}, which Segue does not decode: convert it, "
            "for example to H.264"
        )
    _check_size(uri, context.width, context.height)
    if not _may_jump(container) and (container.duration or 0) / 1_000_000 > MAX_DURATION_S:
        raise _too_long(uri)
    context.options = {"max_pixels": str(MAX_PIXELS)}
    context.skip_frame = skip
    context.thread_count = 1  # one job, one core
    return stream


def _decode_frame(stream: VideoStream, packet: Packet[VideoStream], uri: str) -> VideoFrame | None:
    """Decode a key frame alone: with others, a decoder would wait for those in between."""
    import av

    context = stream.codec_context
    try:
        frames = [*context.decode(packet), *context.decode(None)]
    except av.FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        raise CorruptMedia(f"{uri}: damaged: a key frame cannot be decoded") from error
    context.flush_buffers()
    if any(frame.is_corrupt for frame in frames):
        raise CorruptMedia(f"{uri}: damaged: a key frame cannot be decoded whole")
    return next((frame for frame in frames if frame.key_frame), None)


def _iterate_frames(
    container: InputContainer, stream: VideoStream, uri: str
) -> Iterator[tuple[float, VideoFrame]]:
    """Decode all frames, in the order in which they are shown.

    A frame has the time of the packet with its time stamp, or, without one, of that after which the
    decoder returns it.
    """
    size = (0, 0)
    times: dict[int, float] = {}
    time_s = 0.0
    for packet_s, packet in _iterate_packets(container, stream):
        if not packet.size and packet.dts is not None:  # of Theora: the last frame once more
            continue
        if packet.pts is not None:
            if len(times) > MAX_PENDING:  # frames that were not decoded
                times.clear()
            times[packet.pts] = packet_s
        for frame in stream.codec_context.decode(packet):
            if (frame.width, frame.height) != size:
                size = (frame.width, frame.height)
                _check_size(uri, *size)
            known_s = times.pop(frame.pts, None) if frame.pts is not None else None
            time_s = max(time_s, packet_s if known_s is None else known_s)
            yield time_s, frame


def _check_time(uri: str, time_s: float) -> None:
    if time_s > MAX_DURATION_S:
        raise _too_long(uri)


def _check_count(uri: str, count: int) -> None:
    if count > MAX_FRAMES:
        raise TooLarge(f"{uri}: it has more than {MAX_FRAMES:,} key frames; use a larger min_gap_s")


def _check_size(uri: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"{uri}: {width:,} x {height:,} pixels; the limit is {MAX_PIXELS:,} pixels: scale it "
            "down"
        )
    require_memory(width * height * BYTES_PER_PIXEL, f"{uri}, {width:,} x {height:,} pixels,")


def _too_long(uri: str) -> TooLarge:
    return TooLarge(f"{uri}: longer than {MAX_DURATION_S / 3600:g} hours; cut it into parts")


def _make_clock(stream: VideoStream) -> Callable[[int | None], float | None]:
    """Return what converts the times of a stream to seconds; None for what has none."""
    base = stream.time_base
    if not base:
        return lambda _: None
    ticks, ticks_per_s = base.numerator, base.denominator
    return lambda time: None if time is None else time * ticks / ticks_per_s


def _convert_to_rgb(frame: VideoFrame) -> NDArray[np.uint8]:
    import numpy as np

    # By default, there would be a thread for each core, and its stack counts as the job's memory.
    rgb = np.asarray(frame.to_ndarray(format="rgb24", threads=1), np.uint8)
    if frame.rotation % 90 == 0:
        rgb = np.rot90(rgb, frame.rotation // 90)
    rgb = np.ascontiguousarray(rgb)
    rgb.flags.writeable = False
    return rgb


def _read_luma(frame: VideoFrame) -> NDArray[np.uint8]:
    import numpy as np

    if frame.format.name not in LUMA_FIRST:
        frame = frame.reformat(format="yuv420p", threads=1)
    plane: Any = frame.planes[0]  # a buffer, which mypy does not know of
    rows: NDArray[np.uint8] = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]
