"""Where notes begin: how strongly a sound rises at each moment.

The power in each of 40 bands is compressed by a fourth root, so that a soft note counts almost as
much as a loud one, and compared with that of two frames before; what has risen is summed over the
bands [1]_. Windows and hops are set in seconds, so the sampling rate does not matter.

All of it is computed in blocks, by operations that give the same bits on all processors: without
matrix products, and with tables from `math`.

.. [1] Böck, S., and G. Widmer. "Maximum filter vibrato suppression for onset detection." Proc. DAFx
   (2013), for the difference over more than one frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from segue.media.audio import Audio, cut_span, iterate_blocks, release_pages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HOP_S = 256 / 22050
HOPS_PER_WINDOW = 4
BLOCK_FRAMES = 128
BANDS = 40
LOWEST_HZ, HIGHEST_HZ = 30.0, 11025.0
# The kick drum and the bass are below; the fundamental of a snare drum is above.
LOW_HZ = 120.0
# A rise that is less than this, relative to what sounds, is no onset: beats between the partials of
# a chord reach 0.04. Those of a chord below 200 Hz reach 0.5, as the onsets of soft music do.
SMALLEST_RISE = 0.05
MEAN_S = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Onsets:
    """What rises in a sound, in frames; frame 0 is centred on its start.

    Attributes
    ----------
    rate_hz : float
        Frames per second.
    salience : np.ndarray [shape=(frames,)]
        The rise of the fourth root of the power, summed over all bands.
    accent : np.ndarray [shape=(frames,)]
        The same of its square root, in which loud notes count more.
    low : np.ndarray [shape=(frames,)]
        The rise of the fourth root below 120 Hz.
    scale : float
        By what the samples were multiplied.
    """

    rate_hz: float
    salience: NDArray[np.float32]
    accent: NDArray[np.float32]
    low: NDArray[np.float32]
    scale: float


def compute_onsets(audio: Audio) -> Onsets:
    """Compute the envelopes of onsets; several channels are averaged."""
    import numpy as np
    import scipy.fft

    hop = max(1, round(HOP_S * audio.sr))
    n_fft = HOPS_PER_WINDOW * hop
    scale = _measure_scale(audio)
    window = compute_hann(n_fft) * np.float32(scale)
    edges = _find_band_edges(audio.sr, n_fft)
    lows = sum(edge * audio.sr / n_fft <= LOW_HZ for edge in edges[1:])
    frames = 1 + audio.y.shape[-1] // hop
    salience, accent, low = (np.zeros(frames, np.float32) for _ in range(3))
    for first in range(0, frames, BLOCK_FRAMES):
        end = min(first + BLOCK_FRAMES, frames)
        # One frame more on each side, for the differences.
        start = (first - 1) * hop - n_fft // 2
        span = cut_span(audio.y, start, start + (end - first + 1) * hop + n_fft)
        framed = np.lib.stride_tricks.sliding_window_view(span, n_fft)[::hop]
        D = scipy.fft.rfft(framed * window, axis=1, overwrite_x=True)
        power = np.square(D.real) + np.square(D.imag)
        S = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1)
        magnitude = np.sqrt(S)
        root = np.sqrt(magnitude)
        rises = np.maximum(root[2:] - root[:-2], 0)
        total = rises.sum(axis=1)
        is_onset = total > SMALLEST_RISE * root[1:-1].sum(axis=1)
        salience[first:end] = total * is_onset
        accent[first:end] = np.maximum(magnitude[2:] - magnitude[:-2], 0).sum(axis=1) * is_onset
        low[first:end] = rises[:, :lows].sum(axis=1) * is_onset
        release_pages(audio.y)
    rate_hz = audio.sr / hop
    return Onsets(rate_hz=rate_hz, salience=salience, accent=accent, low=low, scale=scale)


def emphasise(envelope: NDArray[np.float32], rate_hz: float) -> NDArray[np.float64]:
    """Keep what exceeds the mean of the second around it, relative to its standard deviation."""
    import numpy as np

    width = max(1, min(round(MEAN_S * rate_hz), len(envelope)) // 2 * 2 - 1)
    padded = np.pad(envelope.astype(np.float64), width // 2, mode="reflect")
    sums = np.cumsum(np.concatenate([[0.0], padded]))
    peaks: NDArray[np.float64] = np.maximum(envelope - (sums[width:] - sums[:-width]) / width, 0)
    return peaks / max(float(peaks.std()), 1e-12)


@cache
def compute_hann(n: int) -> NDArray[np.float32]:
    """Return a periodic Hann window."""
    import numpy as np

    return np.array([0.5 - 0.5 * math.cos(2 * math.pi * i / n) for i in range(n)], np.float32)


def _find_band_edges(sr: int, n_fft: int) -> list[int]:
    """Return the first bin of each band, and the end of the last: bands of equal width in mel."""
    low, high = (1127 * math.log1p(hz / 700) for hz in (LOWEST_HZ, min(HIGHEST_HZ, sr / 2)))
    mels = (low + (high - low) * k / BANDS for k in range(BANDS + 1))
    bins = sorted({max(1, round(700 * math.expm1(mel / 1127) * n_fft / sr)) for mel in mels})
    return [*bins[:-1], bins[-1] + 1]


def _measure_scale(audio: Audio) -> float:
    """Return the power of two that brings the peak to between 1/2 and 1; 1 for silence.

    Powers of samples then neither overflow nor vanish in 32 bits.
    """
    import numpy as np

    peak = max((float(np.abs(block).max()) for _, block in iterate_blocks(audio.y)), default=0.0)
    _, exponent = math.frexp(peak)
    return 2.0 ** -max(-100, min(exponent, 100))
