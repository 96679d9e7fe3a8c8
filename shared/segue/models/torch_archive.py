"""Reads the tensors that PyTorch has saved, without PyTorch, and without running code in the file.

The file is a zip archive: a pickle that describes the tensors by name, and a file for each storage
that they are in [1]_. A pickle may call any function; here it may name three, none of them real.

.. [1] PyTorch documentation, "Serialization semantics."
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PICKLE = "/data.pkl"
MAX_PICKLE_BYTES = 2**20
# Of all storages.
MAX_BYTES = 2**30
MAX_AXES = 8
FLOAT_BYTES = 4


# Named tuples: a pickle may change the fields of other objects after they were checked.
class _Storage(NamedTuple):
    """The number of a storage, and how many 32-bit floats it has."""

    key: str
    size: int


class _Tensor(NamedTuple):
    """A part of a storage, in the order of its memory."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]


def read_tensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of 32-bit floats in a file that ``torch.save`` has written of a model.

    Raises
    ------
    ValueError
        If it is no such file, is damaged or is too large, or if there is anything in it but
        contiguous tensors of 32-bit floats.
    """
    import numpy as np

    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(PICKLE))
            described = _read_description(_read_member(archive, name, MAX_PICKLE_BYTES))
            storages = {tensor.storage for tensor in described.values()}
            _check_sizes(storages)
            folder = name.removesuffix(PICKLE)
            arrays = {
                storage: np.frombuffer(_read_storage(archive, folder, storage), "<f4")
                for storage in storages
            }
    except ValueError as error:
        raise ValueError(f"{path} does not have the tensors of a model: {error}") from error
    except Exception as error:  # zipfile's decompressors have their own
        raise ValueError(f"{path} is damaged, or not saved by PyTorch: {error}") from error
    return {
        name: arrays[tensor.storage][tensor.offset :][: math.prod(tensor.shape)]
        .reshape(tensor.shape)
        .astype(np.float32, copy=False)
        for name, tensor in described.items()
    }


def _read_member(archive: zipfile.ZipFile, name: str, limit_bytes: int) -> bytes:
    size = archive.getinfo(name).file_size
    if size > limit_bytes:
        raise ValueError(f"{name} has {size:,} bytes, and may have {limit_bytes:,}")
    with archive.open(name) as file:
        # Of more, `ZipFile.read` would decompress all, and then say so.
        return file.read(size)


def _check_sizes(storages: Collection[_Storage]) -> None:
    size = FLOAT_BYTES * sum(storage.size for storage in storages)
    if size > MAX_BYTES:
        raise ValueError(f"its storages have {size:,} bytes, and may have {MAX_BYTES:,}")


def _read_storage(archive: zipfile.ZipFile, folder: str, storage: _Storage) -> bytes:
    size = FLOAT_BYTES * storage.size
    data = _read_member(archive, f"{folder}/data/{storage.key}", size)
    if len(data) < size:
        raise ValueError(f"storage {storage.key} has {len(data):,} bytes, not {size:,}")
    return data


def _read_description(data: bytes) -> dict[str, _Tensor]:
    try:
        found = _DescriptionReader(io.BytesIO(data)).load()
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"its pickle cannot be read ({type(error).__name__}: {error})") from error
    # Not `found.items`, which the pickle may have set.
    if not isinstance(found, dict) or not all(
        isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in dict.items(found)
    ):
        raise ValueError("its pickle is not a table of tensors")
    return dict(dict.items(found))


def _describe_tensor(
    storage: object, offset: object, shape: object, strides: object, *_: object
) -> _Tensor:
    """Stand in for the function that makes a tensor of a part of a storage."""
    if not (isinstance(storage, _Storage) and isinstance(shape, tuple)):
        raise ValueError("a tensor is of an unknown kind")  # noqa: TRY004 - the file is wrong
    if len(shape) > MAX_AXES:
        raise ValueError(f"a tensor has {len(shape)} axes, and may have {MAX_AXES}")
    if not all(isinstance(n, int) and 0 <= n <= storage.size for n in (offset, *shape)):
        raise ValueError(f"a tensor has the offset {offset} and the shape {shape}")
    steps = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    if strides != steps:
        raise ValueError(f"a tensor of the shape {shape} has the strides {strides}, not {steps}")
    assert isinstance(offset, int)
    if offset + math.prod(shape) > storage.size:
        raise ValueError(f"a tensor of the shape {shape} ends behind its storage")
    return _Tensor(storage, offset, shape)


class _DescriptionReader(pickle.Unpickler):
    """Unpickles a table of tensors, and calls nothing but what is listed here."""

    CALLABLES: Mapping[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _describe_tensor,
        ("torch", "FloatStorage"): "32-bit floats",  # a name for a type, which is not called
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in for one of PyTorch's names; refuse all others."""
        try:
            return self.CALLABLES[module, name]
        except KeyError:
            raise ValueError(f"its pickle names {module}.{name}") from None

    def persistent_load(self, pid: Any) -> _Storage:
        """Return a storage; its floats are read later."""
        kind, dtype, key, _, size = pid
        is_known = (kind, dtype) == ("storage", self.CALLABLES["torch", "FloatStorage"])
        is_named = isinstance(key, str) and key.isdecimal()
        if not (is_known and is_named and isinstance(size, int) and size >= 0):
            raise ValueError("a storage is of an unknown kind")
        return _Storage(key, size)
