"""A loudness meter in "EBU mode", which is fed with samples in blocks.

All that is kept of hours of audio is the energy of each 10 ms: the powers of all windows are sums
of these. Windows of 400 ms and of 3 s begin every 100 ms where they are averaged, and every 10 ms
where their maximum is sought, because a maximum between two beginnings would be missed [1]_.

.. [1] EBU Tech 3341, "Loudness metering: 'EBU mode' metering to supplement EBU R 128 loudness
   normalization", whose minimum requirements the meter fulfils.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segue.features.k_weighting import design_filters
from segue.features.true_peak import build_interpolator

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

# How many pieces of 10 ms a second has, and those windows.
PIECES_PER_S = 100
STEP, MOMENTARY, SHORT_TERM = 10, 40, 300
# A range over less than a second of windows says nothing.
SHORTEST_FOR_RANGE_S = 4.0

# The gain of K weighting at 997 Hz, by which all measurements are lowered.
OFFSET_LU = -0.691
# The gates at -70 LUFS, and 10 and 20 LU below a mean, as powers.
ABSOLUTE_GATE = 1.1724653045822981e-07
RELATIVE_GATE, RANGE_GATE = 0.1, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Loudness:
    """What the meter has measured; see `segue.features.ebu_r128.loudness`."""

    integrated_lufs: float | None
    range_lu: float | None
    momentary_max_lufs: float | None
    short_term_max_lufs: float | None
    true_peak_dbtp: float | None
    sample_peaks_dbfs: tuple[float | None, ...]


class LoudnessMeter:
    """Measures loudness and peaks of audio that it is fed with in blocks.

    Parameters
    ----------
    sr : int >= 1000
        Sampling rate in Hz.
    weights : sequence of float
        What the power of each channel is multiplied by.
    true_peak : bool
        Whether to seek peaks between the samples; otherwise the true peak is the sample peak.
    """

    def __init__(self, sr: int, weights: Sequence[float], *, true_peak: bool = True) -> None:
        import numpy as np

        filters = design_filters(sr)
        self._sr, self._channels = sr, len(weights)
        self._frames = 0
        self._sections = np.array([*filters.low_pass, filters.shelf, filters.high_pass])
        even = self._channels + self._channels % 2
        self._state = np.zeros((even, len(self._sections), 2))
        self._weights = np.zeros(even)
        self._weights[: self._channels] = weights
        self._peaks = np.zeros(even, np.float32)
        self._energies: list[NDArray[np.float64]] = []
        self._sums = np.zeros(even)  # the energies in a piece that continues in the next block
        self._interpolator = build_interpolator(sr) if true_peak else None
        self._true_peak = 0.0
        reach = 0 if self._interpolator is None else 2 * len(self._interpolator.half) - 1
        self._last = np.zeros((reach, self._channels), np.float32)

    def feed(self, block: NDArray[np.float32]) -> None:
        """Measure the next samples [shape=(m,) or (channels, m)], which must be finite.

        Raises
        ------
        ValueError
            If they have another number of channels.
        """
        import numpy as np

        x = np.require(np.atleast_2d(block).T, np.float32, ["C", "A"])
        if x.shape[1] != self._channels:
            raise ValueError(f"{x.shape[1]} channels; the meter was made for {self._channels}")
        if len(x) == 0:
            return
        self._add_energies(x)
        self._true_peak = self._find_true_peak(x)
        reach = len(self._last)
        self._last = np.concatenate([self._last, x[max(0, len(x) - reach) :]])[len(x[:reach]) :]

    def measure(self) -> Loudness:
        """Return what has been measured up to now."""
        import numpy as np

        energies = np.concatenate([np.zeros(0), *self._energies])
        self._energies = [energies]
        tenths = _add_neighbours(energies, STEP, 1)
        momentary, momentary_max = self._find_powers(tenths, MOMENTARY)
        short_term, short_term_max = self._find_powers(tenths, SHORT_TERM)
        integrated = _integrate(momentary)
        long_enough = self._frames >= SHORTEST_FOR_RANGE_S * self._sr
        silence = np.zeros_like(self._last)
        return Loudness(
            integrated_lufs=to_lufs(integrated),
            range_lu=_find_range(short_term) if integrated and long_enough else None,
            momentary_max_lufs=to_lufs(momentary_max),
            short_term_max_lufs=to_lufs(short_term_max),
            true_peak_dbtp=_to_db(self._find_true_peak(silence)),
            sample_peaks_dbfs=tuple(_to_db(p) for p in self._peaks[: self._channels].tolist()),
        )

    def measure_momentary(self) -> NDArray[np.float64]:
        """Return the mean powers of the windows of 400 ms that begin every 100 ms [shape=(n,)]."""
        import numpy as np

        energies = np.concatenate([np.zeros(0), *self._energies])
        self._energies = [energies]
        powers, _ = self._find_powers(_add_neighbours(energies, STEP, 1), MOMENTARY)
        return powers

    def _add_energies(self, x: NDArray[np.float32]) -> None:
        import numpy as np

        from segue.features.loudness_kernel import add_energies

        first = self._find_pieces(self._frames)
        last = self._find_pieces(self._frames + len(x))
        ends = np.arange(first + 1, last + 1) * self._sr // PIECES_PER_S - self._frames
        energies = np.zeros(last - first)
        add_energies(
            _protect(x),
            np.append(ends, len(x)),
            self._sections,
            self._state,
            self._weights,
            self._sums,
            energies,
            self._peaks,
        )
        self._frames += len(x)
        self._energies.append(energies)

    def _find_pieces(self, frames: int) -> int:
        """Return how many pieces end within so many frames; the nth does at n * sr // 100."""
        return ((frames + 1) * PIECES_PER_S - 1) // self._sr

    def _find_true_peak(self, x: NDArray[np.float32]) -> float:
        """Return the true peak if these samples follow the last ones."""
        import numpy as np

        from segue.features.loudness_kernel import find_true_peak

        peak = max(self._true_peak, float(self._peaks.max()))
        if self._interpolator is None:
            return peak
        seam = np.concatenate([self._last, x[: len(self._last)]])
        for part in (seam, x):
            peak = find_true_peak(
                _protect(part.reshape(-1)),
                self._channels,
                self._interpolator.half,
                self._interpolator.even,
                self._interpolator.odd,
                self._interpolator.largest_gain,
                peak,
            )
        return peak

    def _find_powers(
        self, tenths: NDArray[np.float64], pieces: int
    ) -> tuple[NDArray[np.float64], float]:
        """Return the mean powers of the windows of so many pieces: all 100 ms, and the largest."""
        import numpy as np

        powers = _add_neighbours(tenths, pieces // STEP, STEP)
        begins = np.arange(len(powers) + pieces) * self._sr // PIECES_PER_S
        powers /= begins[pieces:] - begins[:-pieces]
        return powers[::STEP].copy(), float(powers.max(initial=0.0))


def _protect(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a read-only view, since numba would compile once more for an array of another type."""
    view = x.view()
    view.flags.writeable = False
    return view


def _add_neighbours(values: NDArray[np.float64], count: int, step: int) -> NDArray[np.float64]:
    """Return the sums of so many values, so many apart, from each value on that has enough."""
    size = max(0, len(values) - (count - 1) * step)
    sums = values[:size].copy()
    for i in range(1, count):
        # Not by a running sum, which would keep the rounding errors of what was loud before.
        sums += values[i * step : i * step + size]
    return sums


def _integrate(powers: NDArray[np.float64]) -> float:
    """Return the mean power of the windows that pass both gates; 0 if there is none."""
    audible = powers[powers > ABSOLUTE_GATE]
    if not len(audible):
        return 0.0
    return _find_mean(audible[audible > RELATIVE_GATE * _find_mean(audible)])


def _find_range(powers: NDArray[np.float64]) -> float | None:
    """Return the distance of the percentiles as EBU Tech 3342 rounds them; None if all is quiet."""
    import numpy as np

    audible = powers[powers > ABSOLUTE_GATE]
    if not len(audible):
        return None
    loud = np.sort(audible[audible > RANGE_GATE * _find_mean(audible)])
    last = len(loud) - 1
    low, high = float(loud[(last + 5) // 10]), float(loud[(19 * last + 10) // 20])
    return _round(10 * math.log10(high / low))


def _find_mean(powers: NDArray[np.float64]) -> float:
    return math.fsum(powers.tolist()) / len(powers)


def to_lufs(power: float) -> float | None:
    """Return the loudness of a mean power, to three decimals; None of digital silence."""
    return _round(OFFSET_LU + 10 * math.log10(power)) if power > 0 else None


def _to_db(peak: float) -> float | None:
    return _round(20 * math.log10(peak)) if peak > 0 else None


def _round(level: float) -> float:
    return round(level, 3) + 0.0  # not -0.0
