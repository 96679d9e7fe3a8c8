"""The converted BeatNet computes what its layers say, computed here with numpy alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segue.models import open_onnx
from segue.models.beatnet import FEATURES, FILES, LAYERS, SHAPES, STATE, UNITS, convert
from segue_support.torch_archives import write_archive

ROUNDING = 1e-6  # of probabilities, in 32-bit floats
FRAMES = 60


def make_weights(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32)
        for name, shape in SHAPES.items()
    }


NETWORKS = [make_weights(seed) for seed in range(len(FILES))]


def write_folder(folder: Path, networks: list[dict[str, np.ndarray]]) -> Path:
    folder.mkdir()
    for name, weights in zip(FILES, networks, strict=True):
        write_archive(folder / name, weights)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_folder(tmp_path / "weights", NETWORKS)


@pytest.fixture
def session(folder, tmp_path):
    convert(folder, tmp_path / "beatnet.onnx")
    return open_onnx(tmp_path / "beatnet.onnx")


def squash(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def compute(weights: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """Compute the probabilities [frames, 3] of one network in 64-bit floats."""
    w = {key: value.astype(float) for key, value in weights.items()}
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(float), 10, axis=1)
    convolved = np.einsum("tik,ok->toi", windows, w["conv1.weight"][:, 0])
    convolved = np.maximum(convolved + w["conv1.bias"][:, np.newaxis], 0)[..., :262]
    pooled = convolved.reshape(len(x), 2, 131, 2).max(axis=3).reshape(len(x), -1)
    sequence = pooled @ w["linear0.weight"].T + w["linear0.bias"]
    for layer in range(LAYERS):
        h = c = np.zeros(UNITS)
        units = []
        for frame in sequence:
            gates = w[f"lstm.weight_ih_l{layer}"] @ frame + w[f"lstm.bias_ih_l{layer}"]
            gates += w[f"lstm.weight_hh_l{layer}"] @ h + w[f"lstm.bias_hh_l{layer}"]
            enter, forget, cell, leave = np.split(gates, 4)
            c = squash(forget) * c + squash(enter) * np.tanh(cell)
            h = squash(leave) * np.tanh(c)
            units.append(h)
        sequence = np.array(units)
    likely = np.exp(sequence @ w["linear.weight"].T + w["linear.bias"])
    return likely / likely.sum(axis=1, keepdims=True)


def make_input() -> np.ndarray:
    return np.random.default_rng(9).uniform(0, 2, (FRAMES, FEATURES)).astype(np.float32)


def test_the_model_is_the_mean_of_what_the_three_networks_say(session):
    x, zeros = make_input(), np.zeros(STATE, np.float32)
    (found,) = session.run(["activations"], {"x": x, "h": zeros, "c": zeros})
    each = [compute(weights, x) for weights in NETWORKS]
    assert np.ptp(each, axis=0).max() > 0.01  # they differ
    np.testing.assert_allclose(found, np.mean(each, axis=0), atol=ROUNDING)


@pytest.mark.parametrize("size", [1, 7, 32])
def test_a_recording_in_parts_gives_what_it_gives_whole(session, size):
    x, h = make_input(), np.zeros(STATE, np.float32)
    c = h
    (whole,) = session.run(["activations"], {"x": x, "h": h, "c": c})
    parts = []
    for at in range(0, FRAMES, size):
        part, h, c = session.run(None, {"x": x[at : at + size], "h": h, "c": c})
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=ROUNDING)


def test_the_same_weights_give_the_same_bytes(folder, tmp_path):
    for target in ("a.onnx", "b.onnx"):
        convert(folder, tmp_path / target)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_weights_of_another_network_are_refused(tmp_path):
    wide = {**NETWORKS[1], "linear.bias": np.zeros(4, np.float32)}
    with pytest.raises(ValueError, match=r"model_2_weights\.pt is not BeatNet: .*'linear\.bias'"):
        convert(write_folder(tmp_path / "wide", [NETWORKS[0], wide, NETWORKS[2]]), tmp_path / "x")
    short = {name: array for name, array in NETWORKS[2].items() if name != "conv1.weight"}
    with pytest.raises(ValueError, match=r"model_3_weights\.pt is not BeatNet: .*'conv1\.weight'"):
        convert(write_folder(tmp_path / "short", [*NETWORKS[:2], short]), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_damaged_file_is_named(folder, tmp_path):
    path = folder / FILES[1]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model_2_weights\.pt is damaged"):
        convert(folder, tmp_path / "x")
