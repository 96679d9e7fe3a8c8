"""``application/json``: plain values as compact UTF-8 text with sorted keys."""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import TYPE_CHECKING

import msgspec

from segue.codec.encoded import Encoded, describe
from segue.errors import BadOutput, CorruptMedia

if TYPE_CHECKING:
    from typing import Any

MAX_DEPTH = 100
_ENCODER = msgspec.json.Encoder(order="deterministic")


class JsonCodec:
    """None, bool, int, float, str, lists and dicts of them; numpy values, tuples, dataclasses."""

    extension = "json"

    def encode(self, value: object) -> Encoded:
        """Write sorted keys and no white space; numbers in their shortest form."""
        try:
            # Where memory runs out, encode() of msgspec 0.22 crashes, and encode_into() raises.
            buffer = bytearray()
            _ENCODER.encode_into(_to_plain(value, "$", 0), buffer)
            data = bytes(buffer)
            del buffer
            return Encoded(data, msgspec.json.decode(data))
        except (ValueError, OverflowError) as error:
            raise BadOutput(f"the value cannot be JSON: {error}; write it as a string") from error

    def decode(self, data: bytes) -> Any:
        """Read a document."""
        try:
            return msgspec.json.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptMedia(f"{describe(data)} is not application/json: {error}") from error


def _to_plain(value: object, path: str, depth: int) -> Any:  # noqa: C901 - one line per type
    """Return a copy of a value in JSON's types; `path` is its position, for errors."""
    if depth > MAX_DEPTH:
        raise BadOutput(
            f"{path[:60]}... is more than {MAX_DEPTH} levels deep, or contains itself: flatten it"
        )
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _check_text(value, path)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return _check_finite(value, path)
    if isinstance(value, list | tuple):
        return [_to_plain(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {
            _check_key(k, path): _to_plain(v, f"{path}.{k}", depth + 1) for k, v in value.items()
        }
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {n: _to_plain(getattr(value, n), f"{path}.{n}", depth + 1) for n in names}
    numpy = sys.modules.get("numpy")  # a numpy value cannot exist unless it was imported
    if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray):
        if value.dtype.kind not in "biufU":
            raise BadOutput(
                f"{path} is an array of {value.dtype}; JSON holds numbers, booleans and strings: "
                "convert it (complex: two arrays; dates: text)"
            )
        return _to_plain(value.tolist(), path, depth)
    raise BadOutput(
        f"{path} is {describe(value)}; JSON holds numbers, strings, lists and dicts: convert it, "
        "or declare another content type (arrays: application/x-npz; tables: "
        "application/vnd.apache.parquet; files: application/octet-stream)"
    )


def _check_key(key: object, path: str) -> str:
    if isinstance(key, str):
        return _check_text(key, path)
    raise BadOutput(
        f"a key of {path} is {describe(key)}; keys in JSON are strings: use str(key), or a list"
    )


def _check_text(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadOutput(
            f"{path} is {ascii(value)[:60]}, which is not valid Unicode ({error.reason}): decode "
            "the bytes it came from with errors='replace'"
        ) from error
    return str.__str__(value)


def _check_finite(value: float, path: str) -> float:
    if not math.isfinite(value):
        raise BadOutput(
            f"{path} is {float(value)}; JSON holds finite numbers only: return None where there is "
            "no value, or declare application/x-npz"
        )
    return float(value)
