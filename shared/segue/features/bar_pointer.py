"""The most likely beats and bars, by Viterbi's algorithm over a pointer that moves through bars.

A state is a place in a bar and a tempo: in each frame the pointer moves on by one, and where one
beat ends and another begins, the tempo may change, exponentially less likely the more it does
[1]_. The pointer sees a beat in the first sixteenth of each beat, a downbeat in that of the bar's
first, and neither elsewhere [2]_. Each length of a bar is a model of its own; the one that explains
a whole file best is taken.

Within a beat nothing is decided, so one byte for each beginning of a beat, and not for each
state, leads back through the file. The states of a beat and a tempo are a ring: a step moves its
head, not its values.

.. [1] Krebs, F., Böck, S., Widmer, G. "An efficient state-space model for joint tempo and meter
   tracking." ISMIR (2015).
.. [2] Böck, S., Krebs, F., Widmer, G. "Joint beat and downbeat tracking with recurrent neural
   networks." ISMIR (2016), 2.3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLOWEST_BPM, FASTEST_BPM = 55.0, 215.0
TEMPO_LAMBDA = 100.0  # how unlikely another tempo is
BEAT_LAMBDA = 16  # a beat is seen in this part of it
# The probability of another tempo is not below this, or is none.
LEAST_TRANSITION = 2.0**-52
# No probability is lower: one frame cannot forbid what all others say.
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, slots=True)
class Bars:
    """The beats of a recording, if its bars have so many beats."""

    frames: NDArray[np.int64]  # ascending
    positions: NDArray[np.int64]  # in the bar, as long; 1 is a downbeat
    beats_per_bar: int
    log_probability: float  # of the best path


def decode_bars(
    activations: NDArray[np.float32], beats_per_bar: int, *, frames_per_s: float
) -> Bars:
    """Find the most likely beats, if all bars have the same number of them.

    Parameters
    ----------
    activations : np.ndarray [shape=(frames, >= 2)], frames > 0
        The probabilities, in each frame, of a beat that is no downbeat, and of a downbeat.
    beats_per_bar : int > 0
        Beats in each bar.
    frames_per_s : float from 2 to 250
        Frames per second.

    Returns
    -------
    Bars
        Each beat is in the frame with the highest probability of those in which the path sees it.
    """
    intervals = list_intervals(frames_per_s)
    widths = -(-intervals // BEAT_LAMBDA)
    # Zeros, and not whatever is there: of activations that are not finite, no tempo is chosen.
    choices = np.zeros((len(activations), beats_per_bar, len(intervals)), np.uint8)
    state, log_probability = _find_path(
        _compute_log_densities(activations),
        intervals,
        widths,
        build_transitions(intervals),
        choices,
    )
    frames, positions = _trace_back(state, intervals, widths, choices, activations)
    return Bars(frames[::-1], positions[::-1], beats_per_bar, float(log_probability))


def list_intervals(frames_per_s: float) -> NDArray[np.int64]:
    """Return the numbers of frames that a beat may last, ascending."""
    shortest, longest = (60.0 * frames_per_s / bpm for bpm in (FASTEST_BPM, SLOWEST_BPM))
    return np.arange(round(shortest), round(longest) + 1)


def build_transitions(intervals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the logarithm of the probability that one interval [row] follows another [column]."""
    ratios = intervals[np.newaxis, :] / intervals[:, np.newaxis]
    likely = np.exp(-TEMPO_LAMBDA * np.abs(ratios - 1.0))
    likely[likely <= LEAST_TRANSITION] = 0.0
    likely /= likely.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        return np.log(likely)


@njit(cache=True)
def _compute_log_densities(activations: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the log probabilities [frames, 3] of neither, a beat and a downbeat in a frame."""
    densities = np.empty((len(activations), 3))
    for frame in range(len(activations)):
        beat, downbeat = np.float64(activations[frame, 0]), np.float64(activations[frame, 1])
        neither = (1.0 - (beat + downbeat)) / (BEAT_LAMBDA - 1)
        densities[frame, 0] = math.log(max(neither, LEAST_PROBABILITY))
        densities[frame, 1] = math.log(max(beat, LEAST_PROBABILITY))
        densities[frame, 2] = math.log(max(downbeat, LEAST_PROBABILITY))
    return densities


@njit(cache=True)
def _find_path(
    densities: NDArray[np.float64],
    intervals: NDArray[np.int64],
    widths: NDArray[np.int64],
    transitions: NDArray[np.float64],
    choices: NDArray[np.uint8],
) -> tuple[tuple[int, int, int], float]:
    """Fill in, for each beginning of a beat, which tempo came before; return the best last state.

    A state is a beat in the bar, the index of an interval, and how many frames ago it began.
    """
    beats, tempi = choices.shape[1:]
    scores = np.full((beats, intervals.sum()), -math.log(beats * intervals.sum()))
    lasts = np.empty((beats, tempi))
    seen = np.zeros((beats, tempi, widths.max()))  # scores of states that see a beat, by age
    heads = np.zeros(tempi, np.int64)
    bands = _find_bands(transitions)
    for frame in range(len(densities)):
        _leave_beats(scores, intervals, widths, heads, lasts, seen)
        scores += densities[frame, 0]
        for beat in range(beats):
            _choose(lasts[beat - 1], transitions, bands, seen[beat, :, 0], choices[frame, beat])
            seen[beat] += densities[frame, 1 if beat else 2]
        _enter_beats(scores, intervals, widths, heads, seen)
    return _find_best(scores, intervals, heads)


@njit(cache=True)
def _leave_beats(
    scores: NDArray[np.float64],
    intervals: NDArray[np.int64],
    widths: NDArray[np.int64],
    heads: NDArray[np.int64],
    lasts: NDArray[np.float64],
    seen: NDArray[np.float64],
) -> None:
    """Move all rings on by a frame; copy the scores that are about to end a beat, or to see one."""
    offset = 0
    for tempo in range(len(intervals)):
        # The oldest score of a ring is where its newest is to be.
        heads[tempo] = (heads[tempo] or intervals[tempo]) - 1
        for beat in range(len(scores)):
            lasts[beat, tempo] = scores[beat, offset + heads[tempo]]
            for age in range(1, widths[tempo]):
                slot = (heads[tempo] + age) % intervals[tempo]
                seen[beat, tempo, age] = scores[beat, offset + slot]
        offset += intervals[tempo]


@njit(cache=True)
def _enter_beats(
    scores: NDArray[np.float64],
    intervals: NDArray[np.int64],
    widths: NDArray[np.int64],
    heads: NDArray[np.int64],
    seen: NDArray[np.float64],
) -> None:
    """Put the scores of the states that see a beat in their places."""
    offset = 0
    for tempo in range(len(intervals)):
        for age in range(widths[tempo]):
            slot = (heads[tempo] + age) % intervals[tempo]
            for beat in range(len(scores)):
                scores[beat, offset + slot] = seen[beat, tempo, age]
        offset += intervals[tempo]


@njit(cache=True)
def _find_best(
    scores: NDArray[np.float64], intervals: NDArray[np.int64], heads: NDArray[np.int64]
) -> tuple[tuple[int, int, int], float]:
    """Return the state with the highest score, the first of equals, and the score."""
    state, highest = (0, 0, 0), -math.inf
    for beat in range(len(scores)):
        offset = 0
        for tempo in range(len(intervals)):
            for age in range(intervals[tempo]):
                score = scores[beat, offset + (heads[tempo] + age) % intervals[tempo]]
                if score > highest:
                    state, highest = (beat, tempo, age), score
            offset += intervals[tempo]
    return state, highest


@njit(cache=True)
def _find_bands(transitions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the first interval that may follow each, and the one after the last."""
    bands = np.empty((len(transitions), 2), np.int64)
    for before in range(len(transitions)):
        possible = np.nonzero(transitions[before] > -math.inf)[0]
        bands[before, 0], bands[before, 1] = possible[0], possible[-1] + 1
    return bands


@njit(cache=True)
def _choose(
    lasts: NDArray[np.float64],
    transitions: NDArray[np.float64],
    bands: NDArray[np.int64],
    best: NDArray[np.float64],
    choice: NDArray[np.uint8],
) -> None:
    """Set the best score of a beat's beginning for each tempo, and the tempo that it comes from."""
    best[:] = -math.inf
    for before in range(len(lasts)):
        for tempo in range(bands[before, 0], bands[before, 1]):
            score = lasts[before] + transitions[before, tempo]
            if score > best[tempo]:
                best[tempo] = score
                choice[tempo] = before


@njit(cache=True)
def _trace_back(
    state: tuple[int, int, int],
    intervals: NDArray[np.int64],
    widths: NDArray[np.int64],
    choices: NDArray[np.uint8],
    activations: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the frames and positions of the beats, the last one first."""
    beat, tempo, age = state
    frames, positions = [], []
    start = len(choices) - 1 - age
    while True:
        peak, highest = -1, -math.inf
        for frame in range(max(0, start), min(len(choices), start + widths[tempo])):
            value = max(activations[frame, 0], activations[frame, 1])
            if value > highest:
                peak, highest = frame, value
        if peak >= 0:
            frames.append(peak)
            positions.append(beat + 1)
        if start <= 0:
            break
        tempo = choices[start, beat, tempo]
        beat = (beat or choices.shape[1]) - 1
        start -= intervals[tempo]
    return np.array(frames, np.int64), np.array(positions, np.int64)
