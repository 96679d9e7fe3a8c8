"""The pictures that a job looks at: that of an image, or key frames that are spread over a film.

A film has a key frame at most cuts, and every few seconds in between. From the first one on, those
are taken that are at least max(``min_gap_s``, T / (``max_frames`` - 1)) apart, where T is the time
of the last key frame. So there are never more than ``max_frames``, from the beginning of the film
to its end. A short film of one shot may have a single key frame.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from segue.errors import ConfigurationError, CorruptMedia
from segue.media.content_type import find_content_types
from segue.media.film import scan_key_frames
from segue.model.content_types import accepts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from segue.media.audio import Media

MAX_FRAMES = 1_000
# Pillow's copy of a picture has 4 bytes per pixel, and one in grey.
COPY_BYTES_PER_PIXEL = 5


def iterate_pictures(
    media: Media, *, min_gap_s: float, max_frames: int
) -> Iterator[tuple[float | None, NDArray[np.uint8]]]:
    """Decode the pictures that a job looks at, one at a time.

    Parameters
    ----------
    media : Media
        An image or a film.
    min_gap_s : float >= 0
        Key frames of a film that are closer are left out.
    max_frames : int, 1 to 1,000
        How many key frames are taken at most.

    Yields
    ------
    time_s : float or None
        When a key frame is shown; None for an image.
    rgb : np.ndarray [shape=(height, width, 3)], dtype uint8
        As `segue.Media.image` and `segue.Media.frames` describe.

    Raises
    ------
    ConfigurationError
        If a parameter is out of its range.
    NotApplicable, CorruptMedia, TooLarge
        As `segue.Media.image` and `segue.Media.frames` describe.
    """
    if not 1 <= max_frames <= MAX_FRAMES:
        raise ConfigurationError(f"max_frames is {max_frames}; use 1 to {MAX_FRAMES:,}")
    if not min_gap_s >= 0:
        raise ConfigurationError(f"min_gap_s is {min_gap_s}; use seconds from 0 on")
    types = find_content_types(media.path)
    if accepts(["image/*"], types):
        yield None, media.image()
        return
    try:
        last_s = max(frame.time_s for frame in scan_key_frames(media.path, media.uri))
    except CorruptMedia as error:
        if types or not os.path.getsize(media.path):
            raise
        raise CorruptMedia(
            f"{media.uri}: neither an image nor a film that Segue reads; convert it"
            ", for example to PNG or MP4"
        ) from error
    gap_s = max(min_gap_s, last_s / (max_frames - 1) if max_frames > 1 else last_s)
    yield from islice(media.frames(min_gap_s=gap_s), max_frames)


def resize(rgb: NDArray[np.uint8], width: int, height: int, *, sharp: bool = False) -> Image.Image:
    """Scale a picture with Pillow: all of its pixels count, however small it becomes.

    ``sharp`` takes Lanczos' filter in place of the bilinear one.
    """
    from PIL import Image as Pillow

    chosen = Pillow.Resampling.LANCZOS if sharp else Pillow.Resampling.BILINEAR
    return Pillow.fromarray(rgb).resize((width, height), chosen)


def fit(rgb: NDArray[np.uint8], longest: int) -> tuple[int, int]:
    """Return the width and height of a picture whose longest side is exactly so many pixels."""
    height, width = rgb.shape[:2]
    scale = longest / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def limit(rgb: NDArray[np.uint8], longest: int) -> tuple[int, int]:
    """Return the width and height of a picture whose longest side is at most so many pixels."""
    return fit(rgb, min(longest, max(rgb.shape[:2])))
