"""Tags are the means of what a tiny network makes of mel energies, at any level."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest

from segue.errors import ConfigurationError, TooLarge
from segue.features.levels import find_gain
from segue.features.music_tags import EMBEDDING, HOP_LENGTH, LEVEL_DBFS, N_FFT, WINDOW_FRAMES, Tags
from segue.media import memory
from segue.media.audio import Audio
from segue.models.musicnn import BANDS, TAGS
from segue.models.onnx_writer import OnnxGraph

SR = 16_000
WINDOW = WINDOW_FRAMES * HOP_LENGTH
SHORTEST = WINDOW - HOP_LENGTH
ROUNDING = 1.1e-4  # of four decimals
RNG = np.random.default_rng(5)
TAG_WEIGHTS = RNG.normal(0, 0.2, (BANDS, len(TAGS))).astype(np.float32)
WEIGHTS = RNG.normal(0, 0.2, (BANDS, EMBEDDING)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A network that weighs the loudest frame of each band."""
    graph = OnnxGraph("loudest")
    x = graph.add_input("x", ["batch", WINDOW_FRAMES, BANDS])
    loudest = graph.add_node("ReduceMax", x, axes=[1], keepdims=0)
    value = graph.add_node("MatMul", loudest, graph.add_weight(TAG_WEIGHTS))
    graph.add_output("tags", graph.add_node("Sigmoid", value), ["batch", len(TAGS)])
    value = graph.add_node("MatMul", loudest, graph.add_weight(WEIGHTS))
    graph.add_output("embedding", value, ["batch", EMBEDDING])
    path = tmp_path_factory.mktemp("model") / "musicnn.onnx"
    path.write_bytes(graph.encode())
    return path


def tag(model: Path, y: np.ndarray) -> dict:
    job = Tags(model=model)
    job.setup()
    return job(Audio(y=y.astype(np.float32), sr=SR))


def make_music(samples: int) -> np.ndarray:
    """Return tones and noise that change."""
    t = np.arange(samples) / SR
    tone = np.sin(2 * np.pi * (200 + 150 * np.sin(t)) * t) * (1 + np.sin(3 * t))
    return 0.1 * tone + np.random.default_rng(0).normal(0, 0.02, samples)


def compute(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the means with librosa, from the spectrogram of the whole file."""
    gain = find_gain(Audio(y=y.astype(np.float32), sr=SR), LEVEL_DBFS)
    S = librosa.feature.melspectrogram(
        y=gain * y, sr=SR, n_fft=N_FFT, hop_length=HOP_LENGTH, n_mels=BANDS
    )
    x = np.log10(10_000 * S.T + 1)
    windows = len(x) // WINDOW_FRAMES
    loudest = x[: windows * WINDOW_FRAMES].reshape(windows, WINDOW_FRAMES, BANDS).max(axis=1)
    tags = 1 / (1 + np.exp(-loudest @ TAG_WEIGHTS))
    return tags.mean(axis=0), (loudest @ WEIGHTS).mean(axis=0)


@pytest.mark.parametrize("samples", [SHORTEST, WINDOW + 5, 9 * WINDOW + 20_000])
def test_tags_and_embedding_are_those_of_the_whole_spectrogram(model, samples):
    y = make_music(samples)
    found = tag(model, y)
    tags, embedding = compute(y)
    values = {each["name"]: each["value"] for each in found["tags"]}
    assert values.keys() == set(TAGS)
    np.testing.assert_allclose([values[name] for name in TAGS], tags, atol=ROUNDING)
    np.testing.assert_allclose(found["embedding"], embedding, atol=ROUNDING)
    assert found["reason"] is None


def test_the_most_fitting_tag_is_first(model):
    values = [each["value"] for each in tag(model, make_music(WINDOW))["tags"]]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]


def test_a_rest_that_is_shorter_than_a_window_is_not_heard(model):
    y = np.concatenate([make_music(2 * WINDOW), np.zeros(WINDOW // 2)])
    click = np.zeros(len(y))
    click[-100] = 0.5
    assert tag(model, y + click) == tag(model, y)


@pytest.mark.parametrize("factor", [1e-2, 100.0])
def test_the_level_of_a_file_does_not_matter(model, factor):
    y = make_music(2 * WINDOW)
    usual, other = (tag(model, each)["embedding"] for each in (y, factor * y))
    np.testing.assert_allclose(usual, other, atol=ROUNDING)


def test_channels_are_averaged(model):
    y = make_music(WINDOW)
    assert tag(model, np.stack([y, y])) == tag(model, y)
    eight = tag(model, np.tile(y, (8, 1)))["embedding"]
    np.testing.assert_allclose(eight, tag(model, y)["embedding"], atol=ROUNDING)


@pytest.mark.parametrize("samples", [1, SR, SHORTEST - 1])
def test_less_than_a_window_is_a_reason(model, samples):
    expected = {"tags": None, "embedding": None, "reason": "the file is shorter than 2.976 s"}
    assert tag(model, make_music(samples)) == expected


def test_silence_is_a_reason(model):
    for y in (np.zeros(5 * SR), np.full(5 * SR, 1e-5)):
        assert tag(model, y) == {"tags": None, "embedding": None, "reason": "the file is silent"}


def test_audio_at_another_rate_is_refused(model):
    job = Tags(model=model)
    with pytest.raises(ConfigurationError, match="44100 Hz: it must be at 16000"):
        job(Audio(y=np.zeros(44_100, np.float32), sr=44_100))


def test_a_bound_on_memory_refuses_a_file(model, monkeypatch):
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (2**20, 2**20))
    with pytest.raises(TooLarge, match=r"tags of 5\.0 s needs up to"):
        tag(model, np.ones(5 * SR))
