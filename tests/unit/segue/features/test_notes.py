"""Notes are those of tones, with a network that measures a few of them.

The real network is downloaded in ``tests/integration/test_melody_graph.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segue.errors import ConfigurationError, TooLarge
from segue.features.notes import (
    HOP_LENGTH,
    INPUT,
    KEYS,
    LOWEST_MIDI,
    ONSETS,
    SOUNDING,
    WINDOW_FRAMES,
    WINDOW_SAMPLES,
    Notes,
    Score,
)
from segue.media import memory
from segue.media.audio import Audio
from segue.models.onnx_writer import OnnxGraph
from segue.testing import sound
from segue_support.onnx_models import make_scale

SR = 22_050
HOP_S = HOP_LENGTH / SR
FILTER = 2_048
HEARD_LEVEL = 0.1  # of a tone that sounds with a probability of 0.8
MIDI = (72, 76, 79, 84)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A network that hears four keys: how loud they are, and by how much they become louder."""
    graph = OnnxGraph("tones")
    samples = graph.add_input(INPUT, ["windows", WINDOW_SAMPLES, 1])
    t = np.arange(FILTER) / SR
    window = np.hanning(FILTER) / (np.hanning(FILTER).sum() * HEARD_LEVEL / 1.6)
    angles = [2 * np.pi * midi_to_hz(midi) * t for midi in MIDI]
    filters = np.array([window * wave(a) for wave in (np.sin, np.cos) for a in angles])
    pads = [FILTER // 2, FILTER - FILTER // 2 + HOP_LENGTH]
    heard = graph.add_node(
        "Conv",
        graph.add_node("Transpose", samples, perm=[0, 2, 1]),
        graph.add_weight(filters[:, np.newaxis].astype(np.float32)),
        strides=[HOP_LENGTH],
        pads=pads,
    )
    squares = graph.add_node("Mul", heard, heard)
    sums = np.tile(np.eye(len(MIDI), dtype=np.float32), 2)
    loud = graph.add_node(
        "Sqrt", graph.add_node("Conv", squares, graph.add_weight(sums[..., np.newaxis]))
    )
    rises = np.zeros((len(MIDI), len(MIDI), 3), np.float32)
    for number in range(len(MIDI)):
        rises[number, number] = (-4, 4, 0)
    risen = graph.add_node("Conv", loud, graph.add_weight(rises), pads=[1, 1])
    keys = np.zeros((len(MIDI), KEYS), np.float32)
    keys[np.arange(len(MIDI)), np.array(MIDI) - LOWEST_MIDI] = 1
    for name, value in ((SOUNDING, loud), (ONSETS, risen)):
        frames = graph.add_node("Transpose", value, perm=[0, 2, 1])
        placed = graph.add_node("MatMul", frames, graph.add_weight(keys))
        bounds = [graph.add_weight(np.array(b, np.float32)) for b in (0, 1)]
        clipped = graph.add_node("Clip", placed, *bounds)
        cut = graph.add_node(
            "Slice",
            clipped,
            *(graph.add_weight(np.array([b])) for b in (0, WINDOW_FRAMES, 1)),
        )
        graph.add_output(name, cut, ["windows", WINDOW_FRAMES, KEYS])
    path = tmp_path_factory.mktemp("model") / "tones.onnx"
    path.write_bytes(graph.encode())
    return path


def midi_to_hz(midi: int) -> float:
    return 440.0 * 2 ** ((midi - 69) / 12)


def make(model: Path, **params) -> Notes:
    job = Notes(model=model, **params)
    job.setup()
    return job


def play(*notes: tuple[float, float, int], duration_s: float) -> Audio:
    """Return tones from a time to a time."""
    t = np.arange(round(duration_s * SR)) / SR
    y = np.zeros(len(t))
    for start_s, end_s, midi in notes:
        inside = (t >= start_s) & (t < end_s)
        y[inside] += HEARD_LEVEL * np.sin(2 * np.pi * midi_to_hz(midi) * t[inside])
    return Audio(y=y.astype(np.float32), sr=SR)


def check(found: dict, expected: list[tuple[float, float, int]], *, end_s: float) -> None:
    assert [note["midi"] for note in found["notes"]] == [midi for _, _, midi in expected]
    for note, (start, end, _) in zip(found["notes"], expected, strict=True):
        assert note["start_s"] == pytest.approx(start, abs=2 * HOP_S)
        assert note["end_s"] == pytest.approx(end, abs=end_s)
    assert found["reason"] is None


FADE_S = FILTER / SR / 2  # as long as the filters of the network still hear a tone


def test_the_notes_of_an_arpeggio_and_of_a_chord_are_found(model):
    arpeggio = [(0.5 + 0.3 * n, 0.75 + 0.3 * n, MIDI[n % 4]) for n in range(20)]
    chord = [(7.0, 8.0, midi) for midi in MIDI]
    found = make(model)(play(*arpeggio, *chord, duration_s=9.0))
    assert min(note["confidence"] for note in found["notes"]) > 0.5
    found["notes"].sort(key=lambda note: (round(note["start_s"], 1), note["midi"]))
    check(found, arpeggio + chord, end_s=FADE_S)


def test_a_note_that_is_struck_again_is_two(model):
    expected = [(0.5, 1.0, 72), (1.05, 2.0, 72)]
    found = make(model)(play(*expected, duration_s=3.0))
    check(found, expected, end_s=0.05 + HOP_S)  # the first may last until the second begins


def test_a_note_may_begin_and_end_with_the_file(model):
    audio = play((0.0, 5.0, 79), duration_s=5.0)
    (note,) = make(model)(audio)["notes"]
    assert note["start_s"] <= 2 * HOP_S
    assert note["end_s"] == pytest.approx(5.0, abs=2 * HOP_S)
    assert note["end_s"] <= 5.0


@pytest.mark.parametrize("offset_s", np.arange(0.0, 2.0, 0.31))
def test_windows_do_not_show(model, offset_s):
    notes = [(0.3 + 0.25 * n, 0.5 + 0.25 * n, MIDI[n % 4]) for n in range(16)]
    shifted = [(start + offset_s, end + offset_s, midi) for start, end, midi in notes]
    check(make(model)(play(*shifted, duration_s=7.0)), shifted, end_s=FADE_S)


def test_short_notes_are_left_out(model):
    audio = play((0.5, 0.6, 72), (1.0, 2.0, 76), duration_s=3.0)
    assert len(make(model)(audio)["notes"]) == 2
    (note,) = make(model, min_duration_s=0.4)(audio)["notes"]
    assert note["midi"] == 76


SILENCES = {
    "silence": np.zeros(3 * SR),
    "one sample": np.ones(1),
    "a constant": np.full(3 * SR, 0.5),
    "noise at -94 dBFS": np.random.default_rng(0).normal(0, 2e-5, 3 * SR),
}


@pytest.mark.parametrize("y", SILENCES.values(), ids=SILENCES)
def test_without_sound_there_are_no_notes(model, y):
    found = make(model)(Audio(y=y.astype(np.float32), sr=SR))
    assert found == {"notes": [], "reason": "no note is heard"}


def test_silence_between_notes_does_not_move_them(model):
    expected = [(1.0, 2.0, 72), (12.0, 13.0, 84)]
    check(make(model)(play(*expected, duration_s=14.0)), expected, end_s=FADE_S)


def test_the_result_is_plain_and_the_same_each_time_and_of_all_channels(model):
    audio = play((0.5, 1.0, 72), (0.7, 2.0, 76), duration_s=3.0)
    found = make(model)(audio)
    assert json.loads(json.dumps(found)) == found
    assert make(model)(audio) == found
    assert make(model)(Audio(y=np.tile(audio.y, (8, 1)), sr=SR)) == found


def rate(*runs: tuple[int, int, int, float], frames: int = 200) -> np.ndarray:
    """Return keys that sound from a frame to a frame."""
    sounding = np.zeros((KEYS, frames), np.uint8)
    for key, first, end, probability in runs:
        sounding[key, first:end] = round(255 * probability)
    return sounding


def list_others(sounding: np.ndarray, min_frames: int = 20) -> list[tuple[int, int, int]]:
    score = Score(sounding, level=77)
    score.find_others(min_frames)
    return [(first, key, end) for first, key, end, _ in score.notes]


def test_a_note_lasts_over_short_gaps_and_not_over_long_ones():
    for gap, expected in ((10, 80), (11, 50)):
        score = Score(rate((40, 10, 50, 0.9), (40, 50 + gap, 80, 0.9)), level=77)
        score.follow_onset(10, 40, min_frames=5)
        assert [(first, key, end) for first, key, end, _ in score.notes] == [(10, 40, expected)]


def test_a_long_note_is_followed_to_its_end():
    score = Score(rate((40, 10, 9_000, 0.9), frames=10_000), level=77)
    score.follow_onset(10, 40, min_frames=5)
    assert score.notes == [(10, 40, 9_000, 0.9)]


def test_a_note_takes_what_sounds_a_semitone_beside_it():
    score = Score(rate((40, 10, 80, 0.9), (41, 10, 80, 0.5), (39, 10, 80, 0.5)), level=77)
    score.follow_onset(10, 40, min_frames=5)
    score.find_others(5)
    assert score.notes == [(10, 40, 80, 0.9)]


def test_the_lowest_and_the_highest_key_have_one_neighbour():
    found = list_others(rate((0, 10, 80, 0.9), (87, 10, 80, 0.8), (1, 10, 80, 0.5)))
    assert found == [(10, 0, 80), (10, 87, 80)]


def test_what_sounds_for_long_without_an_onset_is_a_note():
    assert list_others(rate((40, 10, 30, 0.4), (50, 10, 29, 0.9))) == [(10, 40, 30)]


def test_the_most_probable_note_without_an_onset_comes_first_and_leaves_the_rest():
    """The key beside it sounds before and after, with a gap that was taken."""
    found = list_others(rate((40, 60, 100, 0.9), (41, 10, 150, 0.5)))
    assert found == [(60, 40, 100), (10, 41, 60), (100, 41, 150)]


def test_audio_at_another_rate_is_refused(model):
    with pytest.raises(ConfigurationError, match="44100 Hz: it must be at 22050"):
        make(model)(sound.silence(1.0))


@pytest.mark.parametrize(
    "params",
    [
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"onset_threshold": 0.0},
        {"onset_threshold": 1.5},
        {"min_duration_s": -0.1},
    ],
)
def test_parameters_out_of_range_are_refused(params):
    with pytest.raises(ConfigurationError, match="notes: "):
        Notes(model=Path("unused"), **params)


def test_another_model_is_refused(tmp_path):
    (tmp_path / "scale.onnx").write_bytes(make_scale(1.0))
    with pytest.raises(ConfigurationError, match=r"the inputs x, which .* name basic_pitch@1"):
        make(tmp_path / "scale.onnx")


def test_a_bound_on_memory_refuses_a_long_file(model, monkeypatch):
    job = make(model)
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (2**20, 2**20))
    with pytest.raises(TooLarge, match=r"notes of 5\.0 s needs up to"):
        job(play(duration_s=5.0))
