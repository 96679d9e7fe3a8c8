"""The key frames of a film: where a player can begin, and what jobs on films look at."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, TypedDict

from msgspec import Meta

from segue.errors import TooLarge
from segue.media.audio import Media
from segue.media.film import scan_key_frames

PRELOAD = ("av", "numpy")

MAX_FRAMES = 100_000


class KeyFrames(TypedDict):
    """The key frames of a film."""

    times_s: Annotated[
        list[float], Meta(description="when each is shown, from the start of the film's pictures")
    ]
    sizes_bytes: Annotated[
        list[int], Meta(description="of each, as it is coded: the more detail, the larger")
    ]
    width: Annotated[int, Meta(description="of the first one, upright, in pixels")]
    height: Annotated[int, Meta(description="of the first one, upright, in pixels")]


def frames(media: Media) -> KeyFrames:
    """List the key frames of a film.

    The container says where they are, so only the first one is decoded, for its size. A film has a
    key frame at most cuts and every few seconds; of some codecs, such as ProRes and Motion JPEG,
    each frame is one.

    Parameters
    ----------
    media : Media
        A film of up to six hours, and 100,000 key frames.

    Returns
    -------
    KeyFrames
        Times are rounded to microseconds.

    Raises
    ------
    NotApplicable, CorruptMedia, TooLarge
        As `segue.Media.frames` describes.
    """
    found = list(islice(scan_key_frames(media.path, media.uri), MAX_FRAMES + 1))
    if len(found) > MAX_FRAMES:
        raise TooLarge(
            f"{media.uri}: it has more than {MAX_FRAMES:,} key frames; cut it into parts"
        )
    _, first = next(iter(media.frames()))
    return {
        "times_s": [frame.time_s for frame in found],
        "sizes_bytes": [frame.size_bytes for frame in found],
        "width": first.shape[1],
        "height": first.shape[0],
    }
