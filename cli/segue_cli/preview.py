"""Describes the content of an artifact briefly, such as the length of a sound."""

from __future__ import annotations

import struct
from typing import Any

from segue.codec import decode
from segue.media.audio import Audio

PNG_SIZE = struct.Struct(">II")  # follows the signature and the header of the first chunk


def preview_artifact(content_type: str, data: bytes) -> dict[str, Any]:
    """Return a summary of the bytes of an artifact."""
    preview: dict[str, Any] = {"content_type": content_type, "size_bytes": len(data)}
    if content_type == "image/png":
        width, height = PNG_SIZE.unpack_from(data, 16)
        return {**preview, "width": width, "height": height}
    if content_type == "application/octet-stream":
        return preview
    return {**preview, **_preview_value(decode(content_type, data))}


def _preview_value(value: Any) -> dict[str, Any]:
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
