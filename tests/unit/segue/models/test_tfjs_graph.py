"""A graph model of TensorFlow.js computes the same as ONNX, and as its layers say."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from segue.models import open_onnx
from segue.models.onnx_writer import OnnxGraph
from segue.models.tfjs_graph import TfjsGraph, write_layers

ROUNDING = 1e-5  # of sums of a few products of 32-bit floats
HALF_ROUNDING = 2e-3  # of weights that are kept in 16 bits, which are about 1


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def sizes(row: int, column: int) -> dict:
    return {"list": {"i": ["1", str(row), str(column), "1"]}}


class Model:
    """A graph model that a test puts together."""

    def __init__(self) -> None:
        self.nodes = [{"name": "x", "op": "Placeholder"}]
        self.weights, self.data = [], b""

    def add(self, op: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append({"name": name, "op": op, "input": list(inputs), "attr": attributes})
        return name

    def keep(self, name: str, array: np.ndarray, kept: str | None = None) -> str:
        weight = {"name": name, "shape": list(array.shape), "dtype": array.dtype.name}
        if kept:
            weight["quantization"] = {"dtype": kept}
        self.weights.append(weight)
        self.data += array.astype(kept or array.dtype).tobytes()
        return self.add("Const", name)

    def write(self, folder) -> TfjsGraph:
        manifest = [{"paths": ["a.bin", "b.bin"], "weights": self.weights}]
        document = {"modelTopology": {"node": self.nodes}, "weightsManifest": manifest}
        (folder / "a.json").write_text(json.dumps(document))
        (folder / "a.bin").write_bytes(self.data[:7])
        (folder / "b.bin").write_bytes(self.data[7:])
        return TfjsGraph(folder / "a.json")

    def run(self, folder, output: str, x: np.ndarray) -> np.ndarray:
        """Run it on a picture [row, column, channel]."""
        graph = OnnxGraph("test")
        given = graph.add_input("x", [1, x.shape[2], *x.shape[:2]])
        (value,) = write_layers(self.write(folder), graph, {"x": given}, [output])
        graph.add_output("y", value, ["a", "b", "c", "d"])
        (folder / "a.onnx").write_bytes(graph.encode())
        session = open_onnx(folder / "a.onnx")
        return session.run(["y"], {"x": x.transpose(2, 0, 1)[None]})[0][0].transpose(1, 2, 0)


def convolve(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Convolve as TensorFlow does with SAME: what is odd is added after the end."""
    size = kernel.shape[0]
    out = [-(-length // stride) for length in x.shape[:2]]
    added = [
        max(0, (n - 1) * stride + size - length) for n, length in zip(out, x.shape, strict=False)
    ]
    padded = np.pad(x, (*((each // 2, each - each // 2) for each in added), (0, 0)))
    y = np.zeros((*out, kernel.shape[3]))
    for row in range(out[0]):
        for column in range(out[1]):
            at = padded[row * stride :, column * stride :][:size, :size]
            y[row, column] = np.einsum("abc,abcd->d", at, kernel)
    return y


def make(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_with_bias_and_activation(tmp_path, stride):
    model, x, kernel, bias = Model(), make((6, 8, 3)), make((3, 3, 3, 4), 1), make((4,), 2)
    same = {"padding": {"s": encode("SAME")}, "strides": sizes(stride, stride)}
    fused = {"list": {"s": [encode("BiasAdd"), encode("Relu6")]}}
    inputs = ("x:0", model.keep("k", kernel), model.keep("b", bias))
    model.add("_FusedConv2D", "y", *inputs, **same, fused_ops=fused, dilations=sizes(1, 1))
    expected = np.clip(convolve(x, kernel, stride) + bias, 0, 6)
    np.testing.assert_allclose(model.run(tmp_path, "y", x), expected, atol=ROUNDING)


def test_a_depthwise_convolution_with_weights_of_16_bits(tmp_path):
    model, x, kernel = Model(), make((5, 5, 3)), make((3, 3, 3, 1), 1)
    same = {"padding": {"s": encode("SAME")}, "strides": sizes(1, 1)}
    model.add("DepthwiseConv2dNative", "y", "x", model.keep("k", kernel, "float16"), **same)
    each = [convolve(x[..., [c]], kernel[:, :, [c]], 1) for c in range(3)]
    found = model.run(tmp_path, "y", x)
    np.testing.assert_allclose(found, np.concatenate(each, axis=2), atol=10 * HALF_ROUNDING)


def test_means_sums_products_and_activations(tmp_path):
    """x * relu6(mean + 3) for each channel, then the sigmoid of twice its positive part."""
    model, x, scale = Model(), make((4, 6, 2)), np.array([1.0, -2.0], np.float32)
    axes = model.keep("axes", np.array([1, 2], np.int32))
    model.add("Mean", "mean", "x", axes, keep_dims={"b": True})
    model.add("AddV2", "sum", "mean", model.keep("three", np.array(3, np.float32)))
    model.add("Relu6", "six", "sum")
    model.add("Mul", "product", "x", "six")
    model.add("Mul", "scaled", "product", model.add("Identity", "alias", model.keep("s", scale)))
    model.add("Relu", "positive", "scaled")
    model.add("Sigmoid", "y", "positive")
    product = x * np.clip(x.mean(axis=(0, 1)) + 3, 0, 6) * scale
    expected = 1 / (1 + np.exp(-np.maximum(product, 0)))
    np.testing.assert_allclose(model.run(tmp_path, "y", x), expected, atol=ROUNDING)


@pytest.mark.parametrize("is_centred", [False, True])
def test_a_picture_is_enlarged_and_joined_with_another(tmp_path, is_centred):
    model, x = Model(), np.arange(4, dtype=np.float32).reshape(2, 2, 1)
    size = model.keep("size", np.array([4, 4], np.int32))
    half = {"half_pixel_centers": {"b": is_centred}, "align_corners": {"b": False}}
    model.add("ResizeBilinear", "large", "x", size, **half)
    model.add("ConcatV2", "y", "large", "large", model.keep("axis", np.array(-1, np.int32)))
    at = (np.arange(4) + 0.5) / 2 - 0.5 if is_centred else np.arange(4) / 2
    at = np.clip(at, 0, 1)
    expected = 2 * at[:, None] + at
    found = model.run(tmp_path, "y", x)
    np.testing.assert_allclose(found, np.stack([expected, expected], axis=2), atol=ROUNDING)


def test_what_is_not_known_is_refused(tmp_path):
    model = Model()
    model.add("Softmax", "a", "x")
    model.add("Conv2D", "b", "x", "x", padding={"s": ""}, strides=sizes(1, 1))
    kernel = model.keep("k", make((1, 1, 1, 1)))
    odd = {"fused_ops": {"list": {"s": [encode("Elu")]}}}
    same = {"padding": {"s": encode("SAME")}, "strides": sizes(1, 1)}
    model.add("_FusedConv2D", "c", "x", kernel, **same, **odd)
    model.add("ResizeBilinear", "d", "x", "k", align_corners={"b": True})
    x = make((2, 2, 1))
    for name, message in {
        "a": "a is the operator Softmax, which is not known",
        "b": "the input 1 of b is not a constant",
        "c": "the activation Elu is not known",
        "d": "d aligns corners",
    }.items():
        with pytest.raises(ValueError, match=message):
            model.run(tmp_path, name, x)


def test_what_is_no_graph_model_or_damaged_is_refused(tmp_path):
    model = Model()
    model.keep("k", make((4,)))
    for data, message in ((b"", "fewer weights"), (bytes(20), "4 bytes of weights more")):
        model.data = data
        with pytest.raises(ValueError, match=message):
            model.write(tmp_path)
    model.weights[0]["quantization"] = {"dtype": "uint8", "scale": 2.0, "min": 0.0}
    with pytest.raises(ValueError, match="k is kept as uint8, which is not known"):
        model.write(tmp_path)
    for text in ("no JSON", "[]", "{}"):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match=r"a\.json is not a graph model of TensorFlow\.js"):
            TfjsGraph(tmp_path / "a.json")
