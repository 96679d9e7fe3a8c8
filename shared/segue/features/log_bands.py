"""The spectrum that BeatNet was trained with: magnitudes in narrow bands, and their rises.

Frames of 64 ms every 20 ms are centred on multiples of the hop, with zeros beyond the ends. Their
magnitudes are summed in triangular bands, 24 to an octave from 30 Hz to 17 kHz, each with the sum
1; a value is log10(1 + sum), and its rise is how much larger it is than in the frame before, if it
is [1]_. At 22.05 kHz these are 136 bands, of which the lowest have one bin each.

The numbers are those of the library madmom. It places the bins of a frame with an odd number of
samples, 1411, as if there was one sample less, and so it must be done here.

.. [1] Böck, S., Krebs, F., Widmer, G. "Joint beat and downbeat tracking with recurrent neural
   networks." ISMIR (2016), 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
from numba import njit

from segue.media.audio import cut_span, release_pages

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE_HZ = 22_050
HOP = 441
FRAMES_PER_S = RATE_HZ // HOP
WINDOW = 1411
BANDS = 136
FEATURES = 2 * BANDS
BANDS_PER_OCTAVE = 24
LOWEST_HZ, HIGHEST_HZ, REFERENCE_HZ = 30.0, 17_000.0, 440.0
BLOCK_FRAMES = 512


def count_frames(samples: int) -> int:
    """Return how many frames there are of a number of samples."""
    return -(-samples // HOP)


def iterate_features(y: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield the bands of a signal, block by block.

    Parameters
    ----------
    y : np.ndarray [shape=(n,) or (channels, n)]
        Samples at 22,050 Hz; several channels are averaged.

    Yields
    ------
    np.ndarray [shape=(frames, 272)], dtype float32
        136 bands and their 136 rises for each frame; at most 512 frames, one for each 441 samples.
    """
    window = np.hanning(WINDOW).astype(np.float32)
    starts, weights, ends = build_bands()
    frames = count_frames(y.shape[-1])
    before = np.full(BANDS, np.inf, np.float32)  # the first frame has no rises
    for first in range(0, frames, BLOCK_FRAMES):
        count = min(BLOCK_FRAMES, frames - first)
        start = first * HOP - WINDOW // 2
        span = cut_span(y, start, start + (count - 1) * HOP + WINDOW)
        framed = np.lib.stride_tricks.sliding_window_view(span, WINDOW)[::HOP]
        D = scipy.fft.rfft(framed * window, axis=1, overwrite_x=True)
        features = np.empty((count, FEATURES), np.float32)
        _sum_bands(D, starts, weights, ends, before, features)
        yield features
        release_pages(y)


def build_bands() -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.intp]]:
    """Return the first bin of each band, the weights of all, and where each band's weights end."""
    bins_hz = np.arange(WINDOW // 2) * RATE_HZ / (WINDOW // 2 * 2)
    steps = BANDS_PER_OCTAVE * np.log2(np.array([LOWEST_HZ, HIGHEST_HZ]) / REFERENCE_HZ)
    numbers = np.arange(math.ceil(steps[0]), math.floor(steps[1]) + 1)
    wanted_hz = REFERENCE_HZ * 2.0 ** (numbers / BANDS_PER_OCTAVE)
    # The nearest bin of each frequency, once: at low ones, several have the same.
    above = np.searchsorted(bins_hz, wanted_hz).clip(1, len(bins_hz) - 1)
    is_below = wanted_hz - bins_hz[above - 1] < bins_hz[above] - wanted_hz
    edges = np.unique(above - is_below)
    triangles = [
        np.minimum((k - low) / (centre - low), (high - k) / (high - centre))
        for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False)
        for k in [np.arange(low + 1, high)]
    ]
    weights = np.concatenate([triangle / triangle.sum() for triangle in triangles])
    ends = np.cumsum([len(triangle) for triangle in triangles])
    return edges[:-2] + 1, weights.astype(np.float32), ends


@njit(cache=True)
def _sum_bands(
    D: NDArray[np.complex64],
    starts: NDArray[np.intp],
    weights: NDArray[np.float32],
    ends: NDArray[np.intp],
    before: NDArray[np.float32],
    features: NDArray[np.float32],
) -> None:
    """Fill in the bands and rises of frames; ``before`` has the last bands before and after.

    The order of all operations is written down, so that processors do not differ.
    """
    bands = len(starts)
    for frame in range(len(D)):
        magnitudes = np.empty(D.shape[1], np.float64)
        for k in range(D.shape[1]):
            re, im = np.float64(D[frame, k].real), np.float64(D[frame, k].imag)
            magnitudes[k] = math.sqrt(re * re + im * im)
        at = 0
        for band in range(bands):
            total = 0.0
            offset = starts[band] - at
            while at < ends[band]:
                total += weights[at] * magnitudes[at + offset]
                at += 1
            value = np.float32(math.log10(1.0 + total))
            features[frame, band] = value
            features[frame, bands + band] = max(np.float32(0.0), value - before[band])
            before[band] = value
