"""The voice in music, and everything else, as two recordings.

Two networks look at the magnitudes of a short-time Fourier transform, and each says how much of
them is its own: one of the voice, one of the rest [1]_. The squares of what they claim give the
share of the voice in each bin, by which the transform is multiplied. What is left is the rest.

The transform has Hann windows of 4096 samples with a hop of 1024. The networks see 512 frames at a
time, 11.9 s, of which 32 on either side are seen again with the next ones: at the edges of what
they see they are 2 dB worse. They see bins below 11 kHz, and those above have the mean share of
their frame. They have learned at usual levels, and fail on what is 40 dB below: so they see the
file as it would be at -20 dBFS, as `segue.features.levels` measures it.

.. [1] Hennequin, R., Khlif, A., Voituret, F. and Moussallam, M. "Spleeter: a fast and efficient
   music source separation tool with pre-trained models." Journal of Open Source Software 5.50
   (2020): 2154.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from segue.errors import ConfigurationError
from segue.features.levels import find_gain
from segue.job_progress import progress
from segue.media.audio import Audio, release_pages
from segue.media.memory import format_duration, require_memory
from segue.media.samples import LARGE_BYTES, SampleBuffer
from segue.models import open_onnx
from segue.models.spleeter import BINS, CHANNELS, STEMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

# Not onnxruntime: its import starts a thread, after which a process must not fork.
PRELOAD = ("numpy", "scipy.fft")

SAMPLE_RATE_HZ = 44_100
N_FFT, HOP_LENGTH = 4096, 1024
OVERLAP = N_FFT // HOP_LENGTH  # frames that have a sample
WINDOW_FRAMES = 512  # that the networks see at once
MARGIN_FRAMES = 32  # of them, on either side, where they lack what is beyond
LEVEL_DBFS = -20.0
SMALLEST_POWER = 1e-10  # of both claims together: where neither network has one, each gets half
# Measured, and rounded up: each recording as FLAC, at most, and one window.
BYTES_PER_SAMPLE, WINDOW_BYTES = 2.3, 384 * 2**20


class Stems(TypedDict):
    """The parts of a recording."""

    vocals: Audio
    accompaniment: Audio


class Separation:
    """Separate the voice from everything else.

    Parameters
    ----------
    model : Path
        The model ``spleeter@1``.
    """

    def __init__(self, *, model: Path) -> None:
        self.model = model

    def setup(self) -> None:
        """Load the model."""
        self.session = open_onnx(self.model, gpu=None)

    def __call__(self, audio: Audio) -> Stems:
        """Separate a file.

        Parameters
        ----------
        audio : Audio
            Two channels at 44.1 kHz.

        Returns
        -------
        Stems
            As long as the input. The two add up to it, to the step of the content type: where they
            have opposite signs, either may exceed full scale, which FLAC clips.

        Raises
        ------
        TooLarge
            If the process's memory bound has no room for both as FLAC.
        ConfigurationError
            If the audio has another rate or number of channels.
        """
        if (audio.sr, audio.channels) != (SAMPLE_RATE_HZ, CHANNELS):
            raise ConfigurationError(
                f"separation: the audio has {audio.channels} channels at {audio.sr} Hz: it must "
                f"have {CHANNELS} at {SAMPLE_RATE_HZ}; use segue.features.resampling:downsample"
            )
        size = audio.y.size
        require_memory(
            2 * (BYTES_PER_SAMPLE * size + 2 * min(4 * size, LARGE_BYTES)) + WINDOW_BYTES,
            f"separation of {format_duration(audio.duration_s)}",
        )
        length = audio.y.shape[-1]
        vocals, accompaniment = (SampleBuffer(CHANNELS, length) for _ in STEMS)
        for start, block in self._iterate_vocals(audio.y, find_gain(audio, LEVEL_DBFS)):
            vocals.write(start, block)
            accompaniment.write(start, audio.y[:, start : start + block.shape[1]] - block)
            release_pages(audio.y)
            progress((start + block.shape[1]) / length, "separating")
        return {
            "vocals": Audio(y=vocals.finish(), sr=audio.sr),
            "accompaniment": Audio(y=accompaniment.finish(), sr=audio.sr),
        }

    def _iterate_vocals(
        self, y: NDArray[np.float32], gain: float
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the first sample of each block of the vocals, and the block [shape=(2, m)].

        Frames begin before the file, so that all of its samples are in as many frames.
        """
        import numpy as np

        length, frames = y.shape[1], WINDOW_FRAMES - 2 * MARGIN_FRAMES
        begun = np.zeros((CHANNELS, OVERLAP - 1, HOP_LENGTH), np.float32)
        for start in range(-N_FFT, length, frames * HOP_LENGTH):
            added = self._separate_window(y, start, gain)
            added[:, : OVERLAP - 1] += begun
            begun = added[:, frames:]
            samples = added[:, :frames].reshape(CHANNELS, -1)
            first = max(0, -start)
            yield start + first, samples[:, first : length - start]

    def _separate_window(
        self, y: NDArray[np.float32], start: int, gain: float
    ) -> NDArray[np.float32]:
        """Return the sums of the frames of the vocals from a sample on [shape=(2, hops, 1024)]."""
        import numpy as np
        import scipy.fft

        window = _make_window()
        span = _cut_span(y, start - MARGIN_FRAMES * HOP_LENGTH)
        frames = np.lib.stride_tricks.sliding_window_view(span, N_FFT, axis=1)[:, ::HOP_LENGTH]
        D = scipy.fft.rfft(frames * window, axis=2, overwrite_x=True)
        spectra = np.abs(D[np.newaxis, ..., :BINS]) * np.float32(gain)
        claims = self.session.run(list(STEMS), {"spectra": spectra})
        vocals, rest = (np.square(claim[0]) + np.float32(SMALLEST_POWER / 2) for claim in claims)
        share = vocals / (vocals + rest)
        D[..., :BINS] *= share
        D[..., BINS:] *= share.mean(axis=2, keepdims=True)
        D = D[:, MARGIN_FRAMES : WINDOW_FRAMES - MARGIN_FRAMES]
        parts = scipy.fft.irfft(D, axis=2) * (window * np.float32(2 / 3))
        parts = parts.reshape(CHANNELS, -1, OVERLAP, HOP_LENGTH)
        count = parts.shape[1]
        added = np.zeros((CHANNELS, count + OVERLAP - 1, HOP_LENGTH), np.float32)
        for hop in range(OVERLAP):
            added[:, hop : hop + count] += parts[:, :, hop]
        return added


def _cut_span(y: NDArray[np.float32], start: int) -> NDArray[np.float32]:
    """Return the samples of the frames of a window, with zeros before the file and after it."""
    import numpy as np

    span = np.zeros((CHANNELS, (WINDOW_FRAMES + OVERLAP - 1) * HOP_LENGTH), np.float32)
    inside = y[:, max(0, start) : start + span.shape[1]]
    first = max(0, -start)
    span[:, first : first + inside.shape[1]] = inside
    return span


def _make_window() -> NDArray[np.float32]:
    """Return the Hann window; the squares of those that overlap add up to 3/2."""
    import numpy as np

    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)
