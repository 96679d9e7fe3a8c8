"""The converted Spleeter computes what its layers say, computed here with numpy alone."""

from __future__ import annotations

import numpy as np
import pytest

from segue.models import open_onnx
from segue.models.spleeter import BINS, EPSILON, FRAMES_MULTIPLE, STEMS, convert
from segue_support.checkpoints import write_checkpoint

ROUNDING = 2e-5  # of sums of a few hundred products of 32-bit floats
FILTERS = (3, 2, 4, 2, 3, 5)


def name(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


def make_weights() -> dict[str, np.ndarray]:
    """Return random weights of a small Spleeter."""
    rng = np.random.default_rng(3)
    back = [*FILTERS[-2::-1], 1]  # filters of the transposed convolutions
    inputs = [FILTERS[-1], *(2 * filters for filters in back[:-1])]  # and their channels
    halving = [(5, 5, *pair) for pair in zip((2, *FILTERS), FILTERS, strict=False)]
    doubling = [(5, 5, *pair) for pair in zip(back, inputs, strict=True)]
    weights = {}
    for stem in range(len(STEMS)):
        for kind, shapes in (
            ("conv2d", [*halving, (4, 4, 1, 2)]),
            ("conv2d_transpose", doubling),
        ):
            for number, shape in enumerate(shapes):
                layer = name(kind, stem * len(shapes) + number)
                bias = shape[2 if "transpose" in kind else 3]
                weights[f"{layer}/kernel"] = rng.normal(0, 0.2, shape)
                weights[f"{layer}/bias"] = rng.normal(0, 0.2, bias)
        for number, size in enumerate([*FILTERS, *back]):
            layer = name("batch_normalization", stem * 12 + number)
            for part in ("gamma", "beta", "moving_mean"):
                weights[f"{layer}/{part}"] = rng.normal(0.5, 0.5, size)
            weights[f"{layer}/moving_variance"] = rng.uniform(0.5, 2.0, size)
    return {key: value.astype(np.float32) for key, value in weights.items()}


def compute(weights: dict[str, np.ndarray], x: np.ndarray, stem: int) -> np.ndarray:
    """Compute a network's shares of spectra [frame, bin, channel] in 64-bit floats."""
    w = {key: value.astype(float) for key, value in weights.items()}
    used = {
        "conv2d": 7 * stem,
        "conv2d_transpose": 6 * stem,
        "batch_normalization": 12 * stem,
    }

    def take(kind: str) -> str:
        used[kind] += 1
        return name(kind, used[kind] - 1)

    def normalize(value: np.ndarray) -> np.ndarray:
        layer = take("batch_normalization")
        spread = np.sqrt(w[f"{layer}/moving_variance"] + EPSILON)
        scaled = (value - w[f"{layer}/moving_mean"]) / spread
        return scaled * w[f"{layer}/gamma"] + w[f"{layer}/beta"]

    def halve(value: np.ndarray) -> np.ndarray:
        layer = take("conv2d")
        padded = np.pad(value, ((1, 2), (1, 2), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(0, 1))[::2, ::2]
        return np.einsum("tfcab,abcd->tfd", windows, w[f"{layer}/kernel"]) + w[f"{layer}/bias"]

    def double(value: np.ndarray) -> np.ndarray:
        layer = take("conv2d_transpose")
        kernel = w[f"{layer}/kernel"]
        frames, bins = value.shape[:2]
        summed = np.zeros((2 * frames + 3, 2 * bins + 3, kernel.shape[2]))
        for row in range(5):
            for column in range(5):
                place = np.s_[row : row + 2 * frames : 2, column : column + 2 * bins : 2]
                summed[place] += value @ kernel[row, column].T
        return summed[1:-2, 1:-2] + w[f"{layer}/bias"]

    value, sides = x, []
    for _ in FILTERS:
        sides.append(halve(value))
        normal = normalize(sides[-1])
        value = np.where(normal > 0, normal, 0.2 * normal)
    value = sides.pop()
    for number in range(len(FILTERS)):
        if number:
            value = np.concatenate([sides.pop(), value], axis=2)
        value = normalize(np.maximum(double(value), 0))
    layer = take("conv2d")
    padded = np.pad(value, ((3, 3), (3, 3), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), axis=(0, 1))[..., ::2, ::2]
    mask = np.einsum("tfcab,abcd->tfd", windows, w[f"{layer}/kernel"]) + w[f"{layer}/bias"]
    return 1 / (1 + np.exp(-mask))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(folder, make_weights())
    return folder


def test_the_model_computes_what_its_layers_say(folder, tmp_path):
    convert(folder, tmp_path / "spleeter.onnx")
    session = open_onnx(tmp_path / "spleeter.onnx")
    rng = np.random.default_rng(4)
    x = rng.uniform(0, 3, (2, 2, 2 * FRAMES_MULTIPLE, BINS)).astype(np.float32)
    found = session.run(list(STEMS), {"spectra": x})
    for stem, shares in enumerate(found):
        assert shares.shape == x.shape
        assert shares.std() > 0.02
        for number in range(len(x)):
            expected = compute(make_weights(), x[number].transpose(1, 2, 0).astype(float), stem)
            np.testing.assert_allclose(shares[number].transpose(1, 2, 0), expected, atol=ROUNDING)


def test_the_same_weights_give_the_same_bytes(folder, tmp_path):
    for target in ("a.onnx", "b.onnx"):
        convert(folder, tmp_path / target)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_another_checkpoint_is_refused(tmp_path):
    weights = make_weights()
    del weights["conv2d_13/kernel"]
    write_checkpoint(tmp_path, weights)
    with pytest.raises(KeyError, match="conv2d_13/kernel"):
        convert(tmp_path, tmp_path / "spleeter.onnx")
