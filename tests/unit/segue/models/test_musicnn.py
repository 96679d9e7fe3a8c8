"""The converted musicnn computes what its layers say, computed here with numpy alone."""

from __future__ import annotations

import numpy as np
import pytest

from segue.models import open_onnx
from segue.models.musicnn import BANDS, EPSILON, convert
from segue.models.tensor_bundle import read_checkpoint
from segue_support.checkpoints import write_checkpoint

ROUNDING = 2e-5  # of sums of a few thousand products of 32-bit floats
FRAMES = 40
# Frames and bands of the filters in the front; the last number of each is how many there are.
FRONT = ((7, 38, 3), (7, 67, 2), (16, 1, 2), (8, 1, 2), (5, 1, 2))
CHANNELS = sum(filters for *_, filters in FRONT)
MIDDLE = 4


def name(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def make_weights() -> dict[str, np.ndarray]:
    """Return random weights of a small musicnn."""
    rng = np.random.default_rng(1)
    shapes = [(frames, bands, 1, filters) for frames, bands, filters in FRONT]
    shapes += [(7, channels, 1, MIDDLE) for channels in (CHANNELS, MIDDLE, MIDDLE)]
    pooled = 2 * (CHANNELS + 3 * MIDDLE)
    weights = {}
    for number, shape in enumerate(shapes):
        weights[name("conv2d", number) + "/kernel"] = rng.normal(0, 0.1, shape)
        weights[name("conv2d", number) + "/bias"] = rng.normal(0, 0.1, shape[-1])
    sizes = [1, *(filters for *_, filters in FRONT), *[MIDDLE] * 3, pooled, 200]
    for number, size in enumerate(sizes):
        layer = name("batch_normalization", number)
        for part in ("gamma", "beta", "moving_mean"):
            weights[f"{layer}/{part}"] = rng.normal(0.5, 0.5, size)
        weights[f"{layer}/moving_variance"] = rng.uniform(0.5, 2.0, size)
    for number, shape in enumerate([(pooled, 200), (200, 50)]):
        weights[name("dense", number) + "/kernel"] = rng.normal(0, 0.1, shape)
        weights[name("dense", number) + "/bias"] = rng.normal(0, 0.1, shape[-1])
    return {key: value.astype(np.float32) for key, value in weights.items()}


def compute(weights: dict[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the tags and the embedding of one patch [frames, 96] in 64-bit floats."""
    w = {key: value.astype(float) for key, value in weights.items()}
    used = {"batch_normalization": 0, "conv2d": 0, "dense": 0}

    def take(kind: str) -> str:
        used[kind] += 1
        return name(kind, used[kind] - 1)

    def normalize(value: np.ndarray) -> np.ndarray:
        layer = take("batch_normalization")
        scaled = (value - w[f"{layer}/moving_mean"]) / np.sqrt(
            w[f"{layer}/moving_variance"] + EPSILON
        )
        return scaled * w[f"{layer}/gamma"] + w[f"{layer}/beta"]

    def convolve(image: np.ndarray) -> np.ndarray:
        """[frame, band] to [frame, band, filter]: as long, and narrower by the filter's width."""
        layer = take("conv2d")
        kernel = w[f"{layer}/kernel"][:, :, 0]
        frames, bands = kernel.shape[:2]
        before = (frames - 1) // 2
        padded = np.pad(image, ((before, frames - 1 - before), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (frames, bands))
        summed = np.einsum("tfab,abc->tfc", windows, kernel) + w[f"{layer}/bias"]
        return np.maximum(summed, 0)

    def connect(value: np.ndarray) -> np.ndarray:
        layer = take("dense")
        return value @ w[f"{layer}/kernel"] + w[f"{layer}/bias"]

    spectrum = normalize(x[..., None])[..., 0]
    front = np.concatenate([normalize(convolve(spectrum)).max(axis=1) for _ in FRONT], axis=1)
    first = normalize(convolve(front))[:, 0]
    second = normalize(convolve(first))[:, 0] + first
    third = normalize(convolve(second))[:, 0] + second
    layers = np.concatenate([front, first, second, third], axis=1)
    pooled = np.stack([layers.max(axis=0), layers.mean(axis=0)], axis=1).reshape(-1)
    embedding = normalize(np.maximum(connect(normalize(pooled)), 0))
    return 1 / (1 + np.exp(-connect(embedding))), embedding


def test_a_checkpoint_is_read_as_it_was_written(tmp_path):
    weights = make_weights()
    write_checkpoint(tmp_path, {**weights, "global_step": np.array([3], np.int32)})
    found = read_checkpoint(tmp_path / ".index")
    assert found.keys() == weights.keys()
    for key, value in weights.items():
        np.testing.assert_array_equal(found[key], value)


def test_the_model_computes_what_its_layers_say(tmp_path):
    weights = make_weights()
    write_checkpoint(tmp_path, weights)
    convert(tmp_path, tmp_path / "musicnn.onnx")
    session = open_onnx(tmp_path / "musicnn.onnx")
    x = np.random.default_rng(2).uniform(0, 4, (3, FRAMES, BANDS)).astype(np.float32)
    tags, embedding = session.run(["tags", "embedding"], {"x": x})
    for number in range(len(x)):
        expected = compute(weights, x[number].astype(float))
        np.testing.assert_allclose(tags[number], expected[0], atol=ROUNDING)
        np.testing.assert_allclose(embedding[number], expected[1], atol=20 * ROUNDING)


def test_the_same_weights_give_the_same_bytes(tmp_path):
    write_checkpoint(tmp_path, make_weights())
    for target in ("a.onnx", "b.onnx"):
        convert(tmp_path, tmp_path / target)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_what_is_no_checkpoint_or_a_compressed_one_is_refused(tmp_path):
    write_checkpoint(tmp_path, make_weights(), compression=1)
    with pytest.raises(ValueError, match="is compressed"):
        read_checkpoint(tmp_path / ".index")
    (tmp_path / ".index").write_bytes(b"no table" * 100)
    with pytest.raises(ValueError, match="is not the index of a checkpoint"):
        read_checkpoint(tmp_path / ".index")
