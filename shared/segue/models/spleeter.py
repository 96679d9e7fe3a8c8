"""Spleeter with two stems as ONNX: its TensorFlow checkpoint is read, and its layers are written.

Hennequin, Khlif, Voituret, Moussallam: "Spleeter: a fast and efficient music source separation tool
with pre-trained models", JOSS 5(50), 2020. Each stem has a U-Net of its own: six convolutions halve
time and frequency, six transposed ones double them again, and each of these but the first also sees
the convolution of its size before normalisation.

The input ``spectra`` is [batch, 2, frames, 1024]: magnitudes of the two channels, of which the
frames are a multiple of 64; the networks were trained with 512. The outputs ``vocals`` and
``accompaniment`` have its shape, and say for each magnitude how much of it the stem has, from 0 to
1. They come from different networks, and do not add up to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segue.models.onnx_writer import OnnxGraph
from segue.models.tensor_bundle import read_checkpoint

STEMS = ("vocals", "accompaniment")  # in the order in which TensorFlow numbered their layers
CHANNELS = 2
BINS = 1024
DEPTH = 6  # convolutions, and as many transposed ones
FRAMES_MULTIPLE = 2**DEPTH
EPSILON = 1e-3  # of Keras' BatchNormalization
SLOPE = 0.2  # of LeakyReLU, below 0
STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")
# "Same" of TensorFlow, of a kernel of 5 with steps of 2: what is odd comes last.
HALVING = {"kernel_shape": [5, 5], "strides": [2, 2], "pads": [1, 1, 2, 2]}
MASKING = {"kernel_shape": [4, 4], "dilations": [2, 2], "pads": [3, 3, 3, 3]}


def convert(source: Path, target: Path) -> None:
    """Write the ONNX file of a folder with Spleeter's checkpoint of two stems."""
    (index,) = source.glob("*.index")
    target.write_bytes(_Spleeter(read_checkpoint(index)).build())


class _Spleeter:
    """Writes the layers; TensorFlow has numbered the variables in the order of their creation."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self._weights = weights
        self._graph = OnnxGraph("spleeter")
        self._next = dict.fromkeys(("batch_normalization", "conv2d", "conv2d_transpose"), 0)

    def build(self) -> bytes:
        shape: list[int | str] = ["batch", CHANNELS, "frames", BINS]
        spectra = self._graph.add_input("spectra", shape)
        for stem in STEMS:
            self._graph.add_output(stem, self._build_mask(spectra), shape)
        return self._graph.encode()

    def _build_mask(self, spectra: str) -> str:
        add = self._graph.add_node
        value, sides = spectra, []
        for _ in range(DEPTH):
            sides.append(self._convolve(value, "conv2d", "Conv", HALVING))
            value = add("LeakyRelu", self._normalize(sides[-1]), alpha=SLOPE)
        value = sides.pop()  # what the last of them makes normalised leads nowhere
        for number in range(DEPTH):
            if number:
                value = add("Concat", sides.pop(), value, axis=1)
            raised = self._convolve(value, "conv2d_transpose", "ConvTranspose", HALVING)
            value = self._normalize(add("Relu", raised))
        return add("Sigmoid", self._convolve(value, "conv2d", "Conv", MASKING))

    def _take_layer(self, kind: str) -> str:
        """Return the name of the next layer of a kind, such as conv2d, conv2d_1, conv2d_2."""
        number = self._next[kind]
        self._next[kind] += 1
        return f"{kind}_{number}" if number else kind

    def _normalize(self, value: str) -> str:
        layer = self._take_layer("batch_normalization")
        statistics = [self._graph.add_weight(self._weights[f"{layer}/{s}"]) for s in STATISTICS]
        return self._graph.add_node("BatchNormalization", value, *statistics, epsilon=EPSILON)

    def _convolve(
        self, value: str, kind: str, operator: str, options: Mapping[str, list[int]]
    ) -> str:
        """Add a convolution; TensorFlow has the sizes of a kernel first, ONNX has them last."""
        layer = self._take_layer(kind)
        kernel = self._weights[f"{layer}/kernel"].transpose(3, 2, 0, 1)
        bias = self._weights[f"{layer}/bias"]
        return self._graph.add_node(
            operator,
            value,
            self._graph.add_weight(kernel),
            self._graph.add_weight(bias),
            **options,
        )
