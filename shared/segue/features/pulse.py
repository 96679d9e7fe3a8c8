"""Beats that are on onsets and keep a tempo.

Where a tempo is steady, as in most music that is made with a computer, the beats are near the lines
of a grid. Its phase is that of the most onsets in the whole file, so a passage that stresses the
off-beat does not turn the beats over. Dynamic programming finds a beat near each line or, in a
tempo that moves, beats whose distances keep the period of their moment [1]_.

.. [1] Ellis, D. P. W. "Beat tracking by dynamic programming." Journal of New Music Research 36.1
   (2007): 51-60.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# From one beat to the next, in periods.
SHORTEST, LONGEST = 0.55, 1.8
# The strength is folded at the period, in windows of some steps, into bins.
STEP_S, STEPS_PER_WINDOW, BINS = 3.0, 4, 16
FINE_BINS = 64
SMOOTHING = (0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25)
# So much of a file must be on the grid, to one bin.
SMALLEST_AGREEMENT = 0.75
# A beat may be so far from its line, in periods; the second number is what a beat without an onset
# is worth.
GRID_REACH, GRID_WORTH = 0.15, 0.3


def track_beats(
    strength: NDArray[np.float64], periods: NDArray[np.float64], tightness: float
) -> NDArray[np.intp]:
    """Find the beats with the greatest strength, less the cost of intervals unlike the period.

    A beat's predecessor is at least `SHORTEST` periods before it, so as many frames can be computed
    at once.

    Parameters
    ----------
    strength : np.ndarray [shape=(frames,)]
        How much a frame is like a beat.
    periods : np.ndarray [shape=(frames,)]
        Frames from one beat to the next, at each frame.
    tightness : float > 0
        The cost of an interval is this times the squared logarithm of its ratio to the period.

    Returns
    -------
    np.ndarray [shape=(beats,)]
        Frames, ascending.
    """
    import numpy as np

    frames = len(strength)
    low = max(1, int(SHORTEST * periods.min()))
    high = math.ceil(LONGEST * periods.max())
    logarithms = np.array([math.log(lag) for lag in range(high, low - 1, -1)])
    # Before the first frame are `high` zeros, from which any beat may be the first.
    totals = np.zeros(high + frames)
    origins = np.empty(frames, np.intp)
    for first in range(0, frames, low):
        end = min(first + low, frames)
        cost = tightness * np.square(logarithms - math.log(periods[first]))
        before = np.lib.stride_tricks.sliding_window_view(
            totals[first : end + high - low], high - low + 1
        )
        chosen = (before - cost).argmax(axis=1)
        best = before[np.arange(end - first), chosen] - cost[chosen]
        totals[high + first : high + end] = strength[first:end] + best
        origins[first:end] = np.arange(first, end) + chosen - high
    last = max(0, frames - math.ceil(periods[-1]))
    beats = [last + int(totals[high + last :].argmax())]
    while origins[beats[-1]] >= 0:
        beats.append(int(origins[beats[-1]]))
    return np.array(beats[::-1])


def find_grid(strength: NDArray[np.float64], rate_hz: float, period: float) -> float | None:
    """Find the phase at which a grid of this period has the most strength.

    Returns
    -------
    float or None
        A frame on the grid, or None if the file does not keep to one.
    """
    import numpy as np

    frames = np.arange(len(strength))
    phases = frames / period % 1.0
    steps = (frames / (STEP_S * rate_hz)).astype(np.intp)
    rows = int(steps[-1]) + 1
    bins = steps * BINS + (phases * BINS).astype(np.intp) % BINS
    folded = np.bincount(bins, strength, rows * BINS).reshape(rows, BINS).astype(np.float64)
    if _measure_agreement(folded) < SMALLEST_AGREEMENT:
        return None
    fine = np.bincount((phases * FINE_BINS).astype(np.intp) % FINE_BINS, strength, FINE_BINS)
    middle = len(SMOOTHING) // 2
    smooth = sum(weight * np.roll(fine, k - middle) for k, weight in enumerate(SMOOTHING))
    return (int(np.argmax(smooth)) + 0.5) / FINE_BINS * period


def _measure_agreement(folded: NDArray[np.float64]) -> float:
    """Return how much of a file is in phase with the whole, from its folded steps.

    Half a beat is no difference: some passages stress the off-beat.
    """
    import numpy as np

    width = min(STEPS_PER_WINDOW, len(folded))
    windows = np.lib.stride_tricks.sliding_window_view(folded, width, axis=0).sum(axis=2)
    half = BINS // 2
    windows = windows[:, :half] + windows[:, half:]
    whole = windows.sum(axis=0)
    whole -= whole.mean()
    shifts = range(-half // 2, half // 2)
    likeness = np.stack([(windows * np.roll(whole, k)).sum(axis=1) for k in shifts], axis=1)
    in_phase = np.abs(likeness.argmax(axis=1) - half // 2) <= 1
    weights = np.sqrt(windows.sum(axis=1))
    return float(weights[in_phase].sum() / max(weights.sum(), 1e-12))


def favour_grid(strength: NDArray[np.float64], period: float, offset: float) -> NDArray[np.float64]:
    """Keep the strength near the lines of a grid, and nothing elsewhere."""
    import numpy as np

    distances = np.abs(((np.arange(len(strength)) - offset) / period + 0.5) % 1.0 - 0.5)
    near: NDArray[np.float64] = np.maximum(1 - distances / GRID_REACH, 0)
    return (strength + GRID_WORTH) * near
