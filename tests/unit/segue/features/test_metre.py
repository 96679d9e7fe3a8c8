"""Beats, downbeats and metre, with a network that is made by hand; the real one is downloaded in
``tests/integration/test_models.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from segue.errors import ConfigurationError, TooLarge
from segue.features.bar_pointer import Bars
from segue.features.metre import Downbeats, _join_bars
from segue.media.audio import Audio
from segue.testing import sound
from segue_support.beatnet_by_hand import RATE_HZ, make_bars, make_beatnet
from segue_support.onnx_models import make_scale

pytestmark = pytest.mark.slow

STEP_S = 0.02  # between frames


@pytest.fixture(scope="module")
def downbeats(tmp_path_factory) -> Downbeats:
    job = Downbeats(model=make_beatnet(tmp_path_factory.mktemp("beatnet")), join_pairs=False)
    job.setup()
    return job


@pytest.mark.parametrize("upbeat", [0, 1, 2, 3])
def test_two_bars_of_two_are_one_of_four_whose_first_beat_is_likelier(upbeat):
    frames = np.arange(0, 400, 20)
    positions = (np.arange(20) - upbeat) % 2 + 1
    expected = (np.arange(20) - upbeat) % 4 + 1
    activations = np.full((400, 2), 0.1, np.float32)
    activations[frames, 1] = np.where(expected == 1, 0.7, 0.6)
    joined = _join_bars(Bars(frames, positions, 2, -1.0), activations)
    assert joined.beats_per_bar == 4
    assert joined.positions.tolist() == expected.tolist()


@pytest.mark.parametrize("join_pairs", [True, False])
def test_bars_of_two_are_joined_unless_the_job_is_told_not_to(tmp_path, join_pairs):
    job = Downbeats(model=make_beatnet(tmp_path), join_pairs=join_pairs)
    job.setup()
    audio, _, positions = make_bars(125.0, 2, 20.0, upbeat=1)
    found = job(audio)
    assert found["beats_per_bar"] == (4 if join_pairs else 2)
    assert [(p - 1) % 2 + 1 for p in found["beat_positions"]] == positions
    assert set(found["beat_positions"]) == ({1, 2, 3, 4} if join_pairs else {1, 2})


@pytest.mark.parametrize("beats_per_bar", [2, 3, 4])
@pytest.mark.parametrize(("bpm", "upbeat"), [(112.0, 0), (125.0, 1), (140.0, 1)])
def test_bars_are_found_with_their_metre(downbeats, bpm, beats_per_bar, upbeat):
    audio, times_s, positions = make_bars(bpm, beats_per_bar, 20.0, upbeat=upbeat)
    found = downbeats(audio)
    assert found["beats_per_bar"] == beats_per_bar
    assert found["beat_positions"] == positions
    assert found["beat_times_s"] == pytest.approx(times_s, abs=1.5 * STEP_S)
    pairs = zip(found["beat_times_s"], positions, strict=True)
    assert found["downbeat_times_s"] == [t for t, p in pairs if p == 1]
    assert found["tempo_bpm"] == pytest.approx(bpm, rel=0.002)
    assert len(found["beat_confidences"]) == len(positions)
    assert min(found["beat_confidences"]) > 0.8
    assert found["confidence"] > 0.5


def test_what_is_heard_beside_the_beats_lowers_the_confidence(downbeats):
    audio, times_s, _ = make_bars(112.0, 4, 20.0)
    y = audio.y.copy()
    rng = np.random.default_rng(3)
    for time_s in times_s[2:]:  # a hiss at another place between any two beats
        at = round((time_s - rng.uniform(0.1, 0.4)) * RATE_HZ)
        y[at : at + 1000] += np.diff(rng.normal(0, 0.3, 1001)) * np.linspace(1, 0, 1000)
    unsure, sure = downbeats(Audio(y=y.astype(np.float32), sr=RATE_HZ)), downbeats(audio)
    assert unsure["confidence"] < sure["confidence"] - 0.2


def test_a_beat_that_is_missing_is_filled_in_without_confidence(downbeats):
    audio, times_s, positions = make_bars(120.0, 4, 20.0)
    y = audio.y.copy()
    at = round(times_s[18] * RATE_HZ)
    y[at - 2000 : at + 4000] = 0.0
    found = downbeats(Audio(y=y, sr=RATE_HZ))
    assert found["beat_positions"] == positions
    assert found["beat_times_s"][18] == pytest.approx(times_s[18], abs=2 * STEP_S)
    assert found["beat_confidences"][18] < 0.1


def test_silence_around_the_music_has_no_beats(downbeats):
    audio, times_s, positions = make_bars(120.0, 3, 10.0)
    y = np.pad(audio.y, 5 * RATE_HZ)
    found = downbeats(Audio(y=y, sr=RATE_HZ))
    assert found["beat_times_s"] == pytest.approx([t + 5 for t in times_s], abs=1.5 * STEP_S)
    assert found["beat_positions"] == positions


NONE = {
    "beat_times_s": [],
    "beat_positions": [],
    "beat_confidences": [],
    "downbeat_times_s": [],
    "beats_per_bar": None,
    "tempo_bpm": None,
    "confidence": 0.0,
    "reason": "no beat is heard",
}
NO_BEATS = {
    "silence": sound.silence(5.0, sr=RATE_HZ),
    "one sample": Audio(y=np.ones(1, np.float32), sr=RATE_HZ),
    "a constant": Audio(y=np.full(5 * RATE_HZ, 0.5, np.float32), sr=RATE_HZ),
    "noise": sound.noise(0, 10.0, sr=RATE_HZ),
    "a sine": sound.tone(440.0, 10.0, sr=RATE_HZ),
    "one click": sound.click_track(10.0, 4.0),
}


@pytest.mark.parametrize("audio", NO_BEATS.values(), ids=NO_BEATS)
def test_where_there_are_no_beats_there_is_no_metre(downbeats, audio):
    assert downbeats(audio) == NONE


def test_the_result_is_plain_and_the_same_each_time_and_of_all_channels(downbeats):
    audio, _, _ = make_bars(120.0, 4, 8.0)
    found = downbeats(audio)
    assert json.loads(json.dumps(found)) == found
    assert downbeats(audio) == found
    assert downbeats(Audio(y=np.stack([audio.y, audio.y]), sr=RATE_HZ)) == found


def test_another_rate_is_refused_with_the_remedy(downbeats):
    with pytest.raises(ConfigurationError, match=r"has 44100 Hz.*sample_rate_hz: 22050"):
        downbeats(sound.silence(1.0, sr=44100))


def test_another_model_is_refused(tmp_path):
    (tmp_path / "scale.onnx").write_bytes(make_scale(1.0))
    with pytest.raises(ConfigurationError, match=r"the inputs x, which .* name beatnet@1"):
        Downbeats(model=tmp_path / "scale.onnx").setup()


def test_audio_that_is_too_long_for_the_memory_is_refused_at_once(downbeats, bound_memory):
    bound_memory(0.25)
    hours = np.broadcast_to(np.float32(0.0), 6 * 3600 * RATE_HZ)
    with pytest.raises(TooLarge, match=r"downbeats of 6\.0 hours needs .* resources\.memory_gib"):
        downbeats(Audio(y=hours, sr=RATE_HZ))


THREADS = """
import os
from segue.features import metre
from segue.worker.preload import load_ahead
for name in metre.PRELOAD:
    load_ahead(name)
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_what_is_loaded_ahead_starts_no_thread():
    """A process with threads must not fork children."""
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = [sys.executable, "-c", THREADS]
    done = subprocess.run(run, env={**os.environ, **alone}, capture_output=True, check=True)
    assert (done.stdout.split(), done.stderr) == ([b"1"], b"")
