"""Writes an ONNX file: nodes, weights, inputs and outputs, as protocol buffers.

The field numbers are those of onnx.proto, IR version 8. The same calls give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

IR_VERSION = 8
OPSET = 17
FLOAT, INT64 = 1, 7  # of TensorProto.DataType
TYPES = {"float32": FLOAT, "int64": INT64}
Attribute = float | str | Sequence[int]
Dimension = int | str  # a text names a size that is only known when the model runs


class OnnxGraph:
    """A graph that is built node by node; each method returns the name of a value."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._weights: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._count = 0

    def add_input(self, name: str, shape: Sequence[Dimension]) -> str:
        """Add an input of 32-bit floats."""
        self._inputs.append(_encode_value(name, shape))
        return name

    def add_weight(self, array: np.ndarray[Any, Any]) -> str:
        """Add a constant of 32-bit floats or 64-bit integers."""
        name = self._name_next("w")
        little = array.astype(array.dtype.newbyteorder("<"), order="C")
        self._weights.append(
            b"".join(_encode_number(1, size) for size in array.shape)
            + _encode_number(2, TYPES[array.dtype.name])
            + _encode_bytes(8, name.encode())
            + _encode_bytes(9, little.tobytes())
        )
        return name

    def add_node(self, operator: str, *inputs: str, **attributes: Attribute) -> str:
        """Add an operator of ONNX with one output."""
        (output,) = self.add_wide_node(operator, 1, *inputs, **attributes)
        return output

    def add_wide_node(
        self, operator: str, outputs: int, *inputs: str, **attributes: Attribute
    ) -> list[str]:
        """Add an operator with several outputs; an input that is left out is an empty name."""
        names = [self._name_next("t") for _ in range(outputs)]
        self._nodes.append(self._encode_node(operator, inputs, names, attributes))
        return names

    def add_output(self, name: str, value: str, shape: Sequence[Dimension]) -> None:
        """Give a value of 32-bit floats a name outside."""
        self._nodes.append(self._encode_node("Identity", [value], [name], {}))
        self._outputs.append(_encode_value(name, shape))

    def encode(self) -> bytes:
        """Return the bytes of the file."""
        graph = b"".join(
            [
                *(_encode_bytes(1, node) for node in self._nodes),
                _encode_bytes(2, self._name.encode()),
                *(_encode_bytes(5, weight) for weight in self._weights),
                *(_encode_bytes(11, value) for value in self._inputs),
                *(_encode_bytes(12, value) for value in self._outputs),
            ]
        )
        return (
            _encode_number(1, IR_VERSION)
            + _encode_bytes(2, b"segue")
            + _encode_bytes(7, graph)
            + _encode_bytes(8, _encode_number(2, OPSET))
        )

    def _name_next(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    @staticmethod
    def _encode_node(
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: dict[str, Attribute],
    ) -> bytes:
        return (
            b"".join(_encode_bytes(1, name.encode()) for name in inputs)
            + b"".join(_encode_bytes(2, name.encode()) for name in outputs)
            + _encode_bytes(3, f"{operator}_{outputs[0]}".encode())
            + _encode_bytes(4, operator.encode())
            + b"".join(_encode_bytes(5, _encode_attribute(n, v)) for n, v in attributes.items())
        )


def _encode_attribute(name: str, value: Attribute) -> bytes:
    if isinstance(value, float):
        kind, encoded = 1, _encode_tag(2, 5) + struct.pack("<f", value)
    elif isinstance(value, int):
        kind, encoded = 2, _encode_number(3, value)
    elif isinstance(value, str):
        kind, encoded = 3, _encode_bytes(4, value.encode())
    else:
        kind, encoded = 7, b"".join(_encode_number(8, number) for number in value)
    return _encode_bytes(1, name.encode()) + encoded + _encode_number(20, kind)


def _encode_value(name: str, shape: Sequence[Dimension]) -> bytes:
    dimensions = [
        _encode_bytes(2, size.encode()) if isinstance(size, str) else _encode_number(1, size)
        for size in shape
    ]
    shaped = b"".join(_encode_bytes(1, dimension) for dimension in dimensions)
    tensor = _encode_number(1, FLOAT) + _encode_bytes(2, shaped)
    return _encode_bytes(1, name.encode()) + _encode_bytes(2, _encode_bytes(1, tensor))


def _encode_tag(field: int, wire_type: int) -> bytes:
    return _encode_varint(field << 3 | wire_type)


def _encode_number(field: int, value: int) -> bytes:
    return _encode_tag(field, 0) + _encode_varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def _encode_bytes(field: int, data: bytes) -> bytes:
    return _encode_tag(field, 2) + _encode_varint(len(data)) + data


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
