"""Writes checkpoints of TensorFlow, for tests of what reads them."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from segue.models.tensor_bundle import MAGIC


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def block(items: list[tuple[bytes, bytes]]) -> bytes:
    """Return a block of a table of LevelDB, whose keys share what they begin with."""
    data, before = b"", b""
    for key, value in items:
        pairs = enumerate(zip(before, key, strict=False))
        shared = next((n for n, (a, b) in pairs if a != b), min(len(before), len(key)))
        own = key[shared:]
        data += varint(shared) + varint(len(own)) + varint(len(value)) + own + value
        before = key
    return data + struct.pack("<II", 0, 1)


def write_checkpoint(folder: Path, weights: dict[str, np.ndarray], compression: int = 0) -> None:
    """Write a checkpoint as TensorFlow does: sorted, behind a header without a key."""
    items, data = [(b"", b"\x08\x01")], b""
    for key, value in sorted(weights.items()):
        dimensions = b"".join(
            b"\x12" + varint(1 + len(varint(size))) + b"\x08" + varint(size) for size in value.shape
        )
        shape = b"\x12" + varint(len(dimensions)) + dimensions
        size = len(value.tobytes())
        entry = b"\x08" + varint({"float32": 1, "int32": 3}[value.dtype.name]) + shape
        entry += b"\x20" + varint(len(data)) + b"\x28" + varint(size) + b"\x35" + bytes(4)
        items.append((key.encode(), entry))
        data += value.tobytes()
    first = block(items)
    trailer = bytes([compression]) + bytes(4)
    second = block([(b"~", varint(0) + varint(len(first)))])
    start = len(first) + len(trailer)
    footer = varint(0) + varint(0) + varint(start) + varint(len(second))
    footer = footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    (folder / ".index").write_bytes(first + trailer + second + trailer + footer)
    (folder / ".data-00000-of-00001").write_bytes(data)
