"""Jobs whose results are sound or pictures, or whose models are not one file.

They run in Segue's Python. What has to be compared with the truth is compared there, so that no
sound leaves the process: that of a mix has the voice alone as its third and fourth channel.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truth.mixes import score_stems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPEECH_HZ = 16_000


class SeparateMix:
    """The job ``separation`` on a mix, and how near its parts are to those of the mix."""

    def __init__(self, *, model: str) -> None:
        from segue.features.separation import Separation

        self._job = Separation(model=Path(model))

    def setup(self) -> None:
        """Load the model."""
        self._job.setup()

    def __call__(self, y: NDArray[np.float32], sr: int) -> dict[str, float]:
        """Return what `truth.mixes.score_stems` does."""
        from segue.media.audio import Audio

        stems = self._job(Audio(y=y[:2], sr=sr))
        return score_stems(y[:2], y[2:], stems["vocals"].y, stems["accompaniment"].y)


class FindVoice:
    """The job ``instrumentalness_by_vocals``, or ``instrumentalness`` without a separation."""

    def __init__(self, *, speech: str, separation: str | None = None) -> None:
        from segue.features.separation import Separation
        from segue.features.speech import Speech

        self._speech = Speech(model=Path(speech))
        self._separation = Separation(model=Path(separation)) if separation else None

    def setup(self) -> None:
        """Load the models."""
        self._speech.setup()
        if self._separation is not None:
            self._separation.setup()

    def __call__(self, y: NDArray[np.float32], sr: int) -> dict[str, Any]:
        """Return the job's result for a recording, or for the mix of one with its voice."""
        import soxr

        from segue.features.instrumentalness import instrumentalness
        from segue.media.audio import Audio

        audio = Audio(y=y[:2], sr=sr)
        mono = soxr.resample(audio.y.mean(axis=0), sr, SPEECH_HZ)
        voiced = Audio(y=mono, sr=SPEECH_HZ)
        speech: Any = self._speech(voiced)
        if self._separation is None:
            return dict(instrumentalness(speech))
        vocals = self._separation(audio)["vocals"]
        return dict(instrumentalness(speech, vocals, voiced))


class ReadText:
    """The job ``text``."""

    def __init__(self, *, model: str) -> None:
        from segue.features.picture_text import Text

        self._job = Text(model=Path(model))

    def setup(self) -> None:
        """Load the models."""
        self._job.setup()

    def __call__(self, media: Any) -> dict[str, Any]:
        """Return the result of the job."""
        return dict(self._job(media))


def encode_picture(rgb: NDArray[np.uint8]) -> dict[str, Any]:
    """Return a picture as JSON can hold it."""
    return {"shape": rgb.shape[:2], "rgb": base64.b64encode(rgb.tobytes()).decode()}


def thumbnail(media: Any) -> dict[str, Any]:
    """Return the picture of the job ``thumbnail``."""
    from segue.features.thumbnails import thumbnail as job

    return encode_picture(job(media))
