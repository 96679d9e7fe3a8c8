"""Encodes values between Terraform and a provider: msgpack, with a mark for unknown ones."""

from __future__ import annotations

import json
from typing import Any, Final

import msgpack
from tf.gen import tfplugin_pb2 as pb


class Unknown:
    """A value that is known only after the resource is created."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()
UNKNOWN_CODE = 0  # of msgpack's extensions, in Terraform's encoding


def decode(value: pb.DynamicValue) -> Any:
    """Decode a value; refinements of an unknown one are dropped."""
    if value.msgpack:
        return msgpack.unpackb(
            value.msgpack, ext_hook=lambda _code, _data: UNKNOWN, strict_map_key=False
        )
    return json.loads(value.json) if value.json else None


def encode(value: Any) -> pb.DynamicValue:
    """Encode a value."""
    return pb.DynamicValue(msgpack=msgpack.packb(value, default=_encode_unknown))


def _encode_unknown(value: object) -> msgpack.ExtType:
    if isinstance(value, Unknown):
        return msgpack.ExtType(UNKNOWN_CODE, b"\0")
    raise TypeError(f"{value!r} is not a value of Terraform's")
