"""What is said in a file, as text with times.

Only stretches with a voice are listened to, put together to windows of at most 30 s that begin and
end in pauses, if there are any: Whisper invents text for music and silence. A window is left out if
Whisper is not confident and hears no speech, or repeats itself, by the bounds of its authors.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from segue.features.language import find_voice
from segue.features.resampling import require_rate
from segue.features.whisper import SAMPLE_RATE_HZ, WINDOW_S, Hypothesis, Whisper, decode_tokens
from segue.job_progress import progress
from segue.media.audio import Audio, release_pages

PRELOAD = ("numpy", "librosa", "scipy.fft", "ctranslate2")

NO_SPEECH_PROBABILITY = 0.6
MEAN_LOG_PROBABILITY = -1.0
COMPRESSION = 2.4
MARGIN_S = 0.1  # around a stretch with a voice
_TIME = re.compile(r"<\|(\d+\.\d\d)\|>")


class TranscriptSegment(TypedDict):
    """A sentence, or a part of one."""

    start_s: Annotated[float, Meta(description="in seconds from the start of the file")]
    end_s: Annotated[float, Meta(description="in seconds from the start of the file")]
    text: Annotated[str, Meta(description="what is said")]


class TranscriptResult(TypedDict):
    """What is said in a file."""

    language: Annotated[str | None, Meta(description="that of the job language")]
    segments: Annotated[list[TranscriptSegment], Meta(description="by their start")]
    reason: Annotated[str | None, Meta(description="why there is no text; null if there may be")]


class Transcript:
    """Write down what is said.

    Parameters
    ----------
    model, config, vocabulary : Path
        A Whisper for many languages, in CTranslate2's format: its ``model.bin``, ``config.json``
        and ``vocabulary.txt``.
    """

    def __init__(self, *, model: Path, config: Path, vocabulary: Path) -> None:
        self.files = {"model": model, "config": config, "vocabulary": vocabulary}

    def setup(self) -> None:
        """Load the model."""
        self.whisper = Whisper(**self.files)

    def __call__(
        self, audio: Audio, speech: dict[str, Any], language: dict[str, Any]
    ) -> TranscriptResult:
        """Write down what is said in a file.

        Parameters
        ----------
        audio : Audio
            At 16 kHz; several channels are averaged.
        speech : dict
            The result of `segue.features.speech.Speech` for it; ``segments`` is used.
        language : dict
            The result of `segue.features.language.Language` for it. Without a language, there is no
            text.

        Returns
        -------
        TranscriptResult
            Times are multiples of 20 ms from the start of a window.

        Raises
        ------
        ConfigurationError
            If the audio has another rate.
        """
        require_rate(audio, SAMPLE_RATE_HZ, "transcript")
        code = language["language"]
        if code is None:
            return {"language": None, "segments": [], "reason": language["reason"]}
        segments: list[TranscriptSegment] = []
        for start_s, end_s in _join(find_voice(speech["segments"]), audio.duration_s):
            block = audio.y[..., round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
            written = self.whisper.transcribe(block, code)
            release_pages(audio.y)
            progress(min(1.0, end_s / audio.duration_s), "transcribing")
            segments += _list_segments(written, start_s, end_s)
        return {"language": code, "segments": segments, "reason": None}


def _join(stretches: list[tuple[float, float]], duration_s: float) -> Iterator[tuple[float, float]]:
    """Yield windows of at most 30 s with all of the voice: as many stretches in each as fit."""
    import numpy as np

    window: tuple[float, float] | None = None
    for start, end in stretches:
        start_s, end_s = max(0.0, start - MARGIN_S), min(duration_s, end + MARGIN_S)
        if window is not None and end_s - window[0] <= WINDOW_S:
            window = (window[0], end_s)
            continue
        if window is not None:
            yield window
            start_s = max(start_s, window[1])
        # In equal parts: of a short rest, Whisper invents something.
        edges = np.linspace(start_s, end_s, 1 + math.ceil((end_s - start_s) / WINDOW_S)).tolist()
        yield from pairwise(edges[:-1])
        window = (edges[-2], end_s)
    if window is not None:
        yield window


def _list_segments(
    written: Hypothesis, start_s: float, end_s: float
) -> Iterator[TranscriptSegment]:
    """Yield the segments of a window, whose times in it begin at 0.

    What would begin after the end of the window is about the silence that follows it.
    """
    text = decode_tokens(token for token in written.tokens if not token.startswith("<|"))
    if not _is_credible(written, text):
        return
    at_s, words = 0.0, list[str]()
    # What follows the last time lasts to the end of the window.
    for token in (*written.tokens, f"<|{end_s - start_s:.2f}|>"):
        time = _TIME.fullmatch(token)
        if time is None:
            words += [] if token.startswith("<|") else [token]
            continue
        said = decode_tokens(words).strip()
        if said and start_s + at_s < end_s:
            yield {
                "start_s": round(start_s + at_s, 3),
                "end_s": round(min(end_s, start_s + float(time[1])), 3),
                "text": said,
            }
        at_s, words = float(time[1]), []


def _is_credible(written: Hypothesis, text: str) -> bool:
    is_silence = (
        written.no_speech_probability > NO_SPEECH_PROBABILITY
        and written.mean_log_probability < MEAN_LOG_PROBABILITY
    )
    data = text.encode()
    return not is_silence and len(data) <= COMPRESSION * len(zlib.compress(data))
