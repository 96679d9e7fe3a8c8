"""Writes values of results as JSON, those of tables and arrays too, for which JSON has no types.

Dates and times are text in ISO 8601, durations seconds, bytes text in base64, complex numbers
pairs, and anything else text. What is no finite number is null, as readers of JSON know no other
word for it.
"""

from __future__ import annotations

import base64
import math
from datetime import date, time, timedelta
from typing import Any

from segue.printable import encode_json


def encode_result(value: object) -> str:
    """Encode a value as strict JSON, with unprintable characters escaped."""
    try:
        return encode_json(value, default=to_json_type, allow_nan=False)
    except ValueError:  # of a number that is not finite
        return encode_json(_drop_infinite(value), default=to_json_type)


def to_json_type(value: object) -> Any:
    """Return what stands for a value that JSON has no type for."""
    match value:
        case date() | time():  # a datetime is a date
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return base64.b64encode(value).decode()
        case complex():
            return [value.real, value.imag]
    return str(value)


def _drop_infinite(value: Any) -> Any:
    """Return a value with nulls in place of numbers that are not finite."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case list() | tuple():
            return [_drop_infinite(item) for item in value]
        case dict():
            return {key: _drop_infinite(item) for key, item in value.items()}
        case complex():
            return _drop_infinite(to_json_type(value))
    return value
