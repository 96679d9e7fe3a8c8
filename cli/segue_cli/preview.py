"""What an artifact holds, in a few words: for people who do not want to see all of it."""

from __future__ import annotations

import struct
from typing import Any

from segue.codec import decode
from segue.media.audio import Audio

PNG_SIZE = struct.Struct(">II")  # behind the signature and the head of the first chunk


def portrait(content_type: str, data: bytes) -> dict[str, Any]:
    """Describe the bytes of an artifact."""
    described: dict[str, Any] = {"content_type": content_type, "size_bytes": len(data)}
    if content_type == "image/png":
        width, height = PNG_SIZE.unpack_from(data, 16)
        return {**described, "width": width, "height": height}
    if content_type == "application/octet-stream":
        return described
    return {**described, **_of(decode(content_type, data))}


def _of(value: Any) -> dict[str, Any]:
    if isinstance(value, Audio):
        peak = float(abs(value.y).max()) if value.y.size else 0.0
        return {
            "duration_s": round(value.duration_s, 3),
            "sample_rate_hz": value.sr,
            "channels": value.channels,
            "peak": round(peak, 4),
        }
    if isinstance(value, dict) and all(hasattr(v, "dtype") for v in value.values()) and value:
        return {
            "arrays": {n: {"shape": list(a.shape), "dtype": str(a.dtype)} for n, a in value.items()}
        }
    if hasattr(value, "num_rows"):
        return {"rows": value.num_rows, "columns": list(value.column_names)}
    return {"value": value}
