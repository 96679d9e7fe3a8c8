"""Writes what ``torch.save`` writes of a model, opcode by opcode, and without PyTorch."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

TABLE = b"ccollections\nOrderedDict\n)R"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
FLOATS = b"ctorch\nFloatStorage\n"


def write_archive(
    path: Path,
    tensors: Mapping[str, np.ndarray[Any, Any]],
    *,
    replace: tuple[bytes, bytes] = (b"", b""),
) -> None:
    """Write tensors, each in a storage of its own behind one float that is not in it.

    ``replace`` changes the pickle, to damage it.
    """
    described, files = b"", {}
    for number, (name, tensor) in enumerate(tensors.items()):
        shape = tensor.shape
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        storage = b"(" + _text("storage") + FLOATS + _text(str(number)) + _text("cpu")
        storage += _number(tensor.size + 1) + b"tQ"
        sizes = b"".join(b"(" + b"".join(map(_number, n)) + b"t" for n in (shape, strides))
        described += _text(name) + REBUILD + b"(" + storage + _number(1) + sizes
        described += b"\x89" + TABLE + b"tR"
        files[f"saved/data/{number}"] = struct.pack("<f", 9.0) + tensor.astype("<f4").tobytes()
    pickled = b"\x80\x02" + TABLE + b"(" + described + b"u."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("saved/data.pkl", pickled.replace(*replace) if replace[0] else pickled)
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("saved/version", b"3\n")


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)
