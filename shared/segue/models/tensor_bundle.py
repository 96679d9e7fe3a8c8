"""Reads the variables of a TensorFlow checkpoint (tensor bundle, V2), without TensorFlow.

The index is a table of LevelDB: blocks of keys with shared prefixes, and a footer that says where
the block of blocks is. Its values are protocol buffers that say where a variable's bytes are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

INDEX = ".index"
FOOTER_BYTES = 48
MAGIC = 0xDB4775248B80FB57
FLOAT32 = 1  # DT_FLOAT of types.proto
DTYPE, SHAPE, OFFSET, SIZE = 1, 2, 4, 5  # fields of BundleEntryProto
WHOLE, LONG, TEXT, SHORT = 0, 1, 2, 5  # wire types of protocol buffers
WIDTHS = {LONG: 8, SHORT: 4}


def read_checkpoint(path: Path) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Return the variables of 32-bit floats of a checkpoint with one shard, by name.

    ``path`` is that of its index, beside which its data is. Raises ``ValueError`` if it is no
    index, or is compressed.
    """
    import numpy as np

    index = path.read_bytes()
    shard = f"{path.name.removesuffix(INDEX)}.data-00000-of-00001"
    data = path.with_name(shard).read_bytes()
    footer = index[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise ValueError(f"{path} is not the index of a checkpoint")
    _, at = _read_handle(footer, 0)  # of the metadata, which there is none
    (offset, size), _ = _read_handle(footer, at)
    variables = {}
    for _, handle in _iterate_block(index, offset, size):
        (start, length), _ = _read_handle(handle, 0)
        for key, value in _iterate_block(index, start, length):
            entry = _read_message(value)
            if key and entry.get(DTYPE) == [FLOAT32]:
                variables[key.decode()] = np.frombuffer(
                    data, "<f4", entry[SIZE][0] // 4, entry.get(OFFSET, [0])[0]
                ).reshape(_read_shape(entry))
    return variables


def _read_shape(entry: Mapping[int, list[Any]]) -> list[int]:
    dimensions = _read_message(b"".join(entry.get(SHAPE, []))).get(2, [])
    return [_read_message(dimension).get(1, [0])[0] for dimension in dimensions]


def _read_handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Return the offset and size of a block, and where the handle ends."""
    offset, at = _read_number(data, at)
    size, at = _read_number(data, at)
    return (offset, size), at


def _iterate_block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block."""
    block = data[offset : offset + size]
    if data[offset + size] != 0:
        raise ValueError("the index of the checkpoint is compressed")
    (restarts,) = struct.unpack("<I", block[-4:])
    at, end, key = 0, len(block) - 4 * (restarts + 1), b""
    while at < end:
        shared, at = _read_number(block, at)
        own, at = _read_number(block, at)
        length, at = _read_number(block, at)
        key = key[:shared] + block[at : at + own]
        at += own + length
        yield key, block[at - length : at]


def _read_message(data: bytes) -> dict[int, list[Any]]:
    """Return the fields of a protocol buffer by number."""
    fields: dict[int, list[Any]] = {}
    at = 0
    while at < len(data):
        tag, at = _read_number(data, at)
        number, kind = tag >> 3, tag & 7
        value: Any
        if kind == WHOLE:
            value, at = _read_number(data, at)
        else:
            length = WIDTHS.get(kind, 0)
            if kind == TEXT:
                length, at = _read_number(data, at)
            value, at = data[at : at + length], at + length
        fields.setdefault(number, []).append(value)
    return fields


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of 7 bits per byte, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
