"""Beats, downbeats and metre, with a network and a model of bars.

BeatNet [1]_ says for each 20 ms how likely a beat and a downbeat are; a path through bars of two,
three and four beats, decoded exactly, says which of them are some [2]_. The network hears what was
and not what will be, so the first few seconds are less certain than the rest. Times are in seconds
from the start of the file.

.. [1] Heydari, M., Cwitkowitz, F., Duan, Z. "BeatNet: CRNN and particle filtering for online joint
   beat downbeat and meter tracking." ISMIR (2021).
.. [2] Böck, S., Krebs, F., Widmer, G. "Joint beat and downbeat tracking with recurrent neural
   networks." ISMIR (2016).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.media.audio import Audio
from segue.media.memory import format_duration, require_memory
from segue.models import open_onnx

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segue.features.bar_pointer import Bars

# Without onnxruntime, which starts a thread: each child imports it.
PRELOAD = ("numpy", "segue.features.metre:warm_up")

RATE_HZ, FRAMES_PER_S = 22_050, 50
METRES = (2, 3, 4)
# Nothing is a beat before the first and after the last frame with such a probability.
LEAST_ACTIVATION = 0.05
FEWEST_BEATS = 2
# Beats are where the network hears them more often than elsewhere: by less than this in noise, held
# tones and speech, and by more in all music that was measured and in which it found the beats.
LEAST_CONTRAST = 0.25
NEAR_FRAMES = 2  # a beat spreads this far
# Measured, and rounded up: of each frame, and of the network.
BYTES_PER_FRAME = 256
NETWORK_BYTES = 64 * 2**20


class Metre(TypedDict):
    """The beats of a file, and which of them begin a bar."""

    beat_times_s: Annotated[list[float], Meta(description="ascending, in steps of 0.02")]
    beat_positions: Annotated[
        list[int], Meta(description="of each beat: 1 for the first one of a bar")
    ]
    beat_confidences: Annotated[
        list[float],
        Meta(description="from 0 to 1, of each beat: its probability, by the network alone"),
    ]
    downbeat_times_s: Annotated[
        list[float], Meta(description="the times of the beats at position 1")
    ]
    beats_per_bar: Annotated[
        int | None, Meta(description="3 or 4, or, if pairs are not joined, 2; null without beats")
    ]
    tempo_bpm: Annotated[
        float | None, Meta(description="the slope of a line through the beats; null without beats")
    ]
    confidence: Annotated[
        float,
        Meta(description="from 0 to 1: how clear the beats are, right metre or not"),
    ]
    reason: Annotated[str | None, Meta(description="why there are no beats; null if there are")]


class Downbeats:
    """Find the beats, which of them begin a bar, and how many beats a bar has.

    One number of beats per bar holds for a whole file, and the tempo is from 55 to 215 beats per
    minute.

    Parameters
    ----------
    model : path
        The ONNX file of ``beatnet@1``.
    join_pairs : bool
        Whether two bars of two beats count as one bar of four. The network hears the third beat of
        a bar almost as it hears the first; of 89 pieces in four, it takes 20 for pieces in two.
    """

    def __init__(self, *, model: Path, join_pairs: bool = True) -> None:
        self._model = model
        self._join_pairs = join_pairs

    def setup(self) -> None:
        """Open the model.

        Raises
        ------
        ConfigurationError
            If it is another model than BeatNet.
        MissingExtra
            If onnxruntime is not installed.
        """
        from segue.models.beatnet import FEATURES, STATE

        self._session = open_onnx(self._model)
        self._state_shape = STATE
        found = {i.name: i.shape[1:] for i in self._session.get_inputs()}
        if found != {"x": [FEATURES], "h": STATE[1:], "c": STATE[1:]}:
            raise ConfigurationError(
                f"downbeats: {str(self._model)!r} has the inputs {', '.join(found)}, which are not "
                "those of BeatNet; name beatnet@1 as its parameter 'model'"
            )

    def __call__(self, audio: Audio) -> Metre:
        """Find the beats and downbeats of a recording.

        Parameters
        ----------
        audio : Audio
            The audio at 22,050 Hz, as the job ``downsample`` writes it; several channels are
            averaged.

        Returns
        -------
        Metre
            The confidence is the mean probability of a beat at the beats, less the mean of as many
            of the highest elsewhere, more than two frames from any beat; 0 if that is negative. So
            it is lower for syncopation.

        Beats are returned if their mean probability exceeds the mean elsewhere by 0.25; in noise,
        held tones and speech, it does not.

        On average beats are on time: the medians of sets of recordings are from 12 ms early,
        for bare clicks, to 6 ms late, so no constant is added.

        Raises
        ------
        ConfigurationError
            If the sampling rate is another one.
        TooLarge
            If the process's memory bound has no room.
        """
        import numpy as np

        from segue.features.bar_pointer import decode_bars

        if audio.sr != RATE_HZ:
            raise ConfigurationError(
                f"downbeats: its audio has {audio.sr} Hz, and the model was trained at {RATE_HZ}: "
                f"let it need a job like downsample with sample_rate_hz: {RATE_HZ}"
            )
        require_memory(
            BYTES_PER_FRAME * FRAMES_PER_S * audio.duration_s + NETWORK_BYTES,
            f"downbeats of {format_duration(audio.duration_s)}",
        )
        activations = self._compute_activations(audio.y)
        first, last = _find_span(activations)
        if first == last:
            return _describe_none()
        inside = activations[first:last]
        found = [decode_bars(inside, n, frames_per_s=FRAMES_PER_S) for n in METRES]
        bars = max(found, key=lambda bars: bars.log_probability)
        heard = inside.sum(axis=1, dtype=np.float64)
        if not _has_beats(heard, bars.frames):
            return _describe_none()
        if bars.beats_per_bar == 2 and self._join_pairs:
            bars = _join_bars(bars, inside)
        return _describe(bars, heard, first)

    def _compute_activations(self, y: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of beats and downbeats: [frames, 2]."""
        import numpy as np

        from segue.features.log_bands import count_frames, iterate_features

        activations = np.empty((count_frames(y.shape[-1]), 2), np.float32)
        h = c = np.zeros(self._state_shape, np.float32)
        at = 0
        for x in iterate_features(y):
            block, h, c = self._session.run(None, {"x": x, "h": h, "c": c})
            activations[at : at + len(x)] = block[:, :2]
            at += len(x)
        return activations


def _find_span(activations: NDArray[np.float32]) -> tuple[int, int]:
    """Return the first frame in which there may be a beat, and the one after the last."""
    import numpy as np

    (likely,) = np.nonzero(activations.max(axis=1) >= LEAST_ACTIVATION)
    return (int(likely[0]), int(likely[-1]) + 1) if len(likely) else (0, 0)


def _select_elsewhere(heard: NDArray[np.float64], frames: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probabilities from the first beat to the last in frames that are near none."""
    import numpy as np

    is_near = np.zeros(len(heard), bool)
    for distance in range(-NEAR_FRAMES, NEAR_FRAMES + 1):
        is_near[(frames + distance).clip(0, len(heard) - 1)] = True
    inside = slice(frames[0], frames[-1] + 1)
    return heard[inside][~is_near[inside]]


def _has_beats(heard: NDArray[np.float64], frames: NDArray[np.int64]) -> bool:
    if len(frames) < FEWEST_BEATS:
        return False
    elsewhere = _select_elsewhere(heard, frames)
    return bool(heard[frames].mean() - elsewhere.mean() >= LEAST_CONTRAST)


def _join_bars(bars: Bars, activations: NDArray[np.float32]) -> Bars:
    """Count each two bars as one, which begins where downbeats are likelier."""
    import numpy as np

    downbeats = bars.frames[bars.positions == 1]
    heard = activations[downbeats, 1]
    later = len(heard) > 1 and heard[1::2].mean() > heard[::2].mean()
    bar = np.cumsum(bars.positions == 1) - 1  # -1 before the first downbeat
    positions = bars.positions + 2 * ((bar - int(later)) % 2)
    return replace(bars, positions=positions, beats_per_bar=2 * bars.beats_per_bar)


def _compute_confidence(heard: NDArray[np.float64], frames: NDArray[np.int64]) -> float:
    import numpy as np

    highest = np.sort(_select_elsewhere(heard, frames))[-len(frames) :]
    return max(0.0, float(heard[frames].mean() - highest.mean()))


def _fit_tempo(frames: NDArray[np.int64]) -> float:
    """Return the tempo of the line through beats, each of which is the next: least squares."""
    import numpy as np

    numbers = np.arange(len(frames)) - (len(frames) - 1) / 2
    frames_per_beat = (numbers * frames).sum() / np.square(numbers).sum()
    return float(60.0 * FRAMES_PER_S / frames_per_beat)


def _describe(bars: Bars, heard: NDArray[np.float64], first: int) -> Metre:
    times_s = ((bars.frames + first) / FRAMES_PER_S).round(2)
    return {
        "beat_times_s": times_s.tolist(),
        "beat_positions": bars.positions.tolist(),
        "beat_confidences": heard[bars.frames].round(3).tolist(),
        "downbeat_times_s": times_s[bars.positions == 1].tolist(),
        "beats_per_bar": bars.beats_per_bar,
        "tempo_bpm": round(_fit_tempo(bars.frames), 2),
        "confidence": round(_compute_confidence(heard, bars.frames), 3),
        "reason": None,
    }


def _describe_none() -> Metre:
    return {
        "beat_times_s": [],
        "beat_positions": [],
        "beat_confidences": [],
        "downbeat_times_s": [],
        "beats_per_bar": None,
        "tempo_bpm": None,
        "confidence": 0.0,
        "reason": "no beat is heard",
    }


def warm_up() -> None:
    """Compile what decodes, with two seconds of silence."""
    import numpy as np

    from segue.features.bar_pointer import decode_bars
    from segue.features.log_bands import RATE_HZ, iterate_features

    for _ in iterate_features(np.zeros(2 * RATE_HZ, np.float32)):
        pass
    decode_bars(np.full((100, 2), 0.1, np.float32), METRES[0], frames_per_s=FRAMES_PER_S)
