"""The pitch of one voice or melody instrument, as a contour and in numbers.

A network reads the pitch from a spectrogram, and says for each 16 ms how sure it is that there is
one [1]_. What it hears in less than 48 ms at a time is no pitch. It has learned at usual levels, so
the whole file is brought to one of these first (`segue.features.levels`).

It hears one pitch at a time: of a song with accompaniment, whatever stands out. Sounds with odd
harmonics alone, such as a square wave or a stopped pipe, are heard at a harmonic now and then, and
sines below 280 Hz not at all.

.. [1] Nieradzik, L. "SwiftF0: Fast and accurate monophonic pitch detection." arXiv:2508.18440
   (2025).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.features.levels import find_gain
from segue.features.resampling import require_rate
from segue.job_progress import progress
from segue.media.audio import Audio, release_pages
from segue.media.memory import format_duration, require_memory
from segue.models import open_onnx

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

# Neither onnxruntime nor pyarrow: each starts a thread, after which a process must not fork.
PRELOAD = ("numpy",)

SAMPLE_RATE_HZ, HOP_LENGTH = 16_000, 256
HOP_S = HOP_LENGTH / SAMPLE_RATE_HZ
LOWEST_HZ, HIGHEST_HZ = 46.875, 2093.75  # of the network
WINDOW_FRAMES = 1_000  # for which the network is called at once, besides its context
CONTEXT_FRAMES = 16  # on either side; with 11 before and 10 after, results differ by 1e-7
# The network was never shown digital silence, in which it hears all kinds of pitches.
SILENCE_PEAK = 1e-3
FEWEST_FRAMES = 3
LEVEL_DBFS = -23.0
LOW_PERCENT, HIGH_PERCENT = 5, 95
# Measured, and rounded up: of the whole file, and of one window.
BYTES_PER_FRAME, WINDOW_BYTES = 192, 128 * 2**20


class PitchSummary(TypedDict):
    """The pitch of a file in numbers."""

    median_hz: Annotated[float | None, Meta(description="fundamental frequency, in Hz")]
    p5_hz: Annotated[float | None, Meta(description="5 % of the pitched time is below, in Hz")]
    p95_hz: Annotated[float | None, Meta(description="5 % of the pitched time is above, in Hz")]
    range_semitones: Annotated[float | None, Meta(description="from p5_hz to p95_hz")]
    voiced_share: Annotated[float, Meta(description="share of the time with a pitch, from 0 to 1")]
    confidence: Annotated[
        float | None, Meta(description="mean of the contour where it has a pitch, from 0.5 to 1")
    ]
    hop_s: Annotated[float, Meta(description="seconds between two rows of the contour")]
    reason: Annotated[str | None, Meta(description="why there is no pitch; null if there is")]


class PitchResult(TypedDict):
    """The pitch of a file: what is written for each output."""

    summary: Annotated[PitchSummary, Meta(description="the pitch of the file in numbers")]
    contour: Annotated[
        Any,
        Meta(
            description="a table with a row for each hop_s, the first at 0 s: f0_hz, null where "
            "there is no pitch, and confidence, from 0 to 1"
        ),
    ]


class Pitch:
    """Find the pitch of one voice or melody instrument.

    Parameters
    ----------
    model : Path
        The model ``swift_f0@1``.
    min_hz, max_hz : float
        Where a pitch is looked for: at most from 46.875 to 2093.75 Hz, F sharp 1 to C 7, and at
        least a semitone apart.
    threshold : float in (0, 1)
        The confidence from which on there is a pitch.

    Raises
    ------
    ConfigurationError
        If a parameter is out of its range.
    """

    def __init__(
        self,
        *,
        model: Path,
        min_hz: float = LOWEST_HZ,
        max_hz: float = HIGHEST_HZ,
        threshold: float = 0.5,
    ) -> None:
        if not (min_hz >= LOWEST_HZ and min_hz * 2 ** (1 / 12) <= max_hz <= HIGHEST_HZ):
            raise ConfigurationError(
                f"pitch: min_hz is {min_hz}, and max_hz {max_hz}: they must be from {LOWEST_HZ} to "
                f"{HIGHEST_HZ}, and at least a semitone apart"
            )
        if not 0 < threshold < 1:
            raise ConfigurationError(f"pitch: threshold is {threshold}: it must be from 0 to 1")
        self.model = model
        self.min_hz, self.max_hz = min_hz, max_hz
        self.threshold = threshold

    def setup(self) -> None:
        """Load the model.

        Raises
        ------
        ConfigurationError
            If it is another model than SwiftF0.
        MissingExtra
            If onnxruntime is not installed.
        """
        self.session = open_onnx(self.model, gpu=None)
        inputs = [one.name for one in self.session.get_inputs()]
        if inputs != ["audio", "fmin", "fmax"]:
            raise ConfigurationError(
                f"pitch: {str(self.model)!r} has the inputs {', '.join(inputs)}, which are not "
                "those of SwiftF0; name swift_f0@1 as its parameter 'model'"
            )

    def __call__(self, audio: Audio) -> PitchResult:
        """Find the pitch in each 16 ms of a file.

        Parameters
        ----------
        audio : Audio
            At 16 kHz; several channels are averaged.

        Returns
        -------
        PitchResult
            Frequencies are to 0.01 Hz, semitones, shares and confidences to two decimals. Row n of
            the contour is about the 128 ms around n times ``hop_s``.

        Raises
        ------
        TooLarge
            If the process's memory bound has no room for the file.
        ConfigurationError
            If the audio has another rate.
        """
        import numpy as np

        require_rate(audio, SAMPLE_RATE_HZ, "pitch")
        frames = max(1, audio.y.shape[-1] // HOP_LENGTH)
        require_memory(
            BYTES_PER_FRAME * frames + WINDOW_BYTES, f"pitch of {format_duration(audio.duration_s)}"
        )
        f0_hz, confidence = np.zeros(frames, np.float32), np.zeros(frames, np.float32)
        if gain := find_gain(audio, LEVEL_DBFS):
            self._listen(audio.y, gain, f0_hz, confidence)
        voiced = _drop_short(confidence >= self.threshold)
        return {
            "summary": _summarise(f0_hz[voiced], confidence[voiced], frames),
            "contour": _build_contour(f0_hz, confidence, voiced),
        }

    def _listen(
        self,
        y: NDArray[np.float32],
        gain: float,
        f0_hz: NDArray[np.float32],
        confidence: NDArray[np.float32],
    ) -> None:
        """Write the rounded frequency and confidence of each frame."""
        import numpy as np

        frames = len(f0_hz)
        bounds = {
            "fmin": np.array(self.min_hz, np.float32),
            "fmax": np.array(self.max_hz, np.float32),
        }
        for start in range(0, frames, WINDOW_FRAMES):
            progress(start / frames, "listening")
            end = min(start + WINDOW_FRAMES, frames)
            first = max(0, start - CONTEXT_FRAMES)
            samples = slice(first * HOP_LENGTH, (end + CONTEXT_FRAMES) * HOP_LENGTH)
            block = Audio(y=y[..., samples], sr=SAMPLE_RATE_HZ).mono().y * np.float32(gain)
            heard, sure = self.session.run(
                ["pitch", "confidence"], {"audio": block[np.newaxis], **bounds}
            )
            inside = slice(start - first, end - first)
            f0_hz[start:end] = heard[0, inside].round(2)
            confidence[start:end] = sure[0, inside].round(2) * _is_sound(block)[inside]
            release_pages(y)


def _is_sound(y: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return for each frame whether it is more than silence."""
    import numpy as np

    starts = np.arange(max(1, len(y) // HOP_LENGTH)) * HOP_LENGTH
    peaks: NDArray[np.float32] = np.maximum.reduceat(np.abs(y), starts)
    return peaks >= SILENCE_PEAK


def _drop_short(present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the runs that are long enough."""
    import numpy as np

    edges = np.flatnonzero(np.diff(present.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    kept = np.zeros(len(present), np.bool_)
    for first, end in edges[edges[:, 1] - edges[:, 0] >= FEWEST_FRAMES].tolist():
        kept[first:end] = True
    return kept


def _summarise(
    f0_hz: NDArray[np.float32], confidence: NDArray[np.float32], frames: int
) -> PitchSummary:
    """Describe the frames that have a pitch, of all the frames of a file."""
    import numpy as np

    if not len(f0_hz):
        return {
            "median_hz": None,
            "p5_hz": None,
            "p95_hz": None,
            "range_semitones": None,
            "voiced_share": 0.0,
            "confidence": None,
            "hop_s": HOP_S,
            "reason": "no pitch is heard",
        }
    low, median, high = np.percentile(f0_hz, [LOW_PERCENT, 50, HIGH_PERCENT]).tolist()
    return {
        "median_hz": round(median, 2),
        "p5_hz": round(low, 2),
        "p95_hz": round(high, 2),
        "range_semitones": round(12 * math.log2(high / low), 2),
        "voiced_share": round(len(f0_hz) / frames, 2),
        "confidence": round(float(confidence.mean(dtype=np.float64)), 2),
        "hop_s": HOP_S,
        "reason": None,
    }


def _build_contour(
    f0_hz: NDArray[np.float32], confidence: NDArray[np.float32], voiced: NDArray[np.bool_]
) -> pa.Table:
    import pyarrow as pa

    columns = {"f0_hz": pa.array(f0_hz, mask=~voiced), "confidence": pa.array(confidence)}
    return pa.table(columns, metadata={"hop_s": str(HOP_S)})
