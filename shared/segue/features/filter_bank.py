"""The log mel energies on which speech recognisers of Kaldi's school are trained.

Frames of 25 ms, one each 10 ms, all within the file. Of each the mean is taken out, high
frequencies are raised (x[i] - 0.97 x[i - 1]), and a window is applied that is a Hann window to the
power of 0.85. Of its power spectrum, triangles that are even on the mel scale sum 80 bands from
20 Hz up [1]_. Samples count from -32768 to 32767, as the models have learned.

To each band the energy is added that it has on average in the noise of 16 bits with dither, at
-96 dBFS. What was sampled at 8 kHz has nothing above 4 kHz, and models that have never heard
nothing miss speech in it.

.. [1] Povey, D. et al. "The Kaldi speech recognition toolkit." ASRU (2011); mel scale after Young,
   S. et al. "The HTK Book."
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
FRAME_LENGTH, HOP_LENGTH, N_FFT = 400, 160, 512
BANDS = 80
FMIN_HZ = 20.0
EMPHASIS = 0.97
FULL_SCALE = 32_768.0
NOISE_POWER = 0.25  # of samples that are rounded after triangular dither


def count_frames(samples: int) -> int:
    """Return how many whole frames fit into so many samples."""
    return max(0, 1 + (samples - FRAME_LENGTH) // HOP_LENGTH)


def compute_log_mel(y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the log mel energies of samples at 16 kHz.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
        Samples of one channel; a minute at most, as all frames are in memory at once.

    Returns
    -------
    np.ndarray [shape=(count_frames(n), 80)], dtype float32
        Natural logarithms of energies.
    """
    import numpy as np

    if not count_frames(len(y)):
        return np.zeros((0, BANDS), np.float32)
    scaled = y * np.float32(FULL_SCALE)
    frames = np.lib.stride_tricks.sliding_window_view(scaled, FRAME_LENGTH)[::HOP_LENGTH]
    # Samples of noise do not depend on each other, so each adds the energy of an impulse.
    impulses = np.eye(FRAME_LENGTH, dtype=np.float32)
    noise = np.float32(NOISE_POWER) * _compute_energies(impulses).sum(axis=0)
    levels: NDArray[np.float32] = np.log(_compute_energies(frames) + noise)
    return levels


def _compute_energies(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the energy of each frame in each band."""
    import numpy as np
    import scipy.fft

    level = frames - frames.mean(axis=1, keepdims=True)
    raised = level * np.float32(1 - EMPHASIS)  # the first sample has none before it
    raised[:, 1:] = level[:, 1:] - np.float32(EMPHASIS) * level[:, :-1]
    D = scipy.fft.rfft(raised * _make_window(), n=N_FFT, axis=1, overwrite_x=True)
    S = np.square(D.real) + np.square(D.imag)
    energies: NDArray[np.float32] = S @ _make_bands()
    return energies


def _make_window() -> NDArray[np.float32]:
    import numpy as np

    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME_LENGTH) / (FRAME_LENGTH - 1))
    return (hann**0.85).astype(np.float32)


def _make_bands() -> NDArray[np.float32]:
    """Return the weights [shape=(N_FFT // 2 + 1, BANDS)] of the bins in the bands."""
    import numpy as np

    edges = np.linspace(_hz_to_mel(FMIN_HZ), _hz_to_mel(SAMPLE_RATE_HZ / 2), BANDS + 2)
    bins = _hz_to_mel(np.arange(N_FFT // 2 + 1) * SAMPLE_RATE_HZ / N_FFT)[:, np.newaxis]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[-1] = 0.0  # half the rate is the upper end of the last band
    return np.asarray(weights, np.float32)


def _hz_to_mel(frequency_hz: Any) -> Any:
    import numpy as np

    return 1127.0 * np.log1p(np.asarray(frequency_hz) / 700.0)
