"""A small picture that stands for an image or a film."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.errors import ConfigurationError
from segue.features.pictures import COPY_BYTES_PER_PIXEL, iterate_pictures, limit, resize
from segue.media.audio import Media
from segue.media.memory import require_memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("av", "numpy", "PIL.Image")

MAX_SIZE = 2_048
MEASURED_SIZE = 256
DARK, FLAT = 20.0, 10.0  # of luma from 0 to 255: its mean, and its standard deviation
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def thumbnail(
    media: Media, *, size: int = 320, min_gap_s: float = 1.0, max_frames: int = 30
) -> NDArray[np.uint8]:
    """Return a small picture of an image, or of the key frame that shows most of a film.

    Key frames that are nearly black (mean luma below 20 of 255) or nearly of one colour (standard
    deviation below 10) are left out if there are others. Of the rest, that with the largest product
    of sharpness and 100 + colourfulness is taken, the earliest of equals. Both are measured at 256
    pixels: sharpness is the mean absolute difference of the luma of neighbours, so frames that are
    blurred by movement or by a dissolve lose; colourfulness is the measure M3 of Hasler and
    Suesstrunk, "Measuring colourfulness in natural images", Proc. SPIE 5007, 2003: 0 is grey, and
    109 extremely colourful.

    Parameters
    ----------
    media : Media
        An image or a film.
    size : int, 1 to 2,048
        The longest side, in pixels. A smaller picture is not enlarged.
    min_gap_s, max_frames
        Which key frames are looked at: `segue.features.pictures`.

    Returns
    -------
    np.ndarray [shape=(height, width, 3)], dtype uint8
        Red, green and blue, upright, as ``image/jpeg`` or ``image/png`` holds it.

    Raises
    ------
    ConfigurationError
        If a parameter is out of its range.
    NotApplicable, CorruptMedia, TooLarge
        As `segue.Media.image` and `segue.Media.frames` describe.
    """
    import numpy as np

    if not 1 <= size <= MAX_SIZE:
        raise ConfigurationError(f"size is {size}; use 1 to {MAX_SIZE:,} pixels")
    best, best_score = None, (False, -1.0)
    for time_s, rgb in iterate_pictures(media, min_gap_s=min_gap_s, max_frames=max_frames):
        height, width = rgb.shape[:2]
        require_memory(height * width * COPY_BYTES_PER_PIXEL, f"the thumbnail of {media.uri}")
        score = (True, 0.0) if time_s is None else _rate(rgb)
        if best is None or score > best_score:
            best, best_score = rgb, score
    assert best is not None
    return np.array(resize(best, *limit(best, size), sharp=True), np.uint8)


def _rate(rgb: NDArray[np.uint8]) -> tuple[bool, float]:
    """Return whether there is anything in a picture, and how much it shows; more is better."""
    import numpy as np

    small = np.asarray(resize(rgb, *limit(rgb, MEASURED_SIZE)), np.float64)
    luma = small @ np.array(LUMA)
    shows = bool(luma.mean() >= DARK and luma.std() >= FLAT)
    rows, columns = (np.abs(np.diff(luma, axis=axis)) for axis in (0, 1))
    sharpness = (rows.sum() + columns.sum()) / max(1, rows.size + columns.size)
    return shows, round(float(sharpness * (100 + _measure_colour(small))), 6)


def _measure_colour(rgb: NDArray[np.float64]) -> float:
    import numpy as np

    red, green, blue = np.moveaxis(rgb, 2, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue])
    spread = np.hypot(*opponents.std(axis=(1, 2)))
    return float(spread + 0.3 * np.hypot(*opponents.mean(axis=(1, 2))))
