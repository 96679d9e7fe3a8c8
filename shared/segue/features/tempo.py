"""The tempo of a sound: its period, which level of the metre that is, and how it moves.

The autocorrelation of an envelope of onsets, in windows of twelve seconds, shows all periods of the
metre: of bars, beats and eighths [1]_. The strongest is followed from window to window, on the path
that moves least (Viterbi). Which multiple or fraction of it is the beat is a matter of notation. It
is decided by a weighted sum of the autocorrelations at the fractions and multiples of each
candidate, and of how common its tempo is: a conditional logit [2]_, whose 25 weights were fitted to
240 pieces with known notation, and to clicks and drum patterns from 60 to 180 bpm.

.. [1] Grosche, P., M. Müller, and F. Kurth. "Cyclic tempogram: a mid-level tempo representation for
   music signals." Proc. ICASSP (2010).
.. [2] McFadden, D. "Conditional logit analysis of qualitative choice behavior." In Frontiers in
   Econometrics (1974): 105-142.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW_S, STEP_S = 12.0, 3.0
WINDOWS_PER_BLOCK = 64
# Of a window; beyond, too little is left to compare.
LONGEST_LAG = 0.54
# With less, there is no tempo.
SHORTEST_S = 2.0

LOWEST_BPM, HIGHEST_BPM = 38.0, 250.0
STEPS_PER_OCTAVE = 40
# The tempo to start from, at any level: how much less likely one is an octave from the common one.
OCTAVE_WEIGHT = 0.5

# From window to window: by steps of one per cent, around the tempo of the file. The costs are in
# units of the autocorrelation; a jump costs no more than the highest.
STEP_RATIO, SMALLEST_RATIO, LARGEST_RATIO = 1.01, 0.65, 1.55
COST_PER_OCTAVE, HIGHEST_COST = 2.8, 1.5
# A tempo is steady if it is within this of the median in most windows.
STEADY_RATIO, STEADY_SHARE = 0.012, 0.8
# A steady period is refined on the autocorrelation of the whole file, up to this lag.
REFINEMENT_S = 60.0

# The level of the beat, relative to the period that was followed, and where the autocorrelations of
# salience, accents and low onsets are read, in periods of a candidate.
RATIOS = (1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1, 4 / 3, 3 / 2, 2, 3, 4)
MULTIPLES = (1 / 4, 1 / 3, 1 / 2, 1, 3 / 2, 2, 3, 4)
# fmt: off
LEVEL_WEIGHTS = (
    -3.08, -1.01, 4.05, -0.54, 3.31, 1.28, -0.56, 1.16,
    -2.08, -2.75, -3.72, 2.99, -1.42, 1.05, 3.54, 0.70,
    1.66, -0.93, -3.19, 0.27, -0.35, 0.69, -0.56, 2.62,
)
# fmt: on
# Times the square of the distance from the most common tempo, in octaves.
PRIOR_WEIGHT = 1.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Tempo:
    """The tempo of a file.

    Attributes
    ----------
    bpm : float
        The tempo if it is steady, and the median of all windows otherwise.
    is_steady : bool
        Whether it is the same from beginning to end.
    periods : np.ndarray [shape=(frames,)]
        Frames from one beat to the next, at each frame.
    periodicity : float
        The mean autocorrelation at one, two and four beats, at most 1.
    probability : float
        That of this metrical level among the alternatives.
    """

    bpm: float
    is_steady: bool
    periods: NDArray[np.float64]
    periodicity: float
    probability: float


def estimate_tempo(
    envelopes: Sequence[NDArray[np.float64]], rate_hz: float, start_bpm: float
) -> Tempo | None:
    """Estimate a tempo.

    Parameters
    ----------
    envelopes : sequence of np.ndarray [shape=(frames,)]
        Of salience, accents and low onsets.
    rate_hz : float > 0
        Frames per second.
    start_bpm : float > 0
        The most common tempo.

    Returns
    -------
    Tempo or None
        None for a sound without onsets, or too short for a tempo.
    """
    import numpy as np

    frames = len(envelopes[0])
    if frames < SHORTEST_S * rate_hz or not envelopes[0].any():
        return None
    tempograms = [compute_tempogram(envelope, rate_hz) for envelope in envelopes]
    path = follow_tempo(tempograms[0], rate_hz, _find_any_level(tempograms[0], rate_hz, start_bpm))
    ratio, probability = choose_level(tempograms, rate_hz, path, start_bpm)
    path *= ratio
    bpm = float(np.median(path))
    is_steady = bool(np.mean(np.abs(path / bpm - 1) < STEADY_RATIO) >= STEADY_SHARE)
    if is_steady:
        period = refine_period(envelopes[0], rate_hz, 60 * rate_hz / bpm)
        bpm, periods = 60 * rate_hz / period, np.full(frames, period)
    else:
        centres = (WINDOW_S / 2 + STEP_S * np.arange(len(path))) * rate_hz
        periods = np.interp(np.arange(frames), centres, 60 * rate_hz / path)
    return Tempo(
        bpm=bpm,
        is_steady=is_steady,
        periods=periods,
        periodicity=_measure_periodicity(tempograms[0], rate_hz, path),
        probability=probability,
    )


def compute_tempogram(envelope: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    """Compute the autocorrelation of an envelope in overlapping windows.

    Returns
    -------
    np.ndarray [shape=(windows, lags)]
        Lags are in frames, from 0. It is relative to the mean of all windows at lag 0, and
        corrected for how much of a window a lag leaves.
    """
    import numpy as np
    import scipy.fft

    length = min(len(envelope), round(WINDOW_S * rate_hz))
    lags = round(LONGEST_LAG * length)
    framed = np.lib.stride_tricks.sliding_window_view(envelope, length)
    framed = framed[:: round(STEP_S * rate_hz)]
    size = scipy.fft.next_fast_len(length + lags, real=True)
    tempogram = np.empty((len(framed), lags))
    for first in range(0, len(framed), WINDOWS_PER_BLOCK):
        block = framed[first : first + WINDOWS_PER_BLOCK]
        D = scipy.fft.rfft(block - block.mean(axis=1, keepdims=True), size, axis=1)
        power = np.square(D.real) + np.square(D.imag)
        tempogram[first : first + len(block)] = scipy.fft.irfft(power, size, axis=1)[:, :lags]
    tempogram *= length / (length - np.arange(lags))
    tempogram /= max(float(tempogram[:, 0].mean()), 1e-12)
    return tempogram


def follow_tempo(tempogram: NDArray[np.float64], rate_hz: float, bpm: float) -> NDArray[np.float64]:
    """Find the tempo in each window, near that of the file, on the path that gains most."""
    import numpy as np

    low, high = (math.log(r) / math.log(STEP_RATIO) for r in (SMALLEST_RATIO, LARGEST_RATIO))
    grid = np.array([bpm * STEP_RATIO**k for k in range(math.ceil(low), math.floor(high) + 1)])
    steps = np.abs(np.subtract.outer(np.arange(len(grid)), np.arange(len(grid))))
    cost = np.minimum(COST_PER_OCTAVE * math.log2(STEP_RATIO) * steps, HIGHEST_COST)
    scores = _score_comb(tempogram, rate_hz, grid)
    total, origins = scores[0], []
    for score in scores[1:]:
        arrivals = total - cost
        origins.append(arrivals.argmax(axis=1))
        total = arrivals.max(axis=1) + score
    path = [int(total.argmax())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    chosen = path[::-1]
    shifts = [_find_vertex(score, k) for score, k in zip(scores, chosen, strict=True)]
    return grid[chosen] * (1 + (STEP_RATIO - 1) * np.array(shifts))


def choose_level(
    tempograms: Sequence[NDArray[np.float64]],
    rate_hz: float,
    path: NDArray[np.float64],
    start_bpm: float,
) -> tuple[float, float]:
    """Choose by how much to multiply a tempo, so that it is that of the beat.

    Parameters
    ----------
    tempograms : sequence of np.ndarray [shape=(windows, lags)]
        Of salience, accents and low onsets.
    rate_hz : float > 0
        Frames per second.
    path : np.ndarray [shape=(windows,)]
        The tempo in each window, at any level.
    start_bpm : float > 0
        The most common tempo.

    Returns
    -------
    ratio : float
        One of `RATIOS`.
    probability : float
        Its probability among them.
    """
    import numpy as np

    median = float(np.median(path))
    ratios = [r for r in RATIOS if LOWEST_BPM <= median * r <= HIGHEST_BPM]
    scores = []
    for ratio in ratios:
        lags = 60 * rate_hz / (path * ratio)
        features = [float(_read_each(t, m * lags).mean()) for t in tempograms for m in MULTIPLES]
        score = sum(w * f for w, f in zip(LEVEL_WEIGHTS, features, strict=True))
        scores.append(score - PRIOR_WEIGHT * math.log2(median * ratio / start_bpm) ** 2)
    best = max(scores)
    return ratios[scores.index(best)], 1 / sum(math.exp(score - best) for score in scores)


def refine_period(envelope: NDArray[np.float64], rate_hz: float, period: float) -> float:
    """Refine a steady period, in frames, on the autocorrelation of the whole file.

    It is read at one beat, two, four and so on, each time near where the last reading predicts.
    """
    import numpy as np
    import scipy.fft

    lags = min(len(envelope) // 2, round(REFINEMENT_S * rate_hz))
    size = scipy.fft.next_fast_len(len(envelope) + lags, real=True)
    D = scipy.fft.rfft(envelope - envelope.mean(), size)
    correlation = scipy.fft.irfft(np.square(D.real) + np.square(D.imag), size)[:lags]
    beats, reach = 1, max(2, round(0.03 * period))
    while True:
        first = round(beats * period) - reach
        if first < 1 or first + 2 * reach + 2 > lags:
            return period
        k = first + int(correlation[first : first + 2 * reach + 1].argmax())
        if correlation[k] < max(correlation[k - 1], correlation[k + 1]):
            return period
        period = (k + _find_vertex(correlation, k)) / beats
        beats, reach = 2 * beats, 2


def _find_any_level(tempogram: NDArray[np.float64], rate_hz: float, start_bpm: float) -> float:
    """Find the tempo with the strongest autocorrelation, at any metrical level."""
    import numpy as np

    count = math.floor(math.log2(HIGHEST_BPM / LOWEST_BPM) * STEPS_PER_OCTAVE)
    grid = [LOWEST_BPM * 2 ** (k / STEPS_PER_OCTAVE) for k in range(count + 1)]
    prior = [1 / (1 + OCTAVE_WEIGHT * math.log2(bpm / start_bpm) ** 2) for bpm in grid]
    scores = _score_comb(tempogram.mean(axis=0), rate_hz, np.array(grid))
    return grid[int((scores * np.array(prior)).argmax())]


def _measure_periodicity(
    tempogram: NDArray[np.float64], rate_hz: float, path: NDArray[np.float64]
) -> float:
    """Return the mean autocorrelation at one, two and four beats, if a window has so many."""
    import numpy as np

    lags = 60 * rate_hz / path
    beats = [k for k in (1, 2, 4) if k * lags.max() < tempogram.shape[1] - 1] or [1]
    return float(np.mean([_read_each(tempogram, k * lags) for k in beats]))


def _score_comb(
    tempogram: NDArray[np.float64], rate_hz: float, bpm: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum the autocorrelation at one, two and four beats, of all windows or of one."""

    lags = 60 * rate_hz / bpm
    one, two, four = (_read(tempogram, beats * lags) for beats in (1, 2, 4))
    return one + two + four


def _read(tempogram: NDArray[np.float64], lags: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read an autocorrelation at fractional lags along its last axis; 0 beyond the longest."""
    import numpy as np

    floor, weight, is_inside = _split_lags(tempogram, lags)
    low, high = tempogram[..., floor], tempogram[..., floor + 1]
    return np.where(is_inside, low * (1 - weight) + high * weight, 0.0)


def _read_each(tempogram: NDArray[np.float64], lags: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read each window at its own lag."""
    import numpy as np

    floor, weight, is_inside = _split_lags(tempogram, lags)
    window = np.arange(len(tempogram))
    low, high = tempogram[window, floor], tempogram[window, floor + 1]
    return np.where(is_inside, low * (1 - weight) + high * weight, 0.0)


def _split_lags(
    tempogram: NDArray[np.float64], lags: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.bool_]]:
    import numpy as np

    last = tempogram.shape[-1] - 1
    floor = np.minimum(lags.astype(np.intp), last - 1)
    return floor, lags - floor, lags <= last


def _find_vertex(values: NDArray[np.float64], k: int) -> float:
    """Return where a parabola through three values peaks, relative to the middle one, `k`."""
    if not 0 < k < len(values) - 1:
        return 0.0
    before, at, after = (float(value) for value in values[k - 1 : k + 2])
    bend = before - 2 * at + after
    return min(0.5, max(-0.5, 0.5 * (before - after) / bend)) if bend < 0 else 0.0
