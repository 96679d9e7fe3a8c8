"""What people would tag a piece of music with, and where it is among others.

A network listens to 3 s of mel energies, and says how fitting each of 50 tags of Last.fm is:
genres, moods, instruments and decades [1]_. Its last layer but one is the embedding: what sounds
alike to the network is close in it. Both are averaged over the file.

The network has learned from commercial recordings, and what is 20 dB quieter gets other tags. So it
hears each file at one level, as `segue.features.levels` measures it.

.. [1] Pons, J. and Serra, X. "musicnn: pre-trained convolutional neural networks for music audio
   tagging." ISMIR, late-breaking session (2019), arXiv:1909.06654.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from msgspec import Meta

from segue.features.levels import find_gain
from segue.features.mel import compute_mel_power
from segue.features.resampling import require_rate
from segue.job_progress import progress
from segue.media.audio import Audio, release_pages
from segue.media.memory import format_duration, require_memory
from segue.models import open_onnx
from segue.models.musicnn import BANDS, TAGS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Not onnxruntime: its import starts a thread, after which a process must not fork.
PRELOAD = ("librosa", "numpy", "scipy.fft", "scipy.sparse")

SAMPLE_RATE_HZ = 16_000
N_FFT, HOP_LENGTH = 512, 256
WINDOW_FRAMES = 187  # as the network was trained
SHORTEST_S = (WINDOW_FRAMES - 1) * HOP_LENGTH / SAMPLE_RATE_HZ
EMBEDDING = 200
LEVEL_DBFS = -17.0
DECIMALS = 4
# Measured, and rounded up: what a call of the network takes.
CALL_BYTES = 128 * 2**20
TOO_SHORT = f"the file is shorter than {SHORTEST_S} s"
SILENT = "the file is silent"


class MusicTag(TypedDict):
    """A tag, and how fitting it is."""

    name: Annotated[str, Meta(description="one of 50 tags of Last.fm")]
    value: Annotated[float, Meta(description="how fitting it is, from 0 to 1")]


class MusicTags(TypedDict):
    """What people would tag a piece of music with."""

    tags: Annotated[
        list[MusicTag] | None, Meta(description="all 50, the most fitting first; or null")
    ]
    embedding: Annotated[
        list[float] | None, Meta(description="200 numbers without a unit, or null")
    ]
    reason: Annotated[str | None, Meta(description="why there are no tags; null if there are")]


class Tags:
    """Tag music.

    Parameters
    ----------
    model : Path
        The model ``musicnn@1``.
    """

    def __init__(self, *, model: Path) -> None:
        self.model = model

    def setup(self) -> None:
        """Load the model."""
        self.session = open_onnx(self.model, gpu=None)

    def __call__(self, audio: Audio) -> MusicTags:
        """Tag a file.

        Parameters
        ----------
        audio : Audio
            At 16 kHz; several channels are averaged.

        Returns
        -------
        MusicTags
            Means over stretches of 2.992 s, one after the other; what is left at the end is not
            heard. Numbers to four decimals. None for a file that is shorter than one stretch, or
            silent.

        Raises
        ------
        TooLarge
            If the process's memory bound has no room for a call of the network.
        ConfigurationError
            If the audio has another rate.
        """
        require_rate(audio, SAMPLE_RATE_HZ, "tags")
        require_memory(CALL_BYTES, f"tags of {format_duration(audio.duration_s)}")
        windows = (1 + audio.y.shape[-1] // HOP_LENGTH) // WINDOW_FRAMES
        if not windows:
            return {"tags": None, "embedding": None, "reason": TOO_SHORT}
        gain = find_gain(audio, LEVEL_DBFS)
        if not gain:
            return {"tags": None, "embedding": None, "reason": SILENT}
        values, embedding = self._listen(audio.y, windows, gain)
        named = [
            MusicTag(name=name, value=round(value, DECIMALS))
            for name, value in zip(TAGS, values.tolist(), strict=True)
        ]
        named.sort(key=lambda tag: (-tag["value"], tag["name"]))
        return {"tags": named, "embedding": embedding.round(DECIMALS).tolist(), "reason": None}

    def _listen(
        self, y: NDArray[np.float32], windows: int, gain: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the means of the tags [shape=(50,)] and of the embeddings [shape=(200,)]."""
        import numpy as np

        tags, embedding = np.zeros(len(TAGS)), np.zeros(EMBEDDING)
        for number in range(windows):  # several in a call take more time, not less
            progress(number / windows, "listening")
            S = _compute_frames(y, number * WINDOW_FRAMES, WINDOW_FRAMES)
            x = np.log10(1 + np.float32(10_000 * gain**2) * S)
            found = self.session.run(["tags", "embedding"], {"x": x[np.newaxis]})
            tags += found[0][0]
            embedding += found[1][0]
            release_pages(y)
        return tags / windows, embedding / windows


def _compute_frames(y: NDArray[np.float32], first: int, count: int) -> NDArray[np.float32]:
    """Return the mel power of some frames of a file [shape=(count, 96)].

    They are those of the whole file: a frame reaches a hop before its centre and a hop after it.
    """
    before = min(first, 1)
    samples = slice((first - before) * HOP_LENGTH, (first + count) * HOP_LENGTH)
    S = compute_mel_power(
        y[..., samples], SAMPLE_RATE_HZ, n_fft=N_FFT, hop_length=HOP_LENGTH, n_mels=BANDS
    )
    return S[:, before : before + count].T
