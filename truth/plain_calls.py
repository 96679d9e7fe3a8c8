"""Models as their authors' programs call them, without what Segue's jobs add: in Segue's Python.

The networks are those that Segue has made ready, so both differ in nothing but their use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from truth.mixes import score_stems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N_FFT, HOP_LENGTH, BINS, WINDOW_FRAMES = 4096, 1024, 1024, 512
SMALLEST = 1e-10
MEL_FRAMES, MEL_BANDS = 187, 96


class PlainModel:
    """A model, and how to load it."""

    def __init__(self, *, model: str) -> None:
        self._model = model

    def setup(self) -> None:
        """Load the model."""
        from segue.models import open_onnx

        self.session = open_onnx(self._model, gpu=None)


class PlainSpleeter(PlainModel):
    """Spleeter's way: as loud as the file is, no overlap of windows, and no sound above 11 kHz.

    Both parts are multiplied by their share of the power, and transformed back.
    """

    def __call__(self, y: NDArray[np.float32], _sr: int) -> dict[str, float]:
        """Return what `truth.mixes.score_stems` does."""
        import numpy as np
        import scipy.fft

        mix = y[:2]
        hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)
        frames = -(-mix.shape[1] // HOP_LENGTH) + N_FFT // HOP_LENGTH
        frames = -(-frames // WINDOW_FRAMES) * WINDOW_FRAMES
        padded = np.zeros((2, (frames - 1) * HOP_LENGTH + N_FFT), np.float32)
        padded[:, N_FFT : N_FFT + mix.shape[1]] = mix
        cut = np.lib.stride_tricks.sliding_window_view(padded, N_FFT, axis=1)[:, ::HOP_LENGTH]
        D = scipy.fft.rfft(cut * hann, axis=2)
        hops = N_FFT // HOP_LENGTH
        parts = [np.zeros((2, frames + hops - 1, HOP_LENGTH), np.float32) for _ in range(2)]
        for first in range(0, frames, WINDOW_FRAMES):
            window = D[:, first : first + WINDOW_FRAMES, :BINS]
            given = {"spectra": np.abs(window)[np.newaxis]}
            powers = [part[0] ** 2 for part in self.session.run(["vocals", "accompaniment"], given)]
            for part, power in zip(parts, powers, strict=True):
                share = (power + SMALLEST / 2) / (sum(powers) + SMALLEST)
                masked = np.zeros((2, WINDOW_FRAMES, N_FFT // 2 + 1), np.complex64)
                masked[..., :BINS] = window * share
                back = scipy.fft.irfft(masked, axis=2) * (hann * np.float32(2 / 3))
                for hop in range(hops):
                    cut_at = slice(hop * HOP_LENGTH, (hop + 1) * HOP_LENGTH)
                    part[:, first + hop : first + hop + WINDOW_FRAMES] += back[..., cut_at]
        heard = slice(N_FFT, N_FFT + mix.shape[1])
        vocals, rest = (part.reshape(2, -1)[:, heard] for part in parts)
        return score_stems(mix, y[2:], vocals, rest)


class PlainMusicnn(PlainModel):
    """musicnn's way, in 32 bits: librosa's mel energies, as loud as the file is, and means.

    In its own 16 bits, loud music overflows, and no tag has a value.
    """

    def __call__(self, y: NDArray[np.float32], sr: int) -> dict[str, Any]:
        """Return the tags as the job does."""
        import librosa
        import numpy as np

        from segue.models.musicnn import TAGS

        S = librosa.feature.melspectrogram(y=y, sr=sr, n_fft=512, hop_length=256, n_mels=MEL_BANDS)
        windows = S.shape[1] // MEL_FRAMES
        x = np.log10(10_000 * S.T[: windows * MEL_FRAMES] + 1).astype(np.float32)
        (found,) = self.session.run(["tags"], {"x": x.reshape(windows, MEL_FRAMES, MEL_BANDS)})
        values = found.mean(axis=0)
        order = np.argsort(-values)
        return {"tags": [{"name": TAGS[i], "value": float(values[i])} for i in order]}
