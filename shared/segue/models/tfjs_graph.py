"""Graph models of TensorFlow.js: reads one, and writes its layers as ONNX.

A model is a JSON file with nodes, which are those of TensorFlow, and files with their weights. In
TensorFlow, the channels of a picture are the last dimension; here they are the second one, as ONNX
has them, so kernels, axes and constants are turned.

Only the operators that `_Writer` has methods for are known: those of convolutional networks.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segue.models.onnx_writer import OnnxGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

# From the order of TensorFlow's dimensions (batch, row, column, channel) to ONNX's.
AXES = {0: 0, 1: 2, 2: 3, 3: 1}
TYPES = {"float32": "<f4", "int32": "<i4", "float16": "<f2"}


class TfjsGraph:
    """The nodes and weights of a graph model.

    Parameters
    ----------
    path : Path
        Of its JSON file; the files with its weights are beside it.

    Raises
    ------
    ValueError
        If it is not a graph model, or its weights are of another size or kind than it says.
    """

    def __init__(self, path: Path) -> None:
        try:
            document = json.loads(path.read_bytes())
            nodes = document["modelTopology"]["node"]
            manifest = document["weightsManifest"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not a graph model of TensorFlow.js") from error
        self.nodes: dict[str, Mapping[str, Any]] = {node["name"]: node for node in nodes}
        self.weights: dict[str, NDArray[Any]] = {}
        for group in manifest:
            data = b"".join(path.with_name(name).read_bytes() for name in group["paths"])
            self.weights |= _read_weights(data, group["weights"])

    def find_constant(self, name: str) -> NDArray[Any] | None:
        """Return the weights that a value is, or None if it is computed."""
        node = self.nodes[_strip(name)]
        if node["op"] == "Identity":
            return self.find_constant(node["input"][0])
        return self.weights.get(node["name"]) if node["op"] == "Const" else None


def write_layers(
    source: TfjsGraph, graph: OnnxGraph, inputs: Mapping[str, str], outputs: Iterable[str]
) -> list[str]:
    """Write the layers from some inputs to some outputs; return the names of these in ONNX.

    Parameters
    ----------
    source : TfjsGraph
        The model.
    graph : OnnxGraph
        Where its layers are added.
    inputs : mapping of str to str
        From the names of placeholders to values of the graph, with the channels second.
    outputs : iterable of str
        The names of nodes; their values have the channels second, too.

    Raises
    ------
    ValueError
        If the model has an operator that is not known.
    """
    writer = _Writer(source, graph, inputs)
    return [writer.write(name) for name in outputs]


class _Writer:
    """Writes each node once, after those that it needs."""

    def __init__(self, source: TfjsGraph, graph: OnnxGraph, inputs: Mapping[str, str]) -> None:
        self._source, self._graph = source, graph
        self._values = dict(inputs)
        self._writers: dict[str, Callable[[Mapping[str, Any]], str]] = {
            "Conv2D": self._convolve,
            "_FusedConv2D": self._convolve,
            "DepthwiseConv2dNative": self._convolve_depthwise,
            "FusedDepthwiseConv2dNative": self._convolve_depthwise,
            "Mean": self._average,
            "ConcatV2": self._concatenate,
            "ResizeBilinear": self._resize,
            "Identity": lambda node: self.write(node["input"][0]),
            "Relu6": lambda node: self._limit(self.write(node["input"][0])),
            "Relu": self._apply("Relu"),
            "Sigmoid": self._apply("Sigmoid"),
            "Add": self._apply("Add"),
            "AddV2": self._apply("Add"),
            "Mul": self._apply("Mul"),
        }

    def write(self, name: str) -> str:
        name = _strip(name)
        if name not in self._values:
            node = self._source.nodes[name]
            constant = self._source.find_constant(name)
            if constant is not None:
                self._values[name] = self._add_constant(constant)
            elif node["op"] in self._writers:
                self._values[name] = self._writers[node["op"]](node)
            else:
                raise ValueError(f"{name} is the operator {node['op']}, which is not known")
        return self._values[name]

    def _apply(self, operator: str) -> Callable[[Mapping[str, Any]], str]:
        return lambda node: self._graph.add_node(operator, *map(self.write, node["input"]))

    def _add_constant(self, array: NDArray[Any]) -> str:
        """Add a number, or one for each channel."""
        import numpy as np

        shaped = array.reshape(-1, 1, 1) if array.ndim else array
        return self._graph.add_weight(shaped.astype(np.float32))

    def _add_integers(self, numbers: Iterable[int]) -> str:
        import numpy as np

        return self._graph.add_weight(np.array(list(numbers), np.int64))

    def _convolve(self, node: Mapping[str, Any]) -> str:
        kernel = self._take(node, 1)  # row, column, in, out
        return self._add_convolution(node, kernel.transpose(3, 2, 0, 1), 1)

    def _convolve_depthwise(self, node: Mapping[str, Any]) -> str:
        kernel = self._take(node, 1)  # row, column, in, multiple
        rows, columns, channels, multiple = kernel.shape
        turned = kernel.transpose(2, 3, 0, 1).reshape(channels * multiple, 1, rows, columns)
        return self._add_convolution(node, turned, channels)

    def _add_convolution(self, node: Mapping[str, Any], kernel: NDArray[Any], group: int) -> str:
        attributes = node["attr"]
        given = [self.write(node["input"][0]), self._graph.add_weight(kernel)]
        fused = _read_texts(attributes.get("fused_ops"))
        if "BiasAdd" in fused:
            given.append(self._graph.add_weight(self._take(node, 2)))
        padding = _read_text(attributes["padding"]["s"])
        value = self._graph.add_node(
            "Conv",
            *given,
            group=group,
            kernel_shape=list(kernel.shape[2:]),
            strides=_read_sizes(attributes["strides"]),
            dilations=_read_sizes(attributes.get("dilations")),
            auto_pad={"SAME": "SAME_UPPER", "VALID": "VALID"}[padding],
        )
        for name in fused:
            value = self._activate(name, value)
        return value

    def _activate(self, name: str, value: str) -> str:
        if name == "BiasAdd":
            return value
        if name == "Relu6":
            return self._limit(value)
        if name == "Relu":
            return self._graph.add_node("Relu", value)
        raise ValueError(f"the activation {name} is not known")

    def _limit(self, value: str) -> str:
        import numpy as np

        bounds = [self._graph.add_weight(np.array(bound, np.float32)) for bound in (0, 6)]
        return self._graph.add_node("Clip", value, *bounds)

    def _average(self, node: Mapping[str, Any]) -> str:
        axes = [AXES[int(axis)] for axis in self._take(node, 1).ravel()]
        keeps = int(bool(node["attr"].get("keep_dims", {}).get("b")))
        return self._graph.add_node(
            "ReduceMean", self.write(node["input"][0]), axes=axes, keepdims=keeps
        )

    def _concatenate(self, node: Mapping[str, Any]) -> str:
        *parts, _ = node["input"]
        axis = AXES[int(self._take(node, len(parts))) % 4]
        return self._graph.add_node("Concat", *map(self.write, parts), axis=axis)

    def _resize(self, node: Mapping[str, Any]) -> str:
        """Scale a picture to a size that is known, as TensorFlow does by default."""
        if node["attr"].get("align_corners", {}).get("b"):
            raise ValueError(f"{node['name']} aligns corners, which is not known")
        is_centred = node["attr"].get("half_pixel_centers", {}).get("b")
        value = self.write(node["input"][0])
        first = self._graph.add_node("Slice", *self._slice_shape(value))
        size = self._add_integers(int(n) for n in self._take(node, 1))
        return self._graph.add_node(
            "Resize",
            value,
            "",
            "",
            self._graph.add_node("Concat", first, size, axis=0),
            mode="linear",
            coordinate_transformation_mode="half_pixel" if is_centred else "asymmetric",
        )

    def _slice_shape(self, value: str) -> list[str]:
        """Return the inputs of what takes batch and channels from the shape of a value."""
        return [
            self._graph.add_node("Shape", value),
            self._add_integers([0]),
            self._add_integers([2]),
        ]

    def _take(self, node: Mapping[str, Any], number: int) -> NDArray[Any]:
        found = self._source.find_constant(node["input"][number])
        if found is None:
            raise ValueError(f"the input {number} of {node['name']} is not a constant")
        return found


def _read_weights(data: bytes, listed: Iterable[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    import numpy as np

    found, at = {}, 0
    for weight in listed:
        kept = weight.get("quantization", weight)["dtype"]
        if kept not in TYPES or "scale" in weight.get("quantization", {}):
            raise ValueError(f"{weight['name']} is kept as {kept}, which is not known")
        kind = np.dtype(TYPES[kept])
        count = int(np.prod(weight["shape"], dtype=np.int64))
        if at + count * kind.itemsize > len(data):
            raise ValueError("there are fewer weights than the model says")
        raw = np.frombuffer(data, kind, count, at).reshape(weight["shape"])
        found[weight["name"]] = raw.astype(TYPES[weight["dtype"]])
        at += count * kind.itemsize
    if at != len(data):
        raise ValueError(f"there are {len(data) - at:,} bytes of weights more than the model says")
    return found


def _read_sizes(attribute: Mapping[str, Any] | None) -> list[int]:
    """Return the rows and columns of a list for all four dimensions; 1 if there is none."""
    listed = (attribute or {}).get("list", {}).get("i") or [1, 1, 1, 1]
    return [int(size) for size in listed[1:3]]


def _read_texts(attribute: Mapping[str, Any] | None) -> list[str]:
    return [_read_text(text) for text in (attribute or {}).get("list", {}).get("s", [])]


def _read_text(text: str) -> str:
    return base64.b64decode(text).decode()


def _strip(name: str) -> str:
    return name.partition(":")[0]
