"""The language that is spoken or sung in a file.

Whisper listens to the windows of 30 s that have the most voice, so neither an intro nor an
instrumental part decides. The probabilities of the windows are averaged, each weighted by how much
voice it has.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.features.resampling import require_rate
from segue.features.whisper import SAMPLE_RATE_HZ, WINDOW_S, Whisper
from segue.media.audio import Audio, release_pages

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PRELOAD = ("numpy", "librosa", "scipy.fft", "ctranslate2")

VOICES = ("speech", "singing")
ROUNDING_S = 1e-6  # of sums of times


class LanguageResult(TypedDict):
    """The language that is spoken or sung in a file."""

    language: Annotated[
        str | None,
        Meta(description="code of ISO 639-1, such as en; of ISO 639-3 where that has none"),
    ]
    probability: Annotated[
        float | None, Meta(description="of the most probable language, from 0 to 1")
    ]
    voice_s: Annotated[float, Meta(description="seconds with a voice in what was listened to")]
    reason: Annotated[str | None, Meta(description="why there is no language; null if there is")]


class Language:
    """Name the language that is spoken or sung.

    Parameters
    ----------
    model, config, vocabulary : Path
        A Whisper for many languages, in CTranslate2's format: its ``model.bin``, ``config.json``
        and ``vocabulary.txt``.
    windows : int > 0
        How many windows of 30 s are listened to, at most.
    min_voice_s : float >= 0
        With less voice in these windows, there is no language.
    min_probability : float in [0, 1]
        A language that is less probable is not named.

    Raises
    ------
    ConfigurationError
        If a parameter is out of its range.
    """

    def __init__(
        self,
        *,
        model: Path,
        config: Path,
        vocabulary: Path,
        windows: int = 3,
        min_voice_s: float = 3.0,
        min_probability: float = 0.5,
    ) -> None:
        if windows < 1:
            raise ConfigurationError(f"language: windows is {windows}: it must be at least 1")
        if min_voice_s < 0 or not 0 <= min_probability <= 1:
            raise ConfigurationError(
                f"language: min_voice_s is {min_voice_s}, and min_probability {min_probability}: "
                "the first must not be negative, and the second be from 0 to 1"
            )
        self.files = {"model": model, "config": config, "vocabulary": vocabulary}
        self.windows = windows
        self.min_voice_s = min_voice_s
        self.min_probability = min_probability

    def setup(self) -> None:
        """Load the model."""
        self.whisper = Whisper(**self.files)

    def __call__(self, audio: Audio, speech: dict[str, Any]) -> LanguageResult:
        """Name the language of a file.

        Parameters
        ----------
        audio : Audio
            At 16 kHz; several channels are averaged.
        speech : dict
            The result of `segue.features.speech.Speech` for it; ``segments`` is used.

        Returns
        -------
        LanguageResult
            The probability is rounded to three decimals.

        Raises
        ------
        ConfigurationError
            If the audio has another rate.
        """
        require_rate(audio, SAMPLE_RATE_HZ, "language")
        chosen = choose_windows(find_voice(speech["segments"]), self.windows)
        voice_s = round(math.fsum(lasting_s for _, lasting_s in chosen), 3)
        if not chosen or voice_s < self.min_voice_s:
            return {
                "language": None,
                "probability": None,
                "voice_s": voice_s,
                "reason": f"there are {voice_s} s with a voice, and {self.min_voice_s} are needed",
            }
        shares: dict[str, float] = defaultdict(float)
        for start_s, lasting_s in chosen:
            first = round(start_s * SAMPLE_RATE_HZ)
            block = audio.y[..., first : first + round(WINDOW_S * SAMPLE_RATE_HZ)]
            for code, probability in self.whisper.detect_language(block).items():
                shares[code] += probability * lasting_s / voice_s
            release_pages(audio.y)
        # Of equals, the first in the alphabet, on all machines.
        code, share = max(sorted(shares.items()), key=lambda one: one[1])
        probability = round(min(1.0, share), 3)
        is_sure = probability >= self.min_probability
        return {
            "language": code if is_sure else None,
            "probability": probability,
            "voice_s": voice_s,
            "reason": None
            if is_sure
            else f"{code} is the most probable, with {probability}, and {self.min_probability} is "
            "needed",
        }


def find_voice(segments: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return the start and the end of each stretch of voice, in seconds, that has no gap in it."""
    stretches: list[tuple[float, float]] = []
    for segment in segments:
        if segment["kind"] not in VOICES:
            continue
        if stretches and segment["start_s"] <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(stretches[-1][1], segment["end_s"]))
        else:
            stretches.append((segment["start_s"], segment["end_s"]))
    return stretches


def choose_windows(stretches: list[tuple[float, float]], count: int) -> list[tuple[float, float]]:
    """Return the start of up to `count` windows with the most voice, and how much each has.

    A window begins with a stretch of voice, or a whole number of windows after its beginning. No
    two overlap. They are in the order of the file.
    """
    import numpy as np

    if not stretches:
        return []
    edges = np.array(stretches).reshape(-1)
    lasting = np.zeros(len(edges))
    lasting[1:] = np.cumsum(np.diff(edges) * (np.arange(len(edges) - 1) % 2 == 0))
    starts: NDArray[np.float64] = np.concatenate(
        [np.arange(start, end, WINDOW_S) for start, end in stretches]
    )
    voice = np.interp(starts + WINDOW_S, edges, lasting) - np.interp(starts, edges, lasting)
    chosen: list[tuple[float, float]] = []
    while len(chosen) < count and voice.max() > 0:
        best = int(voice.argmax())
        chosen.append((float(starts[best]), float(voice[best])))
        voice[np.abs(starts - starts[best]) < WINDOW_S - ROUNDING_S] = 0.0
    return sorted(chosen)
