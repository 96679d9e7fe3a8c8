"""The content types that an artifact may have; ``segue.codec`` has a codec for each.

They stand apart so that a graph can be read, by a Cloud Function say, without any codec.
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
