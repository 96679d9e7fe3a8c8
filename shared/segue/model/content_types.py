"""The content types that an artifact may have; ``segue.codec`` has a codec for each.

They have their own module so that a Cloud Function, say, can read a graph without any codec.
"""

from __future__ import annotations

CONTENT_TYPES = (
    "audio/flac",
    "audio/wav",
    "application/json",
    "application/x-npz",
    "image/png",
    "application/vnd.apache.parquet",
    "application/octet-stream",
)
