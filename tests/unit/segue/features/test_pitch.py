"""Contours and their numbers are those of tones, with a network that counts zero crossings.

The real network is downloaded in ``tests/integration/test_melody_graph.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segue.codec import encode
from segue.errors import ConfigurationError, TooLarge
from segue.features import pitch as module
from segue.features.pitch import HOP_LENGTH, HOP_S, Pitch
from segue.media import memory
from segue.media.audio import Audio
from segue.models.onnx_writer import OnnxGraph
from segue.testing import sound
from segue_support.onnx_models import make_scale

SR = 16_000
NONE = {
    "median_hz": None,
    "p5_hz": None,
    "p95_hz": None,
    "range_semitones": None,
    "voiced_share": 0.0,
    "confidence": None,
    "hop_s": HOP_S,
    "reason": "no pitch is heard",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A network whose pitch is the rate of zero crossings; it is sure of what is in range."""
    graph = OnnxGraph("crossings")
    audio = graph.add_input("audio", [1, "samples"])
    fmin, fmax = graph.add_input("fmin", []), graph.add_input("fmax", [])
    signs = graph.add_node("Unsqueeze", graph.add_node("Sign", audio), weigh(graph, [1], np.int64))
    steps = graph.add_node("Conv", signs, weigh(graph, [[[-1, 1]]]), pads=[1, 0])
    counts = graph.add_node(
        "AveragePool",
        graph.add_node("Abs", steps),
        kernel_shape=[HOP_LENGTH],
        strides=[HOP_LENGTH],
    )
    frames = graph.add_node("Squeeze", counts, weigh(graph, [1], np.int64))
    pitch = graph.add_node("Mul", frames, weigh(graph, SR / 4))
    above = graph.add_node("Sub", pitch, fmin)
    below = graph.add_node("Sub", fmax, pitch)
    inside = graph.add_node("Sign", graph.add_node("Min", above, below))
    sure = graph.add_node("Mul", graph.add_node("Relu", inside), weigh(graph, 0.9))
    graph.add_output("pitch", pitch, [1, "frames"])
    graph.add_output("confidence", sure, [1, "frames"])
    path = tmp_path_factory.mktemp("model") / "crossings.onnx"
    path.write_bytes(graph.encode())
    return path


def weigh(graph: OnnxGraph, values, dtype=np.float32) -> str:
    return graph.add_weight(np.array(values, dtype))


def make(model: Path, **params) -> Pitch:
    job = Pitch(model=model, **params)
    job.setup()
    return job


def play(*parts: tuple[float, int], level: float = 0.1) -> Audio:
    """Return tones of some frames each, one after the other; 0 Hz is silence."""
    sounds = [
        level * np.sin(2 * np.pi * frequency_hz * (np.arange(frames * HOP_LENGTH) + 0.5) / SR)
        for frequency_hz, frames in parts
    ]
    return Audio(y=np.concatenate(sounds).astype(np.float32), sr=SR)


def test_the_contour_is_that_of_the_tones_and_null_between_them(model):
    found = make(model)(play((500, 40), (0, 10), (1000, 40), (6000, 10)))
    table = found["contour"]
    assert table.schema.names == ["f0_hz", "confidence"]
    assert table.schema.metadata == {b"hop_s": b"0.016"}
    f0_hz = table["f0_hz"].to_pylist()
    assert len(f0_hz) == len(table["confidence"]) == 100
    assert set(f0_hz[1:39]) == {500.0}
    assert set(f0_hz[41:50]) == {None}
    assert set(f0_hz[51:89]) == {1000.0}
    assert set(f0_hz[91:]) == {None}
    assert table["confidence"].to_pylist()[45] == 0
    assert table["confidence"].to_pylist()[10] == pytest.approx(0.9)


def test_the_numbers_are_those_of_the_pitched_frames(model):
    summary = make(model)(play((500, 30), (750, 60), (1000, 30), (0, 80)))["summary"]
    assert summary["median_hz"] == 750
    assert (summary["p5_hz"], summary["p95_hz"]) == (500, 1000)
    assert summary["range_semitones"] == 12
    assert summary["voiced_share"] == pytest.approx(0.6, abs=0.01)
    assert summary["confidence"] == 0.9
    assert summary["hop_s"] == HOP_S
    assert summary["reason"] is None


def test_a_pitch_outside_the_given_range_is_none(model):
    audio = play((500, 40), (1000, 40))
    low = make(model, max_hz=800.0)(audio)["summary"]
    assert (low["p5_hz"], low["p95_hz"], low["voiced_share"]) == (500, 500, 0.5)
    high = make(model, min_hz=800.0)(audio)["summary"]
    assert high["median_hz"] == 1000


def test_what_is_sure_enough_depends_on_the_threshold(model):
    audio = play((500, 40))
    assert make(model, threshold=0.89)(audio)["summary"]["voiced_share"] == 1
    assert make(model, threshold=0.91)(audio)["summary"] == NONE


def test_less_than_48_ms_is_no_pitch(model):
    found = make(model)(play((0, 10), (500, 2), (0, 10)))
    assert found["summary"] == NONE
    assert make(model)(play((0, 10), (500, 3), (0, 10)))["summary"]["median_hz"] == 500


@pytest.mark.parametrize("level", [3e-4, 1e-2, 50.0])
def test_what_is_found_does_not_depend_on_the_level(model, level):
    expected = make(model)(play((500, 40), (0, 20), (1000, 40)))
    found = make(model)(play((500, 40), (0, 20), (1000, 40), level=level))
    assert found["summary"] == expected["summary"]
    assert found["contour"].equals(expected["contour"])


@pytest.mark.parametrize(
    "y", [np.zeros(SR), np.zeros(300), np.full(SR, 1e-5), np.full(SR, 0.5)], ids=str
)
def test_without_sound_there_is_no_pitch(model, y):
    found = make(model)(Audio(y=y.astype(np.float32), sr=SR))
    assert found["summary"] == NONE
    assert found["contour"]["f0_hz"].null_count == max(1, len(y) // HOP_LENGTH)


def test_noise_has_no_pitch(model):
    assert make(model)(sound.noise(0, 5.0, sr=SR))["summary"] == NONE


def test_several_channels_are_averaged(model):
    audio = play((500, 40), (0, 10), (750, 40))
    eight = Audio(y=np.tile(audio.y, (8, 1)), sr=SR)
    assert make(model)(eight)["contour"].equals(make(model)(audio)["contour"])


def test_windows_do_not_show(model, monkeypatch):
    audio = play((500, 37), (0, 11), (750, 53), (0, 7), (1000, 91))
    whole = make(model)(audio)
    for frames in (17, 40, 64):
        monkeypatch.setattr(module, "WINDOW_FRAMES", frames)
        found = make(model)(audio)
        assert found["summary"] == whole["summary"]
        assert found["contour"].equals(whole["contour"])


def test_both_outputs_can_be_stored_and_are_the_same_each_time(model):
    first, second = (make(model)(play((500, 40), (0, 20))) for _ in range(2))
    assert json.loads(encode("application/json", first["summary"]).data) == first["summary"]
    kind = "application/vnd.apache.parquet"
    assert encode(kind, first["contour"]).data == encode(kind, second["contour"]).data
    assert encode(kind, first["contour"]).value.equals(first["contour"])


def test_audio_at_another_rate_is_refused(model):
    with pytest.raises(ConfigurationError, match="22050 Hz: it must be at 16000"):
        make(model)(sound.silence(1.0, sr=22_050))


@pytest.mark.parametrize(
    "params",
    [
        {"min_hz": 40.0},
        {"max_hz": 3000.0},
        {"min_hz": 440.0, "max_hz": 450.0},
        {"min_hz": 500.0, "max_hz": 100.0},
        {"threshold": 0.0},
        {"threshold": 1.0},
    ],
)
def test_parameters_out_of_range_are_refused(params):
    with pytest.raises(ConfigurationError, match="pitch: "):
        Pitch(model=Path("unused"), **params)


def test_another_model_is_refused(tmp_path):
    (tmp_path / "scale.onnx").write_bytes(make_scale(1.0))
    with pytest.raises(ConfigurationError, match=r"the inputs x, which .* name swift_f0@1"):
        make(tmp_path / "scale.onnx")


def test_a_bound_on_memory_refuses_a_long_file(model, monkeypatch):
    job = make(model)
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (2**20, 2**20))
    with pytest.raises(TooLarge, match=r"pitch of 1\.6 s needs up to"):
        job(play((500, 100)))


THREADS = """
import os
from segue.features import notes, pitch
from segue.worker.preload import load_ahead
for name in (*notes.PRELOAD, *pitch.PRELOAD):
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
