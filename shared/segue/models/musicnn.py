"""musicnn as ONNX: its TensorFlow checkpoint is read with numpy, and its layers are written.

Pons, Serra: "musicnn: pre-trained convolutional neural networks for music audio tagging", 2019
(arXiv:1909.06654). The front end has vertical filters for timbre and horizontal ones for time, each
reduced to its maximum over frequency; the middle has three convolutions, two of them residual; the
back end pools over time, with maximum and mean.

The input ``x`` is [batch, frames, 96], of mel spectra at 16 kHz (window 512, hop 256) as
log10(1 + 10000 S); the model was trained with 187 frames, 3 s. The outputs are ``tags``
[batch, 50], each from 0 to 1, and the ``embedding`` [batch, 200] from which they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segue.models.onnx_writer import OnnxGraph
from segue.models.tensor_bundle import read_checkpoint

BANDS = 96
# What the tags are, in their order: ``MSD_LABELS`` of the package's ``configuration.py``.
TAGS = (
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s"),
    *("alternative rock", "jazz", "beautiful", "metal", "chillout", "male vocalists"),
    *("classic rock", "soul", "indie rock", "Mellow", "electronica", "80s", "folk", "90s", "chill"),
    *("instrumental", "punk", "oldies", "blues", "hard rock", "ambient", "acoustic"),
    *("experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country"),
    *("easy listening", "sexy", "catchy", "funk", "electro", "heavy metal", "Progressive rock"),
    *("60s", "rnb", "indie pop", "sad", "House", "happy"),
)
EPSILON = 1e-3  # of tf.layers.batch_normalization
TIMBRE, TIME, MIDDLE = 2, 3, 3  # how many convolutions the parts have
STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")


def convert(source: Path, target: Path) -> None:
    """Write the ONNX file of a folder with musicnn's checkpoint."""
    (index,) = source.glob("*.index")
    target.write_bytes(_Musicnn(read_checkpoint(index)).build())


class _Musicnn:
    """Writes the layers; TensorFlow has numbered the variables in the order of their creation."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        self._weights = weights
        self._graph = OnnxGraph("musicnn")
        self._next = dict.fromkeys(("batch_normalization", "conv2d", "dense"), 0)

    def build(self) -> bytes:
        add = self._graph.add_node
        x = self._graph.add_input("x", ["batch", "frames", BANDS])
        # From here on: batch, channel, frame, band.
        spectrum = self._normalize(self._insert_axis(x, 1))
        features = add("Concat", *self._build_front(spectrum), axis=1)
        layers = [features, *self._build_middle(features)]
        tags, embedding = self._build_back(add("Concat", *layers, axis=1))
        self._graph.add_output("tags", tags, ["batch", len(TAGS)])
        self._graph.add_output("embedding", embedding, ["batch", 200])
        return self._graph.encode()

    def _build_front(self, spectrum: str) -> list[str]:
        """Return the features of timbre and time: [batch, channel, frame] each."""
        convolved = [self._normalize(self._convolve(spectrum)) for _ in range(TIMBRE + TIME)]
        return [self._graph.add_node("ReduceMax", c, axes=[3], keepdims=0) for c in convolved]

    def _build_middle(self, features: str) -> list[str]:
        layers: list[str] = []
        for _ in range(MIDDLE):
            above = layers[-1] if layers else features
            # The channels become the bands of an image with one channel.
            image = self._insert_axis(self._graph.add_node("Transpose", above, perm=[0, 2, 1]), 1)
            layer = self._drop_axis(self._normalize(self._convolve(image)), 3)
            layers.append(self._graph.add_node("Add", layer, above) if layers else layer)
        return layers

    def _build_back(self, features: str) -> tuple[str, str]:
        add = self._graph.add_node
        pooled = [
            self._insert_axis(add(operator, features, axes=[2], keepdims=0), 2)
            for operator in ("ReduceMax", "ReduceMean")
        ]
        # The maximum and the mean of a channel are neighbours.
        flat = self._normalize(add("Flatten", add("Concat", *pooled, axis=2), axis=1))
        embedding = self._normalize(add("Relu", self._connect(flat)))
        return add("Sigmoid", self._connect(embedding)), embedding

    def _take_layer(self, kind: str) -> str:
        """Return the name of the next layer of a kind, such as conv2d, conv2d_1, conv2d_2."""
        number = self._next[kind]
        self._next[kind] += 1
        return f"{kind}_{number}" if number else kind

    def _normalize(self, value: str) -> str:
        layer = self._take_layer("batch_normalization")
        statistics = [self._graph.add_weight(self._weights[f"{layer}/{s}"]) for s in STATISTICS]
        return self._graph.add_node("BatchNormalization", value, *statistics, epsilon=EPSILON)

    def _convolve(self, value: str) -> str:
        """Convolve over time, as long as before, and over as many bands as the filter has."""
        layer = self._take_layer("conv2d")
        kernel = self._weights[f"{layer}/kernel"].transpose(3, 2, 0, 1)  # out, in, frame, band
        frames = kernel.shape[2] - 1
        before = frames // 2  # "same" of TensorFlow: what is odd comes last
        convolved = self._graph.add_node(
            "Conv",
            value,
            self._graph.add_weight(kernel),
            self._graph.add_weight(self._weights[f"{layer}/bias"]),
            kernel_shape=list(kernel.shape[2:]),
            pads=[before, 0, frames - before, 0],
        )
        return self._graph.add_node("Relu", convolved)

    def _connect(self, value: str) -> str:
        layer = self._take_layer("dense")
        weights = [
            self._graph.add_weight(self._weights[f"{layer}/{w}"]) for w in ("kernel", "bias")
        ]
        return self._graph.add_node("Gemm", value, *weights)

    def _insert_axis(self, value: str, axis: int) -> str:
        return self._graph.add_node("Unsqueeze", value, self._add_axis(axis))

    def _drop_axis(self, value: str, axis: int) -> str:
        return self._graph.add_node("Squeeze", value, self._add_axis(axis))

    def _add_axis(self, axis: int) -> str:
        import numpy as np

        return self._graph.add_weight(np.array([axis], np.int64))
