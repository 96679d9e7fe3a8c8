"""The shots of a film, and the cuts between them.

A cut is where a frame differs from the last one by much, and by much more than that one did from
the frame before: movement alone makes frames differ all the time. This is the measure of ffmpeg's
filter ``scdet``: with m, the mean absolute difference of the luma of two frames in percent of 256,
the score of a frame is min(m, abs(m - m of the last frame)).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.media.audio import Media
from segue.media.film import iterate_luma

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("av", "numpy", "segue.features.luma_kernel")


class Cuts(TypedDict):
    """The cuts of a film."""

    times_s: Annotated[
        list[float], Meta(description="when the first frame after each cut is shown")
    ]
    scores: Annotated[
        list[float], Meta(description="how much the picture changes at each cut, 0 to 100")
    ]
    shot_lengths_s: Annotated[
        list[float], Meta(description="of each shot: one more than there are cuts")
    ]
    duration_s: Annotated[float, Meta(description="of all shots, to the end of the last frame")]


def cuts(media: Media, *, threshold: float = 10.0) -> Cuts:
    """Find the hard cuts of a film.

    All frames are decoded, so this takes as long as playing it does to a processor. A fade or a
    dissolve is no hard cut, and is not found; a flash of light is taken for one.

    Parameters
    ----------
    media : Media
        A film of up to six hours.
    threshold : float, 0 to 100
        The score from which on a change is a cut. Of ffmpeg's documentation: from 8 to 14 is
        sensible.

    Returns
    -------
    Cuts
        Times are in seconds from the start of the film's pictures, and rounded to microseconds;
        scores are rounded to 3 decimals.

    Raises
    ------
    ConfigurationError
        If the threshold is not more than 0, and at most 100.
    NotApplicable, CorruptMedia, TooLarge
        As `segue.Media.frames` describes.
    """
    if not 0 < threshold <= 100:
        raise ConfigurationError(f"threshold is {threshold}; use a number above 0, up to 100")
    difference = _Difference()
    times_s, scores = [], []
    before_s = time_s = start_s = last = 0.0
    for number, (now_s, luma) in enumerate(iterate_luma(media.path, media.uri)):
        before_s, time_s = time_s, now_s
        if number == 0:
            before_s = start_s = now_s
        mean = difference.measure(luma)
        score = min(mean, abs(mean - last))
        last = mean
        if score >= threshold:
            times_s.append(time_s)
            scores.append(round(score, 3))
    end_s = time_s + (
        time_s - before_s
    )  # the last frame is taken to last as long as the one before
    edges = [start_s, *times_s, end_s]
    lengths_s = [round(b - a, 6) for a, b in pairwise(edges)]
    return {
        "times_s": times_s,
        "scores": scores,
        "shot_lengths_s": lengths_s,
        "duration_s": round(end_s - start_s, 6),
    }


class _Difference:
    """The mean absolute difference of each frame from the last one, in percent of 256."""

    def __init__(self) -> None:
        self._last: NDArray[np.uint8] | None = None

    def measure(self, luma: NDArray[np.uint8]) -> float:
        """Return 0 for the first frame, and for one of another size."""
        from segue.features.luma_kernel import add_differences

        last, self._last = self._last, luma
        if last is None or last.shape != luma.shape:
            return 0.0
        return add_differences(luma, last) / luma.size / 2.56
