"""Jobs of Segue whose inputs are other jobs' results, or whose results are no JSON.

What a job needs is made before it is timed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class WithoutVoice:
    """The job ``instrumentalness``."""

    def __init__(self, *, model: str) -> None:
        self._model = model

    def setup(self) -> None:
        """Load the model."""
        from segue.features.speech import Speech

        self._speech = Speech(model=Path(self._model))
        self._speech.setup()

    def prepare(self, y: NDArray[np.float32], sr: int) -> tuple[dict[str, Any]]:
        """Return where there is speech."""
        from segue.media.audio import Audio

        return (dict(self._speech(Audio(y=y, sr=sr))),)

    def __call__(self, speech: dict[str, Any]) -> dict[str, Any]:
        """Return both results."""
        from segue.features.instrumentalness import instrumentalness

        return {**speech, **instrumentalness(speech)}


class SpokenLanguage:
    """The job ``language``."""

    def __init__(self, *, speech: str, **files: str) -> None:
        self._speech_model = speech
        self._files: dict[str, Any] = {name: Path(path) for name, path in files.items()}

    def setup(self) -> None:
        """Load the models."""
        from segue.features.language import Language
        from segue.features.speech import Speech

        self._speech = Speech(model=Path(self._speech_model))
        self._language = Language(**self._files)
        self._speech.setup()
        self._language.setup()

    def prepare(self, y: NDArray[np.float32], sr: int) -> tuple[Any, ...]:
        """Return the audio, and where it has speech."""
        from segue.media.audio import Audio

        audio = Audio(y=y, sr=sr)
        return audio, self._speech(audio)

    def __call__(self, audio: Any, speech: dict[str, Any]) -> dict[str, Any]:
        """Return the result of the job."""
        return dict(self._language(audio, speech))


class WrittenSpeech(SpokenLanguage):
    """The job ``transcript``."""

    def setup(self) -> None:
        """Load the models."""
        from segue.features.transcript import Transcript

        super().setup()
        self._transcript = Transcript(**self._files)
        self._transcript.setup()

    def prepare(self, y: NDArray[np.float32], sr: int) -> tuple[Any, ...]:
        """Return the audio, where it has speech, and its language."""
        audio, speech = super().prepare(y, sr)
        return audio, speech, self._language(audio, speech)

    def __call__(self, audio: Any, speech: Any, language: Any = None) -> dict[str, Any]:
        """Return the text."""
        found = self._transcript(audio, speech, language)
        return {"text": " ".join(segment["text"] for segment in found["segments"])}


class PitchContour:
    """The job ``pitch``."""

    def __init__(self, model: str) -> None:
        self._model = model

    def setup(self) -> None:
        """Load the model."""
        from segue.features.pitch import Pitch

        self._pitch = Pitch(model=Path(self._model))
        self._pitch.setup()

    def __call__(self, y: NDArray[np.float32], sr: int) -> dict[str, Any]:
        """Return the frequency of each frame, None where there is no pitch."""
        from segue.media.audio import Audio

        found = self._pitch(Audio(y=y, sr=sr))
        contour = found["contour"]
        return {"hop_s": found["summary"]["hop_s"], "f0_hz": contour["f0_hz"].to_pylist()}
