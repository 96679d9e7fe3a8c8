"""The decoder finds the best path: against Viterbi over all states, and on bars that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.features.bar_pointer import BEAT_LAMBDA, build_transitions, decode_bars, list_intervals

pytestmark = pytest.mark.slow

RATE = 50
FEW = 20.0  # frames per second for which the reference has few states
ROUNDING = 1e-9  # of sums of logarithms, relative


def make_activations(
    frames: list[int], positions: list[int], length: int, *, height: float = 0.9
) -> np.ndarray:
    """Return activations that name beats and downbeats in these frames, and nothing elsewhere."""
    activations = np.full((length, 2), 0.001, np.float32)
    for frame, position in zip(frames, positions, strict=True):
        activations[frame, 0 if position > 1 else 1] = height
    return activations


def make_noise(seed: int, length: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    likely = np.exp(rng.normal(0, rng.uniform(0.5, 3), (length, 3)))
    return (likely / likely.sum(axis=1, keepdims=True)).astype(np.float32)[:, :2]


def decode_plainly(
    activations: np.ndarray, beats: int, rate: float
) -> tuple[list[int], list[int], float]:
    """Viterbi over all states, frame by frame, with all back pointers: the textbook's form."""
    intervals = list_intervals(rate)
    transitions = build_transitions(intervals)
    states = [(b, i, p) for b in range(beats) for i, n in enumerate(intervals) for p in range(n)]
    number = {state: n for n, state in enumerate(states)}
    neither = (1 - activations.astype(float).sum(axis=1)) / (BEAT_LAMBDA - 1)
    densities = np.log(np.column_stack([neither, activations.astype(float)]).clip(1e-12))
    scores = np.full(len(states), -np.log(len(states)))
    sees = [0 if p * BEAT_LAMBDA >= intervals[i] else 1 if b else 2 for b, i, p in states]
    pointers = []
    for density in densities:
        pointer = np.arange(len(states)) - 1
        after = scores[pointer]
        for n, (b, i, p) in enumerate(states):
            if p == 0:
                ends = [number[(b - 1) % beats, j, k - 1] for j, k in enumerate(intervals)]
                candidates = scores[ends] + transitions[:, i]
                pointer[n], after[n] = ends[candidates.argmax()], candidates.max()
        scores = after + density[sees]
        pointers.append(pointer)
    best = int(scores.argmax())
    path = [best]
    for pointer in pointers[:0:-1]:
        path.append(int(pointer[path[-1]]))
    path.reverse()
    frames, positions = [], []
    seen = [sees[n] > 0 for n in path]
    for begin in range(len(path)):
        if seen[begin] and not (begin and seen[begin - 1]):
            end = next((f for f in range(begin, len(path)) if not seen[f]), len(path))
            frames.append(begin + int(activations[begin:end].max(axis=1).argmax()))
            positions.append(states[path[begin]][0] + 1)
    return frames, positions, float(scores[best])


@given(seed=st.integers(0, 10**6), length=st.integers(1, 70), beats=st.sampled_from([1, 2, 3]))
@settings(max_examples=20, deadline=None)
def test_the_path_is_the_best_of_all(seed, length, beats):
    activations = make_noise(seed, length)
    frames, positions, log_probability = decode_plainly(activations, beats, FEW)
    found = decode_bars(activations, beats, frames_per_s=FEW)
    assert found.log_probability == pytest.approx(log_probability, rel=ROUNDING)
    assert (found.frames.tolist(), found.positions.tolist()) == (frames, positions)
    assert found.beats_per_bar == beats


@pytest.mark.parametrize("beats", [2, 3, 4])
@pytest.mark.parametrize("interval", [15, 20, 27])  # of slower ones, half is a tempo, too
@pytest.mark.parametrize("first", [0, 7])
def test_steady_bars_are_found_with_their_metre(beats, interval, first):
    frames = list(range(first, 40 * interval, interval))
    positions = [1 + n % beats for n in range(len(frames))]
    activations = make_activations(frames, positions, frames[-1] + 1)
    found = [decode_bars(activations, n, frames_per_s=RATE) for n in (2, 3, 4)]
    best = max(found, key=lambda bars: bars.log_probability)
    assert best.beats_per_bar == beats
    assert best.frames.tolist() == frames
    assert best.positions.tolist() == positions


def test_an_upbeat_has_its_position():
    frames = list(range(5, 1500, 25))
    positions = [1 + (n + 2) % 3 for n in range(len(frames))]
    found = decode_bars(make_activations(frames, positions, 1500), 3, frames_per_s=RATE)
    assert found.positions.tolist() == positions


def test_a_tempo_that_moves_is_followed():
    frames = [0]
    while frames[-1] < 2000:
        frames.append(frames[-1] + round(20 + frames[-1] / 100))
    positions = [1 + n % 4 for n in range(len(frames))]
    found = decode_bars(make_activations(frames, positions, frames[-1] + 1), 4, frames_per_s=RATE)
    assert found.frames.tolist() == frames


def test_a_beat_that_nobody_hears_is_filled_in():
    frames = list(range(0, 1500, 25))
    positions = [1 + n % 4 for n in range(len(frames))]
    activations = make_activations(frames, positions, 1500)
    activations[frames[20]] = 0.001
    found = decode_bars(activations, 4, frames_per_s=RATE)
    assert found.positions.tolist() == positions
    assert abs(found.frames[20] - frames[20]) <= 2


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_activations_that_are_certain_of_the_impossible_are_decoded(value):
    found = decode_bars(np.full((300, 2), value, np.float32), 4, frames_per_s=RATE)
    assert np.isfinite(found.log_probability)
    assert (np.diff(found.frames) > 0).all()


@pytest.mark.parametrize("beats", [1, 3])
@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 1.0])
def test_of_equal_paths_the_first_is_taken(value, beats):
    activations = np.full((50, 2), value, np.float32)
    frames, positions, _ = decode_plainly(activations, beats, FEW)
    found = decode_bars(activations, beats, frames_per_s=FEW)
    assert (found.frames.tolist(), found.positions.tolist()) == (frames, positions)


def test_activations_that_are_no_numbers_have_no_probability():
    found = decode_bars(np.full((300, 2), np.nan, np.float32), 4, frames_per_s=RATE)
    assert not np.isfinite(found.log_probability)
    assert ((found.frames >= 0) & (found.frames < 300)).all()


@given(seed=st.integers(0, 10**6), length=st.integers(1, 600), beats=st.sampled_from([2, 3, 4]))
@settings(max_examples=50, deadline=None)
def test_beats_ascend_count_up_and_keep_to_the_tempi(seed, length, beats):
    found = decode_bars(make_noise(seed, length), beats, frames_per_s=RATE)
    assert ((found.frames >= 0) & (found.frames < length)).all()
    slack = -(-list_intervals(RATE)[-1] // BEAT_LAMBDA)
    intervals = np.diff(found.frames)
    assert (intervals > list_intervals(RATE)[0] - slack).all()
    assert (intervals < list_intervals(RATE)[-1] + slack).all()
    assert (np.diff(found.positions) % beats == 1 % beats).all()


def test_each_interval_leads_to_others_with_the_probability_one():
    transitions = np.exp(build_transitions(list_intervals(RATE)))
    np.testing.assert_allclose(transitions.sum(axis=1), 1.0)
    assert (transitions.argmax(axis=1) == np.arange(len(transitions))).all()
    assert (list_intervals(RATE)[0], list_intervals(RATE)[-1]) == (14, 55)
