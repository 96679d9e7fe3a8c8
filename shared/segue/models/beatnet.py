"""BeatNet as ONNX: its weights are read with numpy, and its layers are written.

Heydari, Cwitkowitz, Duan: "BeatNet: CRNN and particle filtering for online joint beat downbeat and
meter tracking", ISMIR 2021. A convolution over the bands of each frame and a layer that connects
all of them lead to two layers of long short-term memory, which run forward in time, and to the
probabilities of three classes. The authors have trained three networks, each without another part
of their music; here the mean of the three is one model, which is right more often than any of them.

The input ``x`` is [frames, 272], as `segue.features.log_bands` computes it. The output
``activations`` is [frames, 3]: the probabilities of a beat that is no downbeat, of a downbeat, and
of neither. A long recording is computed in parts: the inputs ``h`` and ``c``, [6, 1, 150], are
zeros for the first part, and the outputs ``h_next`` and ``c_next`` of the part before for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segue.models.onnx_writer import OnnxGraph
from segue.models.torch_archive import read_tensors

if TYPE_CHECKING:
    import numpy as np

FILES = tuple(f"model_{number}_weights.pt" for number in (1, 2, 3))
FEATURES = 272
UNITS = 150
LAYERS = 2  # of memory, in each network
CLASSES = 3
FILTERS, TAPS, POOL = 2, 10, 2
POOLED = FILTERS * ((FEATURES - TAPS + 1) // POOL)
STATE = [len(FILES) * LAYERS, 1, UNITS]
SHAPES = {
    "conv1.weight": (FILTERS, 1, TAPS),
    "conv1.bias": (FILTERS,),
    "linear0.weight": (UNITS, POOLED),
    "linear0.bias": (UNITS,),
    **{
        f"lstm.{kind}_l{layer}": (4 * UNITS, UNITS)[: 2 if "weight" in kind else 1]
        for layer in range(LAYERS)
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    },
    "linear.weight": (CLASSES, UNITS),
    "linear.bias": (CLASSES,),
}
# PyTorch has the gates in the order input, forget, cell, output; ONNX: input, output, forget, cell.
GATES = (0, 3, 1, 2)


def convert(source: Path, target: Path) -> None:
    """Write the ONNX file of a folder with BeatNet's weights."""
    networks = [read_tensors(source / name) for name in FILES]
    for name, weights in zip(FILES, networks, strict=True):
        found = {key: array.shape for key, array in weights.items()}
        if found != SHAPES:
            wrong = sorted(k for k in {*found, *SHAPES} if found.get(k) != SHAPES.get(k))
            raise ValueError(f"{name} is not BeatNet: it lacks, or has of another shape, {wrong}")
    graph = OnnxGraph("beatnet")
    x = graph.add_input("x", ["frames", FEATURES])
    h, c = (graph.add_input(name, STATE) for name in ("h", "c"))
    image = graph.add_node("Unsqueeze", x, _add_axis(graph, 1))
    activations, states = [], []
    for number, weights in enumerate(networks):
        network = _Network(graph, weights, number * LAYERS)
        activations.append(network.build(image, h, c))
        states += network.states
    graph.add_output("activations", graph.add_node("Mean", *activations), ["frames", CLASSES])
    for name, parts in zip(("h_next", "c_next"), zip(*states, strict=True), strict=True):
        graph.add_output(name, graph.add_node("Concat", *parts, axis=0), STATE)
    target.write_bytes(graph.encode())


class _Network:
    """Writes the layers of one network; ``first`` is the number of its first layer's state."""

    def __init__(
        self, graph: OnnxGraph, weights: Mapping[str, np.ndarray[Any, Any]], first: int
    ) -> None:
        self._graph = graph
        self._weights = weights
        self._first = first
        self.states: list[list[str]] = []  # of each layer, after the last frame

    def build(self, image: str, h: str, c: str) -> str:
        """Return the probabilities of the classes for frames [frames, 1, features]."""
        add = self._graph.add_node
        convolved = add("Relu", add("Conv", image, *self._take("conv1")))
        pooled = add("MaxPool", convolved, kernel_shape=[POOL], strides=[POOL])
        dense = add("Gemm", add("Flatten", pooled), *self._take("linear0"), transB=1)
        sequence = add("Unsqueeze", dense, self._axis(1))  # [frames, one recording, units]
        for layer in range(LAYERS):
            sequence, *after = self._add_memory(sequence, h, c, layer)
            self.states.append(after)
        units = add("Squeeze", sequence, self._axis(1))
        return add("Softmax", add("Gemm", units, *self._take("linear"), transB=1), axis=1)

    def _add_memory(self, sequence: str, h: str, c: str, layer: int) -> list[str]:
        """Return the units [frames, 1, units], and their state after the last frame."""
        import numpy as np

        part = self._graph.add_weight(np.array([self._first + layer]))
        before = [self._graph.add_node("Gather", state, part, axis=0) for state in (h, c)]
        biases = np.stack([self._order(f"lstm.bias_{kind}_l{layer}") for kind in ("ih", "hh")])
        weights = [self._order(f"lstm.weight_{kind}_l{layer}") for kind in ("ih", "hh")]
        constants = [
            self._graph.add_weight(array[np.newaxis]) for array in (*weights, biases.reshape(-1))
        ]
        no_lengths = ""
        units, *after = self._graph.add_wide_node(
            "LSTM", 3, sequence, *constants, no_lengths, *before, hidden_size=UNITS
        )
        return [self._graph.add_node("Squeeze", units, self._axis(1)), *after]

    def _order(self, name: str) -> np.ndarray[Any, Any]:
        """Return weights of the gates in the order of ONNX."""
        import numpy as np

        gates = np.split(self._weights[name], 4)
        return np.concatenate([gates[gate] for gate in GATES])

    def _take(self, layer: str) -> list[str]:
        return [
            self._graph.add_weight(self._weights[f"{layer}.{kind}"]) for kind in ("weight", "bias")
        ]

    def _axis(self, number: int) -> str:
        return _add_axis(self._graph, number)


def _add_axis(graph: OnnxGraph, number: int) -> str:
    import numpy as np

    return graph.add_weight(np.array([number]))
