"""How regular the pulse of a piece is, by detrended fluctuation analysis.

The level of each 10 ms is integrated to a random walk. In windows of a given length, at every
position, a straight line is removed from the walk, and the root mean square of what is left, over
all windows, is the fluctuation. How it grows with the length of the window, as the slope of its
logarithm, is the exponent for that length [1]_ [2]_: about 0.5 if the level has no memory, 1 and
more if loud and soft parts are long, and close to 0 where a regular pulse brings the level back
again and again. So the lower the exponents are, the more there is to dance to.

Exponents depend neither on the loudness of a piece nor on its tempo, as long as beats are shorter
than the longest window. The measure is blind to what it was not made for: the level of white noise
has no memory either, so noise that is not quite steady reads 2.

.. [1] Streich, S. and Herrera, P. "Detrended fluctuation analysis of music signals: danceability
   estimation and further semantic characterization." AES 118th Convention (2005).
.. [2] Peng, C.-K. et al. "Mosaic organization of DNA nucleotides." Physical Review E 49.2 (1994):
   1685-1689.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.media.audio import Audio, release_pages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("numpy",)

SEGMENTS_PER_S = 100
# Segments of which the samples, or the windows, are in memory at once.
SAMPLES_CHUNK, WINDOWS_CHUNK = 1 << 12, 1 << 15
# Below four segments, little but rounding is left beside a straight line.
SHORTEST_WINDOW_S = 0.04
# The longest window has to fit in often enough for a mean.
WINDOWS_IN_FILE = 2.0
# In short windows the line takes a part of the fluctuation with it; this corrects the slope [1].
SEGMENTS_LOST = 3.0
# Less than one step of 16 bits is what rounding and resampling leave of silence and of constants.
LEAST_LEVEL = 2.0**-15
# A level whose integral never leaves its line by more than 10 ms of the mean level is steady: what
# is left of noise and of held chords is chance and interference.
LEAST_FLUCTUATION = 1.0
# That of a metronome. A lower one would say nothing but how exact its clicks are.
LOWEST_EXPONENT = 0.1


class Danceability(TypedDict):
    """How regular the pulse of a file is."""

    danceability: Annotated[
        float | None,
        Meta(description="from 0 to 10: about 1 for most music, 5 and more for a metronome"),
    ]
    dfa_exponents: Annotated[
        list[float],
        Meta(description="how the fluctuation grows from each window length to the next"),
    ]
    window_s: Annotated[
        list[float], Meta(description="the window lengths, one more than exponents")
    ]
    reason: Annotated[str | None, Meta(description="why nothing was measured")]


def danceability(
    audio: Audio,
    *,
    shortest_window_s: float = 0.31,
    longest_window_s: float = 8.8,
    window_ratio: float = 1.1,
) -> Danceability:
    """Measure how regular the pulse is.

    Parameters
    ----------
    audio : Audio
        The audio; several channels are averaged.
    shortest_window_s, longest_window_s : float
        The range of window lengths in seconds, from 0.04; they are rounded to 10 ms.
    window_ratio : float > 1
        The length of a window relative to the one before.

    Returns
    -------
    Danceability
        ``danceability`` is the reciprocal of the mean exponent. Nothing is measured, for a reason,
        if the file is shorter than two of the longest windows (17.6 s), silent, or its level is
        steady, as that of noise or of a held chord.

    Raises
    ------
    ConfigurationError
        If the windows are out of their range, or there are fewer than two.

    Notes
    -----
    [1]_ compares pieces by their exponents; which number stands for all of them is decided here. It
    is the reciprocal of their mean, where a mean below 0.1 counts as 0.1.
    """
    import numpy as np

    windows = _choose_windows(shortest_window_s, longest_window_s, window_ratio)
    needed_s = WINDOWS_IN_FILE * longest_window_s
    if audio.duration_s < needed_s:
        return _decline(f"shorter than {needed_s:g} s")
    levels = _measure_levels(audio)
    mean_level = float(levels.mean())
    if mean_level < LEAST_LEVEL:
        return _decline("silent")
    fluctuations = _measure_fluctuations(levels / mean_level, windows)
    if fluctuations.max() < LEAST_FLUCTUATION:
        return _decline("its level is steady")
    scales = np.log10(windows + SEGMENTS_LOST)
    exponents = np.diff(np.log10(np.maximum(fluctuations, 1e-9))) / np.diff(scales)
    return {
        "danceability": round(1.0 / max(LOWEST_EXPONENT, float(exponents.mean())), 4),
        "dfa_exponents": exponents.round(4).tolist(),
        "window_s": (windows / SEGMENTS_PER_S).tolist(),
        "reason": None,
    }


def _decline(reason: str) -> Danceability:
    return {"danceability": None, "dfa_exponents": [], "window_s": [], "reason": reason}


def _choose_windows(shortest_s: float, longest_s: float, ratio: float) -> NDArray[np.intp]:
    """Return the window lengths in segments, ascending."""
    import numpy as np

    lengths = np.zeros(0, np.intp)
    if SHORTEST_WINDOW_S <= shortest_s < longest_s < math.inf and ratio > 1.0:
        count = int(np.log(longest_s / shortest_s) / np.log(ratio) + 1e-9) + 1
        lengths_s = shortest_s * ratio ** np.arange(count)
        lengths = np.unique(np.rint(lengths_s * SEGMENTS_PER_S).astype(np.intp))
    if len(lengths) < 2:  # an exponent is that from one length to the next
        raise ConfigurationError(
            f"danceability: windows from {shortest_s:g} to {longest_s:g} s, each {ratio:g} times "
            f"the one before: the shortest must be from {SHORTEST_WINDOW_S} s, the ratio above 1, "
            "and the longest so long that there are two, rounded to 10 ms"
        )
    return lengths


def _measure_levels(audio: Audio) -> NDArray[np.float64]:
    """Return the standard deviation of the samples in each 10 ms; what is left over is ignored."""
    import numpy as np

    count = audio.y.shape[-1] * SEGMENTS_PER_S // audio.sr
    edges = np.arange(count + 1) * audio.sr // SEGMENTS_PER_S
    variances = np.empty(count)
    for first in range(0, count, SAMPLES_CHUNK):
        last = min(count, first + SAMPLES_CHUNK)
        block = Audio(y=audio.y[..., edges[first] : edges[last]], sr=audio.sr).mono().y
        samples = block.astype(np.float64)
        starts = edges[first:last] - edges[first]
        lengths = np.diff(edges[first : last + 1])
        means = np.add.reduceat(samples, starts) / lengths
        powers = np.add.reduceat(np.square(samples, out=samples), starts) / lengths
        variances[first:last] = powers - np.square(means)
        release_pages(audio.y)
    return np.sqrt(np.maximum(0.0, variances))


def _measure_fluctuations(
    levels: NDArray[np.float64], windows: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the fluctuation for each window length, in units of one segment of the mean level."""
    import numpy as np

    sums, counts = np.zeros(len(windows)), np.zeros(len(windows))
    # The line removes the mean anyway; without it, sums stay small and exact.
    levels = levels - levels.mean()
    for first in range(0, len(levels), WINDOWS_CHUNK):
        walk = np.cumsum(levels[first : first + WINDOWS_CHUNK + int(windows[-1]) - 1])
        totals = _accumulate(walk)
        for i, length in enumerate(windows.tolist()):
            count = min(WINDOWS_CHUNK, len(walk) - length + 1)
            if count > 0:
                sums[i] += _sum_residuals(totals, length, count)
                counts[i] += count
    return np.sqrt(sums / counts)


def _accumulate(walk: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of the walk, of time times walk, and of its square, up to each point."""
    import numpy as np

    totals = np.zeros((3, len(walk) + 1))
    for row, values in zip(totals, (walk, np.arange(len(walk)) * walk, walk * walk), strict=True):
        np.cumsum(values, out=row[1:])
    return totals


def _sum_residuals(totals: NDArray[np.float64], length: int, count: int) -> float:
    """Return the mean squares of what a line leaves of each window, summed over the windows."""
    import numpy as np

    means, products, squares = (totals[:, length : length + count] - totals[:, :count]) / length
    # Time counts from the middle of each window.
    slopes = products - (np.arange(count) + (length - 1) / 2) * means
    residuals = squares - means**2 - slopes**2 / ((length**2 - 1) / 12)
    return float(np.maximum(0.0, residuals).sum())
