"""Recordings are split as tiny networks say, without seams, and add up to the input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segue.errors import ConfigurationError, TooLarge
from segue.features import separation as module
from segue.features.separation import HOP_LENGTH, LEVEL_DBFS, Separation
from segue.media import memory
from segue.media.audio import Audio
from segue.models.onnx_writer import OnnxGraph
from segue.models.spleeter import BINS, CHANNELS

SR = 44_100
LOW_HZ, HIGH_HZ, ABOVE_HZ = 500.0, 5_000.0, 15_000.0
SPLIT = 200  # the bin from which on the network of `split` claims all for the voice: 2.2 kHz
LEAKAGE = 1e-3  # of a tone, beside its bins
ROUNDING = 1e-6  # of sums of 32-bit floats
SHAPE: list[int | str] = ["batch", CHANNELS, "frames", BINS]


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Path:
    """Networks for which the voice is what is high."""
    graph = OnnxGraph("split")
    spectra = graph.add_input("spectra", SHAPE)
    nothing = graph.add_node("Mul", spectra, graph.add_weight(np.zeros(1, np.float32)))
    for stem, is_high in (("vocals", True), ("accompaniment", False)):
        claimed = ((np.arange(BINS) >= SPLIT) == is_high).astype(np.float32)
        graph.add_output(stem, graph.add_node("Add", nothing, graph.add_weight(claimed)), SHAPE)
    return write(graph, tmp_path_factory)


@pytest.fixture(scope="module")
def loud(tmp_path_factory) -> Path:
    """Networks for which the voice is what is loud: above a magnitude of 100."""
    graph = OnnxGraph("loud")
    spectra = graph.add_input("spectra", SHAPE)
    for stem, sign in (("vocals", 1), ("accompaniment", -1)):
        slope, bias = (graph.add_weight(np.full(1, sign * w, np.float32)) for w in (1, -100))
        value = graph.add_node("Add", graph.add_node("Mul", spectra, slope), bias)
        graph.add_output(stem, graph.add_node("Sigmoid", value), SHAPE)
    return write(graph, tmp_path_factory)


def write(graph: OnnxGraph, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "spleeter.onnx"
    path.write_bytes(graph.encode())
    return path


def separate(model: Path, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    job = Separation(model=model)
    job.setup()
    found = job(Audio(y=y.astype(np.float32), sr=SR))
    assert {name: stem.sr for name, stem in found.items()} == {"vocals": SR, "accompaniment": SR}
    vocals, rest = found["vocals"].y, found["accompaniment"].y
    assert vocals.shape == rest.shape == y.shape
    assert vocals.dtype == rest.dtype == np.float32
    return vocals, rest


def play(frequency_hz: float, duration_s: float = 2.0, level: float = 0.1) -> np.ndarray:
    """Return a tone whose channels differ."""
    t = np.arange(round(duration_s * SR)) / SR
    return level * np.stack(
        [np.sin(2 * np.pi * frequency_hz * t), np.cos(2 * np.pi * frequency_hz * t)]
    )


def make_noise(samples: int, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, (CHANNELS, samples))


def measure_rms(y: np.ndarray) -> float:
    return float(np.sqrt(np.square(y, dtype=float).mean()))


def test_each_stem_has_what_its_network_claims(split):
    t = np.arange(2 * SR) / SR
    low, high = (0.1 * np.sin(2 * np.pi * hz * t) for hz in (LOW_HZ, HIGH_HZ))
    vocals, rest = separate(split, np.stack([low + high, high]))
    middle = np.s_[:, SR // 2 : -SR // 2]
    np.testing.assert_allclose(vocals[middle], np.stack([high, high])[middle], atol=LEAKAGE)
    np.testing.assert_allclose(rest[middle], np.stack([low, 0 * low])[middle], atol=LEAKAGE)


def test_what_the_networks_do_not_see_is_shared_as_the_mean_of_the_rest(split):
    t = np.arange(2 * SR) / SR
    y = np.tile(0.1 * np.sin(2 * np.pi * ABOVE_HZ * t), (CHANNELS, 1))
    vocals, rest = separate(split, y)
    middle = np.s_[:, SR // 2 : -SR // 2]
    np.testing.assert_allclose(vocals[middle], (1 - SPLIT / BINS) * y[middle], atol=LEAKAGE)
    np.testing.assert_allclose(rest[middle], SPLIT / BINS * y[middle], atol=LEAKAGE)


@pytest.mark.parametrize("samples", [1, HOP_LENGTH - 1, HOP_LENGTH, HOP_LENGTH + 1, 3 * SR])
@pytest.mark.parametrize("level", [1e-4, 0.1, 100.0])
def test_the_stems_add_up_to_the_input(loud, samples, level):
    y = make_noise(samples, level)
    vocals, rest = separate(loud, y)
    np.testing.assert_allclose(vocals.astype(float) + rest, y, rtol=0, atol=10 * level * ROUNDING)


def test_windows_do_not_show(split, monkeypatch):
    y = make_noise(30 * HOP_LENGTH + 77)
    whole, _ = separate(split, y)
    assert measure_rms(whole) > 0.01
    for window, margin in ((16, 4), (12, 1), (8, 0)):
        monkeypatch.setattr(module, "WINDOW_FRAMES", window)
        monkeypatch.setattr(module, "MARGIN_FRAMES", margin)
        np.testing.assert_allclose(separate(split, y)[0], whole, atol=ROUNDING)


def test_a_window_is_decided_with_what_is_beside_it(tmp_path_factory, monkeypatch):
    """The voice of these networks is what is loud, and up to three frames before and after it."""
    graph = OnnxGraph("loud within 3 frames")
    spectra = graph.add_input("spectra", SHAPE)
    loudest = graph.add_node("MaxPool", spectra, kernel_shape=[7, 1], pads=[3, 0, 3, 0])
    for stem, sign in (("vocals", 1), ("accompaniment", -1)):
        bias = graph.add_weight(np.full(1, -sign, np.float32))
        value = loudest if sign > 0 else graph.add_node("Neg", loudest)
        graph.add_output(stem, graph.add_node("Sigmoid", graph.add_node("Add", value, bias)), SHAPE)
    model = write(graph, tmp_path_factory)
    hops = np.arange(60 * HOP_LENGTH) // HOP_LENGTH
    y = make_noise(60 * HOP_LENGTH) * np.where(hops % 16 < 2, 1.0, 1e-2)
    whole, _ = separate(model, y)
    monkeypatch.setattr(module, "WINDOW_FRAMES", 14)
    for margin, is_same in ((3, True), (0, False)):
        monkeypatch.setattr(module, "MARGIN_FRAMES", margin)
        assert np.allclose(separate(model, y)[0], whole, atol=ROUNDING) == is_same


def test_the_level_of_a_file_does_not_matter(loud):
    y = play(LOW_HZ) + make_noise(2 * SR, 1e-3)
    vocals, rest = separate(loud, y)
    assert measure_rms(vocals) > 0.03
    assert 1e-4 < measure_rms(rest) < 0.01
    for factor in (1e-2, 30.0):
        np.testing.assert_allclose(
            separate(loud, factor * y)[0], factor * vocals, rtol=0.01, atol=factor * 1e-5
        )


def test_the_networks_see_a_file_at_their_level(loud, monkeypatch):
    """Half as loud, a tone whose magnitude would be just above 100 is no voice."""
    peak = 100 / (module.N_FFT / 4)  # of a sine: a Hann window halves its sum
    monkeypatch.setattr(module, "LEVEL_DBFS", 20 * np.log10(peak / 2**0.5) + 1)
    tone = np.tile(np.sin(2 * np.pi * 100 * SR / module.N_FFT * np.arange(SR) / SR), (CHANNELS, 1))
    assert measure_rms(separate(loud, 0.3 * tone)[0]) > 0.1
    monkeypatch.setattr(module, "LEVEL_DBFS", 20 * np.log10(peak / 2**0.5) - 1)
    assert measure_rms(separate(loud, 0.3 * tone)[0]) < 0.01
    assert LEVEL_DBFS == -20.0


@pytest.mark.parametrize("samples", [1, SR])
def test_silence_is_silence_in_both(loud, samples):
    for stem in separate(loud, np.zeros((CHANNELS, samples))):
        assert not stem.any()


def test_the_same_input_gives_the_same_bits(split):
    y = make_noise(SR)
    first, second = (separate(split, y) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("shape", "sr", "what"),
    [
        ((CHANNELS, 100), 22_050, "2 channels at 22050 Hz"),
        ((100,), SR, "1 channels at 44100 Hz"),
        ((8, 100), SR, "8 channels at 44100 Hz"),
    ],
)
def test_another_rate_or_number_of_channels_is_refused(split, shape, sr, what):
    job = Separation(model=split)
    job.setup()
    with pytest.raises(ConfigurationError, match=f"{what}: it must have 2 at 44100"):
        job(Audio(y=np.zeros(shape, np.float32), sr=sr))


def test_a_bound_on_memory_refuses_a_long_file(split, monkeypatch):
    job = Separation(model=split)
    job.setup()
    monkeypatch.setattr(memory.resource, "getrlimit", lambda _: (2**20, 2**20))
    with pytest.raises(TooLarge, match=r"separation of 2\.0 s needs up to"):
        job(Audio(y=make_noise(2 * SR).astype(np.float32), sr=SR))


def test_it_says_how_far_it_has_come(split, page):
    separate(split, make_noise(3 * SR))
    assert page.read_report() == (1.0, "separating")
