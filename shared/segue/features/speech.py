"""Where a file has speech, singing and music.

A network listens to log mel energies, and says for each 10 ms how probable speech, singing and
music are; several may be at once [1]_. Its probabilities are smoothed over 50 ms and compared with
a threshold. A pause that is shorter than the shortest gap is filled, and what is then shorter than
the shortest segment is dropped. A voice either speaks or sings at a time, whichever is more
probable in the second around it; music may be below both.

The network has learned at usual levels, and misses what is much quieter. So the whole file is
brought to -23 dBFS first, as `segue.features.levels` describes.

.. [1] Xu, K. and Huang, K. "FireRedVAD", 2026; the architecture after Zhang, S. et al. "Deep-FSMN
   for large vocabulary continuous speech recognition." ICASSP (2018).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.features import filter_bank
from segue.features.levels import find_gain
from segue.features.resampling import require_rate
from segue.media.audio import Audio, release_pages
from segue.media.memory import format_duration, require_memory
from segue.models import open_onnx
from segue.models.firered_aed import CONTEXT_FRAMES, KINDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Not onnxruntime: its import starts a thread, after which a process must not fork.
PRELOAD = ("numpy", "scipy.fft")

Kind = Literal["speech", "singing", "music"]
FRAMES_PER_S = filter_bank.SAMPLE_RATE_HZ // filter_bank.HOP_LENGTH
WINDOW_FRAMES = 6_000  # for which the network is called at once, besides its context
SMOOTHED_FRAMES = 5
VOICE_FRAMES = 101  # in which it is decided whether a voice speaks or sings
LEVEL_DBFS = -23.0
# Measured, and rounded up: of the whole file, and of one window.
BYTES_PER_FRAME, WINDOW_BYTES = 96, 128 * 2**20
TOO_SHORT = f"the file is shorter than {filter_bank.FRAME_LENGTH / filter_bank.SAMPLE_RATE_HZ} s"


class SpeechSegment(TypedDict):
    """A stretch with one kind of sound."""

    start_s: Annotated[float, Meta(description="in seconds from the start of the file")]
    end_s: Annotated[float, Meta(description="in seconds from the start of the file")]
    kind: Annotated[Kind, Meta(description="speech and singing exclude each other")]


class SpeechResult(TypedDict):
    """Where a file has speech, singing and music."""

    speechiness: Annotated[
        float | None,
        Meta(description="share of the time with speech, from 0 to 1; not of singing"),
    ]
    singing_share: Annotated[float | None, Meta(description="share of the time, from 0 to 1")]
    music_share: Annotated[
        float | None, Meta(description="share of the time, from 0 to 1; below a voice, too")
    ]
    segments: Annotated[list[SpeechSegment], Meta(description="by their start")]
    reason: Annotated[str | None, Meta(description="why there are no shares; null if there are")]


class Speech:
    """Find speech, singing and music.

    Parameters
    ----------
    model : Path
        The model ``firered_aed@1``.
    threshold : float in (0, 1)
        The probability from which on there is a voice, or music.
    min_duration_s : float >= 0
        What is shorter is dropped.
    min_gap_s : float >= 0
        What is closer together is one segment.

    Raises
    ------
    ConfigurationError
        If a parameter is out of its range.
    """

    def __init__(
        self,
        *,
        model: Path,
        threshold: float = 0.5,
        min_duration_s: float = 0.2,
        min_gap_s: float = 0.2,
    ) -> None:
        if not 0 < threshold < 1:
            raise ConfigurationError(f"speech: threshold is {threshold}: it must be from 0 to 1")
        if min(min_duration_s, min_gap_s) < 0:
            raise ConfigurationError(
                f"speech: min_duration_s is {min_duration_s}, and min_gap_s {min_gap_s}: neither "
                "may be negative"
            )
        self.model = model
        self.threshold = threshold
        self.min_frames = round(min_duration_s * FRAMES_PER_S)
        self.gap_frames = round(min_gap_s * FRAMES_PER_S)

    def setup(self) -> None:
        """Load the model."""
        self.session = open_onnx(self.model, gpu=None)

    def __call__(self, audio: Audio) -> SpeechResult:
        """Find the segments of a file.

        Parameters
        ----------
        audio : Audio
            At 16 kHz; several channels are averaged.

        Returns
        -------
        SpeechResult
            Times are to 10 ms, but for the end of the file, and shares to four decimals.
            ``speechiness`` is the sum of the durations of the segments of speech over that of the
            file, and so are the other shares. They are None if the file has no frame of 25 ms.

        Raises
        ------
        TooLarge
            If the process's memory bound has no room for the file.
        ConfigurationError
            If the audio has another rate.
        """
        require_rate(audio, filter_bank.SAMPLE_RATE_HZ, "speech")
        frames = filter_bank.count_frames(audio.y.shape[-1])
        if not frames:
            return _report({}, audio.duration_s, TOO_SHORT)
        require_memory(
            BYTES_PER_FRAME * frames + WINDOW_BYTES,
            f"speech of {format_duration(audio.duration_s)}",
        )
        gain = find_gain(audio, LEVEL_DBFS)
        probabilities = self._listen(audio.y, frames, gain) if gain else None
        if probabilities is None:
            return _report({}, audio.duration_s, None)
        found = self._decide(*probabilities)
        return _report(found, audio.duration_s, None)

    def _listen(self, y: NDArray[np.float32], frames: int, gain: float) -> NDArray[np.float32]:
        """Return the smoothed probability of each kind in each frame [shape=(3, frames)]."""
        import numpy as np

        found = np.empty((len(KINDS), frames), np.float32)
        for start in range(0, frames, WINDOW_FRAMES):
            end = min(start + WINDOW_FRAMES, frames)
            first, last = max(0, start - CONTEXT_FRAMES), min(frames, end + CONTEXT_FRAMES)
            samples = slice(
                first * filter_bank.HOP_LENGTH,
                (last - 1) * filter_bank.HOP_LENGTH + filter_bank.FRAME_LENGTH,
            )
            block = Audio(y=y[..., samples], sr=filter_bank.SAMPLE_RATE_HZ).mono().y
            features = filter_bank.compute_log_mel(block * np.float32(gain))
            (heard,) = self.session.run(["probabilities"], {"features": features})
            found[:, start:end] = heard[start - first : end - first].T
            release_pages(y)
        return found

    def _decide(
        self,
        speech: NDArray[np.float32],
        singing: NDArray[np.float32],
        music: NDArray[np.float32],
    ) -> dict[Kind, NDArray[np.intp]]:
        """Return the first frame of each segment and the one after its last, by kind."""
        import numpy as np

        voice = np.maximum(_smooth(speech, SMOOTHED_FRAMES), _smooth(singing, SMOOTHED_FRAMES))
        has_voice = self._clean(voice >= self.threshold)
        sings = has_voice & (_smooth(singing - speech, VOICE_FRAMES) > 0)
        sings = self._clean(sings, fill=False)
        has_music = self._clean(_smooth(music, SMOOTHED_FRAMES) >= self.threshold)
        return {
            "speech": _find_runs(self._clean(has_voice & ~sings, fill=False)),
            "singing": _find_runs(sings),
            "music": _find_runs(has_music),
        }

    def _clean(self, present: NDArray[np.bool_], *, fill: bool = True) -> NDArray[np.bool_]:
        """Fill short gaps, and drop what is short."""
        import numpy as np

        runs = _find_runs(present)
        if fill and len(runs):
            apart = np.flatnonzero(runs[1:, 0] - runs[:-1, 1] >= self.gap_frames)
            starts = runs[np.concatenate([[0], apart + 1]), 0]
            runs = np.stack([starts, runs[np.append(apart, len(runs) - 1), 1]], axis=1)
        runs = runs[runs[:, 1] - runs[:, 0] >= self.min_frames]
        edges = np.zeros(len(present) + 1, np.int8)
        edges[runs[:, 0]] += 1
        edges[runs[:, 1]] -= 1
        return np.asarray(np.cumsum(edges[:-1], dtype=np.int8), np.bool_)


def _smooth(values: NDArray[np.float32], width: int) -> NDArray[np.float64]:
    """Return the mean of the values around each one; the first and the last continue outside."""
    import numpy as np

    half = width // 2
    sums = np.cumsum(np.pad(values.astype(np.float64), (half + 1, half), mode="edge"))
    means: NDArray[np.float64] = (sums[width:] - sums[:-width]) / width
    return means


def _find_runs(present: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the first frame of each run, and the one after its last [shape=(runs, 2)]."""
    import numpy as np

    edges = np.diff(present.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges).reshape(-1, 2)


def _report(
    found: dict[Kind, NDArray[np.intp]], duration_s: float, reason: str | None
) -> SpeechResult:
    frames = filter_bank.count_frames(round(duration_s * filter_bank.SAMPLE_RATE_HZ))
    segments: list[SpeechSegment] = [
        {
            "start_s": _frame_to_time(first, frames, duration_s),
            "end_s": _frame_to_time(end, frames, duration_s),
            "kind": kind,
        }
        for kind, runs in found.items()
        for first, end in runs.tolist()
    ]
    segments.sort(key=lambda segment: (segment["start_s"], segment["end_s"], segment["kind"]))

    def share(kind: Kind) -> float | None:
        if reason is not None:
            return None
        lasting_s = sum(s["end_s"] - s["start_s"] for s in segments if s["kind"] == kind)
        return round(min(1.0, lasting_s / duration_s), 4)

    return {
        "speechiness": share("speech"),
        "singing_share": share("singing"),
        "music_share": share("music"),
        "segments": segments,
        "reason": reason,
    }


def _frame_to_time(frame: int, frames: int, duration_s: float) -> float:
    """Return when a frame begins to count: between its centre and that of the one before.

    That is 7.5 ms after its first sample, rounded to 10. The first counts from the start of the
    file, and the last to its end.
    """
    if frame in (0, frames):
        return round(duration_s * (frame > 0), 3)
    return round((frame + 1) / FRAMES_PER_S, 2)
