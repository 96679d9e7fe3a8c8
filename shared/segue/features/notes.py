"""The notes of polyphonic music: when each begins and ends, and its pitch.

A network says for each 11.6 ms how probable each of the 88 keys of a piano sounds, and how probable
a note of it begins [1]_. Notes are made of that as the paper describes:

1. A note begins where a key's probability of an onset has a peak of at least 0.5. It lasts until
   the probability that the key sounds has been below 0.3 for 128 ms. The last onset of the file is
   followed first, and what a note has taken, on its own key and on those a semitone beside it, is
   taken away from the notes before.
2. What then sounds is a note, too, although its onset was not heard: the most probable one first.
   It has to last four times as long as others, or more of these notes were wrong than right.

The network is called for windows of two seconds, of which 174 ms on either side are context. It
hears each window at the level of its loudest part, so what is quieter than -80 dBFS is left out.

.. [1] Bittner, R. M. et al. "A lightweight instrument-agnostic model for polyphonic note
   transcription and multipitch estimation." ICASSP (2022).
"""

from __future__ import annotations

import heapq
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

from msgspec import Meta

from segue.errors import ConfigurationError
from segue.features.resampling import require_rate
from segue.job_progress import progress
from segue.media.audio import Audio, release_pages
from segue.media.memory import format_duration, require_memory
from segue.models import open_onnx

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Not onnxruntime: its import starts a thread, after which a process must not fork.
PRELOAD = ("numpy",)

SAMPLE_RATE_HZ, HOP_LENGTH = 22_050, 256
LOWEST_MIDI, KEYS = 21, 88
# Of the network. Its frame n is centred on sample n times HOP_LENGTH of the window.
WINDOW_SAMPLES, WINDOW_FRAMES = 43_844, 172
INPUT = "serving_default_input_2:0"
SOUNDING, ONSETS = "StatefulPartitionedCall:1", "StatefulPartitionedCall:2"
CONTEXT_FRAMES = 15
KEPT_FRAMES = WINDOW_FRAMES - 2 * CONTEXT_FRAMES
GAP_FRAMES = 11  # below the threshold for so long, a note has ended
FULL = 255  # a probability of 1, as it is kept
UNHEARD_RATIO = 4  # of the shortest notes whose onset was not heard to other ones
QUIETEST = 1e-4
# Measured, and rounded up: of the whole file, and of the network.
BYTES_PER_FRAME, NETWORK_BYTES = 160, 128 * 2**20


class Note(TypedDict):
    """A note."""

    start_s: Annotated[float, Meta(description="in seconds from the start of the file")]
    end_s: Annotated[float, Meta(description="in seconds from the start of the file")]
    midi: Annotated[int, Meta(description="pitch as the number of a MIDI key, 21 to 108; 69 is A4")]
    confidence: Annotated[
        float, Meta(description="mean probability that it sounds, from 0 to 1; not how loud it is")
    ]


class NotesResult(TypedDict):
    """The notes of a file."""

    notes: Annotated[list[Note], Meta(description="by their start, then by their pitch")]
    reason: Annotated[str | None, Meta(description="why there are no notes; null if there are")]


class Notes:
    """Transcribe polyphonic music.

    Parameters
    ----------
    model : Path
        The model ``basic_pitch@1``.
    onset_threshold : float in (0, 1)
        The probability of an onset from which on a note begins.
    threshold : float in (0, 1)
        The probability below which a note ends.
    min_duration_s : float >= 0
        Shorter notes are left out, and those without an onset that are shorter than four times
        this.

    Raises
    ------
    ConfigurationError
        If a parameter is out of its range.
    """

    def __init__(
        self,
        *,
        model: Path,
        onset_threshold: float = 0.5,
        threshold: float = 0.3,
        min_duration_s: float = 0.058,
    ) -> None:
        for name, value in (("onset_threshold", onset_threshold), ("threshold", threshold)):
            if not 0 < value < 1:
                raise ConfigurationError(f"notes: {name} is {value}: it must be from 0 to 1")
        if min_duration_s < 0:
            raise ConfigurationError(
                f"notes: min_duration_s is {min_duration_s}: it may not be negative"
            )
        self.model = model
        self.onset_threshold = onset_threshold
        self.level = math.ceil(threshold * FULL)
        self.min_frames = max(1, math.ceil(min_duration_s * SAMPLE_RATE_HZ / HOP_LENGTH))

    def setup(self) -> None:
        """Load the model.

        Raises
        ------
        ConfigurationError
            If it is another model than Basic Pitch.
        MissingExtra
            If onnxruntime is not installed.
        """
        self.session = open_onnx(self.model, gpu=None)
        inputs = [one.name for one in self.session.get_inputs()]
        if inputs != [INPUT]:
            raise ConfigurationError(
                f"notes: {str(self.model)!r} has the inputs {', '.join(inputs)}, which are not "
                "those of Basic Pitch; name basic_pitch@1 as its parameter 'model'"
            )

    def __call__(self, audio: Audio) -> NotesResult:
        """Find the notes of a file.

        Parameters
        ----------
        audio : Audio
            At 22,050 Hz; several channels are averaged.

        Returns
        -------
        NotesResult
            Times are in steps of 11.6 ms, rounded to milliseconds, and confidences to two decimals.

        Raises
        ------
        TooLarge
            If the process's memory bound has no room for the file.
        ConfigurationError
            If the audio has another rate.
        """
        require_rate(audio, SAMPLE_RATE_HZ, "notes")
        frames = math.ceil(audio.y.shape[-1] / HOP_LENGTH)
        require_memory(
            BYTES_PER_FRAME * frames + NETWORK_BYTES,
            f"notes of {format_duration(audio.duration_s)}",
        )
        sounding, onsets = self._listen(audio.y, frames)
        score = Score(sounding, self.level)
        for frame, key in reversed(onsets):
            score.follow_onset(frame, key, self.min_frames)
        score.find_others(UNHEARD_RATIO * self.min_frames)
        score.notes.sort()
        notes: list[Note] = [
            {
                "start_s": round(first * HOP_LENGTH / SAMPLE_RATE_HZ, 3),
                "end_s": round(min(end * HOP_LENGTH / SAMPLE_RATE_HZ, audio.duration_s), 3),
                "midi": LOWEST_MIDI + key,
                "confidence": confidence,
            }
            for first, key, end, confidence in score.notes
        ]
        return {"notes": notes, "reason": None if notes else "no note is heard"}

    def _listen(
        self, y: NDArray[np.float32], frames: int
    ) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
        """Return how probably each key sounds [shape=(KEYS, frames)], and the onsets by time."""
        import numpy as np

        sounding = np.zeros((KEYS, frames), np.uint8)
        onsets: list[tuple[int, int]] = []
        before = np.zeros((2, KEYS), np.float32)  # the last two frames of the window before
        for start in range(0, frames, KEPT_FRAMES):
            progress(start / frames, "listening")
            end = min(start + KEPT_FRAMES, frames)
            window = _cut_window(y, (start - CONTEXT_FRAMES) * HOP_LENGTH)
            release_pages(y)
            if window is None:
                before = np.zeros((2, KEYS), np.float32)
                continue
            heard, begins = self.session.run(
                [SOUNDING, ONSETS], {INPUT: window[np.newaxis, :, np.newaxis]}
            )
            inside = slice(CONTEXT_FRAMES, CONTEXT_FRAMES + end - start)
            sounding[:, start:end] = (heard[0, inside] * FULL).round().T
            block = np.concatenate([before, begins[0, inside]])
            onsets += self._find_peaks(block, start - 1)
            before = block[-2:]
        return sounding, onsets

    def _find_peaks(self, onsets: NDArray[np.float32], first: int) -> list[tuple[int, int]]:
        """Return the peaks of each key, but for the first and the last frame."""
        import numpy as np

        inner = onsets[1:-1]
        is_peak = (inner >= self.onset_threshold) & (inner > onsets[:-2]) & (inner >= onsets[2:])
        return [(first + frame, key) for frame, key in np.argwhere(is_peak).tolist()]


class Score:
    """Makes notes of how probably each key sounds, and takes away what they have used.

    Parameters
    ----------
    sounding : np.ndarray [shape=(KEYS, frames)], dtype uint8
        From 0 to 255; it is changed.
    level : int
        From which on a key sounds.

    Attributes
    ----------
    notes : list of (first frame, key, frame after the last, confidence)
    """

    def __init__(self, sounding: NDArray[np.uint8], level: int) -> None:
        self.notes: list[tuple[int, int, int, float]] = []
        self._sounding, self._level = sounding, level

    def follow_onset(self, first: int, key: int, min_frames: int) -> None:
        """Add the note that begins at an onset, if it is long enough."""
        end = _find_end(self._sounding[key], first, self._level)
        if end - first >= min_frames:
            self._add(key, first, end)

    def find_others(self, min_frames: int) -> None:
        """Add what still sounds for long enough, the most probable first."""
        queue = [run for key in range(KEYS) for run in self._find_runs(key, 0, None, min_frames)]
        heapq.heapify(queue)
        while queue:
            run = heapq.heappop(queue)
            _, key, first, end = run
            left = self._find_runs(key, first, end, min_frames)
            if left == [run]:
                self._add(key, first, end)
            else:  # a note a semitone beside it has taken some of it
                for part in left:
                    heapq.heappush(queue, part)

    def _add(self, key: int, first: int, end: int) -> None:
        import numpy as np

        mean = self._sounding[key, first:end].mean(dtype=np.float64) / FULL
        self.notes.append((first, key, end, round(float(mean), 2)))
        self._sounding[max(0, key - 1) : key + 2, first:end] = 0

    def _find_runs(
        self, key: int, first: int, end: int | None, min_frames: int
    ) -> list[tuple[int, int, int, int]]:
        """Return the stretches without a long gap: minus the greatest value, key, first, end."""
        import numpy as np

        row = self._sounding[key, first:end]
        at = np.flatnonzero(row >= self._level)
        if not len(at):
            return []
        parts = np.flatnonzero(np.diff(at) > GAP_FRAMES) + 1
        starts, ends = at[np.append(0, parts)], at[np.append(parts, len(at)) - 1] + 1
        peaks = np.maximum.reduceat(row[at], np.append(0, parts))
        return [
            (-int(peak), key, first + int(a), first + int(b))
            for a, b, peak in zip(starts, ends, peaks, strict=True)
            if b - a >= min_frames
        ]


def _cut_window(y: NDArray[np.float32], first: int) -> NDArray[np.float32] | None:
    """Return the samples of a window that begins at a sample, with zeros outside the file.

    None if there is silence.
    """
    import numpy as np

    start, end = max(0, first), min(first + WINDOW_SAMPLES, y.shape[-1])
    samples = Audio(y=y[..., start:end], sr=SAMPLE_RATE_HZ).mono().y
    if float(samples.std(dtype=np.float64)) < QUIETEST:
        return None
    window = np.zeros(WINDOW_SAMPLES, np.float32)
    window[start - first : end - first] = samples
    return window


def _find_end(row: NDArray[np.uint8], first: int, level: int) -> int:
    """Return the frame after the last one that sounds before a long gap."""
    import numpy as np

    end, length = first + 1, 64
    while True:
        at = np.flatnonzero(row[end : end + length] >= level)
        gaps = np.flatnonzero(np.diff(at, prepend=-1) > GAP_FRAMES)
        if len(gaps):
            at = at[: gaps[0]]
        if not len(at):
            return end
        end += int(at[-1]) + 1
        if len(gaps):
            return end
        length *= 2
