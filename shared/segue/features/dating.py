"""The moments of beats, to a few milliseconds.

An envelope of onsets has frames of 12 ms, from windows of 46 ms. Here the sound around each beat is
looked at in windows of 12 ms, every 2.5 ms. The notes of a beat do not begin together, and another
instrument's may rise most than on the beat before. So what is common to all beats of a file is
found first, and then each beat near that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.features.onsets import compute_hann
from segue.media.audio import Audio, cut_span

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW_S, HOP_S = 256 / 22050, 55 / 22050
REACH_HOPS = 20
# How far all beats may be from where the envelope has them, and each from the others.
COMMON_REACH_S, OWN_REACH_S = 0.1, 0.04
# A window sees a rise before its centre is there; measured on clicks and drums.
ADVANCE_S = 0.0036
# A beat on which less rises than this, relative to the median beat, is moved as all are.
SMALLEST_RISE = 0.3


def date_beats(
    audio: Audio, times_s: NDArray[np.float64], scale: float = 1.0
) -> NDArray[np.float64]:
    """Move each beat to the rise of the sound near it.

    Parameters
    ----------
    audio : Audio
        The audio; several channels are averaged.
    times_s : np.ndarray [shape=(beats,)]
        One beat at least, in seconds; they are at least 0.1 s apart.
    scale : float
        What to multiply samples by, so that their power does not overflow.

    Returns
    -------
    np.ndarray [shape=(beats,)]
        Within 65 ms of the times, and within the file.
    """
    import numpy as np

    hop = max(1, round(HOP_S * audio.sr))
    window = compute_hann(max(2, round(WINDOW_S * audio.sr))) * np.float32(scale)
    rises = np.stack([_measure_rises(audio, time_s, window, hop) for time_s in times_s.tolist()])
    rises = np.maximum(rises - np.median(rises, axis=1, keepdims=True), 0)
    shifts_s = np.arange(-REACH_HOPS, REACH_HOPS + 1, dtype=np.float64) * (hop / audio.sr)
    common = (rises / np.maximum(rises.max(axis=1, keepdims=True), 1e-12)).mean(axis=0)
    common = np.convolve(common, np.ones(3), "same") * _weigh(shifts_s, COMMON_REACH_S)
    common_s = float(shifts_s[int(common.argmax())])
    rises *= _weigh(shifts_s - common_s, OWN_REACH_S)
    k = rises.argmax(axis=1).clip(1, 2 * REACH_HOPS - 1)
    beat = np.arange(len(k))
    before, at, after = (rises[beat, k + i] for i in (-1, 0, 1))
    bend = before - 2 * at + after
    vertex = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1), 0)
    own_s = shifts_s[k] + vertex.clip(-0.5, 0.5) * (hop / audio.sr)
    moved_s: NDArray[np.float64] = (
        times_s + np.where(at > SMALLEST_RISE * np.median(at), own_s, common_s) + ADVANCE_S
    )
    return np.clip(moved_s, 0, (audio.y.shape[-1] - 1) / audio.sr)


def _measure_rises(
    audio: Audio, time_s: float, window: NDArray[np.float32], hop: int
) -> NDArray[np.float64]:
    """Sum the rises of the square root of the magnitude, at each hop around a time."""
    import numpy as np
    import scipy.fft

    start = round(time_s * audio.sr) - (REACH_HOPS + 1) * hop - len(window) // 2
    span = cut_span(audio.y, start, start + 2 * (REACH_HOPS + 1) * hop + len(window))
    framed = np.lib.stride_tricks.sliding_window_view(span, len(window))[::hop]
    D = scipy.fft.rfft(framed * window, axis=1, overwrite_x=True)
    S = np.sqrt(np.sqrt(np.square(D.real) + np.square(D.imag)))
    rises: NDArray[np.float64] = np.maximum(S[2:] - S[:-2], 0).sum(axis=1, dtype=np.float64)
    return rises


def _weigh(shifts_s: NDArray[np.float64], reach_s: float) -> NDArray[np.float64]:
    """Return a weight that falls from 1 at no shift to 0 at the reach and beyond."""
    import numpy as np

    weights: NDArray[np.float64] = np.maximum(1 - np.square(shifts_s / reach_s), 0)
    return np.square(weights)
