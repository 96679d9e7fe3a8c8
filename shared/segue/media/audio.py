"""What a job gets and returns when it works on sound: decoded audio, and a media file at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Audio:
    """Decoded sound.

    Attributes
    ----------
    y : np.ndarray [shape=(n,) or (channels, n)], dtype float32
        Samples, nominally in [-1, 1]; one dimension for mono, channels first otherwise, as in
        librosa.
    sr : int > 0
        Sampling rate in Hz.
    """

    y: NDArray[np.float32]
    sr: int

    @property
    def channels(self) -> int:
        """Number of channels."""
        return 1 if self.y.ndim == 1 else int(self.y.shape[0])

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return float(self.y.shape[-1]) / self.sr

    def mono(self) -> Audio:
        """Return the mean of the channels (itself, if it has one)."""
        if self.y.ndim == 1:
            return self
        if self.y.shape[0] == 2:
            # mean(axis=0) of two long rows is many times slower than this.
            mixed = (self.y[0] + self.y[1]) * self.y.dtype.type(0.5)
        else:
            mixed = self.y.mean(axis=0, dtype=self.y.dtype)
        return Audio(y=mixed, sr=self.sr)


class Media(Protocol):
    """A media file at hand: what a job gets for an input that is declared as ``source``."""

    @property
    def uri(self) -> str:
        """Where it came from, such as ``gs://bucket/name`` or ``file:///folder/name``."""

    @property
    def generation(self) -> int:
        """The version of the object."""

    @property
    def path(self) -> str:
        """A local file with exactly the bytes of that generation; read-only."""

    def audio(self) -> Audio:
        """Decode at the file's own rate and channels.

        The file is decoded once, however many jobs of a line ask; the samples are mapped from a
        temporary file, so that a long file does not have to fit in memory.

        Returns
        -------
        Audio
            ``y`` has the shape (n,) for mono files and (channels, n) for others.

        Raises
        ------
        CorruptMedia
            If the file is empty, truncated, not audio, or longer than Segue's limit.
        """

    def decoded(self) -> str:
        """Return the path of a WAV file of 32-bit floats with what `audio` gives.

        For programs that want a file, such as a filter of ffmpeg. It decodes as `audio` does.
        """
