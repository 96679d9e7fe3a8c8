"""What the loudness meter computes for each sample, compiled by numba.

All of it is plain IEEE arithmetic in the order in which it is written: numba neither reorders nor
contracts it without ``fastmath``. So the results are the same on any processor.

The module is imported when a meter gets its first samples, since importing numba takes a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numba
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

F = TypeVar("F", bound="Callable[..., object]")

# Numbers below 1e-308 are slow on many processors. A filter's state gets there in silence.
SILENCE = 1e-30
# How many values are interpolated at once.
CHUNK = 256


def _jit(function: F) -> F:
    """Have numba compile a function at its first call, and keep the code for later processes."""
    return cast("F", numba.njit(cache=True)(function))


@_jit
def add_energies(
    x: NDArray[np.float32],
    ends: NDArray[np.int64],
    sections: NDArray[np.float64],
    state: NDArray[np.float64],
    weights: NDArray[np.float64],
    sums: NDArray[np.float64],
    energies: NDArray[np.float64],
    peaks: NDArray[np.float32],
) -> None:
    """Filter a block, add the energy of each piece of 10 ms, and raise the channels' peaks.

    Parameters
    ----------
    x : np.ndarray [shape=(m, channels)], dtype float32
        The samples of the block, channels last.
    ends : np.ndarray [shape=(pieces + 1,)]
        Before which frame of the block each piece ends that does so in it; and the block's end.
    sections : np.ndarray [shape=(n, 5)]
        The filter, each section as b0, b1, b2, a1, a2. The last two are the shelf and the high pass
        of the K weighting.
    state : np.ndarray [shape=(channels, n, 2)]
        The state of all sections, kept from block to block. There must be one channel more if their
        number is odd, and so in `weights`, `sums` and `peaks`.
    weights : np.ndarray [shape=(channels,)]
        What the energy of each channel is multiplied by.
    sums : np.ndarray [shape=(channels,)]
        The energy of each channel in the piece that the next block continues.
    energies : np.ndarray [shape=(pieces,)]
        Those of the pieces that end in the block, which are added to.
    peaks : np.ndarray [shape=(channels,)], dtype float32
        The largest magnitude of each channel so far.
    """
    channels, last = x.shape[1], sections.shape[0] - 2
    begin = longest = 0
    for end in ends:
        longest = max(longest, end - begin)
        begin = end
    y = np.zeros((2, longest))
    # Two channels at a time, since the sums of one alone would wait for each other.
    for left in range(0, channels, 2):
        begin = 0
        for piece, end in enumerate(ends):
            for side in range(min(2, channels - left)):
                channel = left + side
                peaks[channel] = _copy(x[begin:end, channel], y[side], peaks[channel])
            if left + 1 == channels:
                y[1] = 0.0
            for side in range(2):
                for i in range(last):
                    _filter(y[side], end - begin, sections[i], state[left + side, i])
            _weigh(y, end - begin, sections[last:], state[left : left + 2, last:], sums[left:])
            if piece < energies.size:
                energies[piece] += weights[left] * sums[left] + weights[left + 1] * sums[left + 1]
                sums[left : left + 2] = 0.0
                _drop_silence(state[left : left + 2])
            begin = end


@_jit
def _copy(x: NDArray[np.float32], y: NDArray[np.float64], peak: np.float32) -> np.float32:
    for i in range(x.size):
        y[i] = x[i]
        magnitude = abs(x[i])
        peak = max(peak, magnitude)
    return peak


@_jit
def _filter(
    y: NDArray[np.float64], n: int, section: NDArray[np.float64], state: NDArray[np.float64]
) -> None:
    b0, b1, b2, a1, a2 = _read(section)
    u1, u2 = state[0], state[1]
    for i in range(n):
        u = y[i] - a2 * u2 - a1 * u1
        y[i] = b0 * u + b1 * u1 + b2 * u2
        u1, u2 = u, u1
    state[0], state[1] = u1, u2


@_jit
def _read(section: NDArray[np.float64]) -> tuple[float, float, float, float, float]:
    return section[0], section[1], section[2], section[3], section[4]


@_jit
def _weigh(
    y: NDArray[np.float64],
    n: int,
    sections: NDArray[np.float64],
    state: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None:
    """Add the energies of two channels after K weighting."""
    b0, b1, b2, a1, a2 = _read(sections[0])
    # The others of the high pass are -2 and 1 times the first.
    gain, _, _, c1, c2 = _read(sections[1])
    u1, u2, v1, v2 = state[0, 0, 0], state[0, 0, 1], state[0, 1, 0], state[0, 1, 1]
    p1, p2, q1, q2 = state[1, 0, 0], state[1, 0, 1], state[1, 1, 0], state[1, 1, 1]
    left, right = sums[0], sums[1]
    for i in range(n):
        u = y[0, i] - a2 * u2 - a1 * u1
        v = b0 * u + b1 * u1 + b2 * u2 - c2 * v2 - c1 * v1
        w = gain * ((v - v1) - (v1 - v2))
        left += w * w
        u1, u2, v1, v2 = u, u1, v, v1
        p = y[1, i] - a2 * p2 - a1 * p1
        q = b0 * p + b1 * p1 + b2 * p2 - c2 * q2 - c1 * q1
        w = gain * ((q - q1) - (q1 - q2))
        right += w * w
        p1, p2, q1, q2 = p, p1, q, q1
    state[0, 0, 0], state[0, 0, 1], state[0, 1, 0], state[0, 1, 1] = u1, u2, v1, v2
    state[1, 0, 0], state[1, 0, 1], state[1, 1, 0], state[1, 1, 1] = p1, p2, q1, q2
    sums[0], sums[1] = left, right


@_jit
def _drop_silence(state: NDArray[np.float64]) -> None:
    """Set what is almost 0 to 0; at the end of a piece, since blocks may end anywhere."""
    for values in state.reshape(-1, 2):
        for i in range(2):
            if abs(values[i]) <= SILENCE:
                values[i] = 0.0


@_jit
def find_true_peak(
    x: NDArray[np.float32],
    channels: int,
    half: NDArray[np.float32],
    even: NDArray[np.float32],
    odd: NDArray[np.float32],
    largest_gain: float,
    peak: float,
) -> float:
    """Return the largest magnitude between samples, or a known peak if that is larger.

    Where the samples are so small that nothing between them can exceed the peak, nothing is
    computed.

    Parameters
    ----------
    x : np.ndarray [shape=(frames * channels,)], dtype float32
        Interleaved samples. The first and the last 15 frames only surround the others: between
        them, nothing is sought.
    channels : int > 0
        Number of channels.
    half, even, odd, largest_gain
        The fields of an `Interpolator`.
    peak : float >= 0
        The known peak.
    """
    reach = (2 * half.size - 1) * channels
    values = np.zeros((4, CHUNK), np.float32)
    largest = np.zeros(1, np.float32)
    # Magnitudes are compared as integers, whose order is the same, because that is vectorised.
    bits, value_bits, largest_bits = x.view(np.int32), values.view(np.int32), largest.view(np.int32)
    for begin in range(0, x.size - reach, CHUNK):
        n = min(CHUNK, x.size - reach - begin)
        largest_bits[0] = _find_largest(bits[begin : begin + n + reach])
        if largest[0] * largest_gain > peak:
            _interpolate(x[begin:], n, channels, half, even, odd, values)
            largest_bits[0] = _find_largest(value_bits[0, :n])
            peak = max(peak, np.float64(largest[0]))
    return peak


@_jit
def _find_largest(bits: NDArray[np.int32]) -> np.int32:
    largest = np.int32(0)
    for value in bits:
        largest = max(largest, value & np.int32(0x7FFF_FFFF))
    return largest


@_jit
def _interpolate(
    x: NDArray[np.float32],
    n: int,
    channels: int,
    half: NDArray[np.float32],
    even: NDArray[np.float32],
    odd: NDArray[np.float32],
    values: NDArray[np.float32],
) -> None:
    """Write the largest magnitude between two samples to the first row, n times."""
    halves, evens, odds = values[1, :n], values[2, :n], values[3, :n]
    values[1:] = 0.0
    for pair in range(half.size):
        a, b, c = half[pair], even[pair], odd[pair]
        # Indices into slices cannot be negative, so the loop is vectorised.
        first = x[pair * channels :][:n]
        last = x[(2 * half.size - 1 - pair) * channels :][:n]
        for i in range(n):
            total, difference = first[i] + last[i], first[i] - last[i]
            halves[i] += a * total
            evens[i] += b * total
            odds[i] += c * difference
    for i in range(n):
        # The larger one of |e + o| and |e - o|.
        quarters = abs(evens[i]) + abs(odds[i])
        middle = abs(halves[i])
        values[0, i] = max(middle, quarters)
