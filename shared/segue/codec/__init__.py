"""Codecs between a job's value and the bytes of its artifact, one per content type.

==================================  =========  ====================================================
content type                        extension  value
==================================  =========  ====================================================
``audio/flac``                      flac       Audio, stored as 16-bit PCM
``audio/wav``                       wav        Audio, stored losslessly as 32-bit floats
``audio/midi``                      mid        the bytes of a Standard MIDI File
``application/json``                json       numbers, strings, lists, dicts; numpy and dataclasses
``application/x-npz``               npz        a dict of numpy arrays
``image/png``                       png        an image as an array of uint8, or PNG bytes
``image/jpeg``                      jpg        the same, compressed with loss; or JPEG bytes
``application/vnd.apache.parquet``  parquet    a table of pyarrow, pandas, polars …; or flat dicts
``application/octet-stream``        bin        bytes
==================================  =========  ====================================================

The same value gives the same bytes in every process. Besides the bytes, encoding returns the value
that decoding them would return; a child job in the same process gets that value, so it cannot tell
whether its parent ran just now or a year ago. Arrays in such values are read-only for the same
reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.codec.audio import FlacCodec, WavCodec
from segue.codec.encoded import BytesCodec, Encoded
from segue.codec.jpeg import JpegCodec
from segue.codec.json_value import JsonCodec
from segue.codec.midi import MidiCodec
from segue.codec.npz import NpzCodec
from segue.codec.parquet import ParquetCodec
from segue.codec.png import PngCodec
from segue.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import Any

    from segue.codec.encoded import Codec

__all__ = ["CODECS", "Encoded", "decode", "encode", "find_extension"]

# Most jobs need these, so they are imported early; other codecs import theirs at first use.
PRELOAD = ("numpy", "soundfile")

CODECS: dict[str, Codec] = {
    "audio/flac": FlacCodec(),
    "audio/wav": WavCodec(),
    "audio/midi": MidiCodec(),
    "application/json": JsonCodec(),
    "application/x-npz": NpzCodec(),
    "image/png": PngCodec(),
    "image/jpeg": JpegCodec(),
    "application/vnd.apache.parquet": ParquetCodec(),
    "application/octet-stream": BytesCodec(),
}


def encode(content_type: str, value: Any) -> Encoded:
    """Turn a value into bytes.

    Parameters
    ----------
    content_type : str
        One of the table above.
    value
        The value that the job returned.

    Returns
    -------
    Encoded
        The bytes, and the value that `decode` returns for them.

    Raises
    ------
    BadOutput
        If the content type cannot hold the value.
    ConfigurationError
        If the content type is unknown.
    """
    return _find_codec(content_type).encode(value)


def decode(content_type: str, data: bytes) -> Any:
    """Turn the bytes of an artifact back into the value.

    Raises
    ------
    CorruptMedia
        If the bytes are damaged, or of another content type.
    ConfigurationError
        If the content type is unknown.
    """
    return _find_codec(content_type).decode(data)


def find_extension(content_type: str) -> str:
    """Return the file name extension of a content type, without the dot."""
    return _find_codec(content_type).extension


def _find_codec(content_type: str) -> Codec:
    codec = CODECS.get(content_type)
    if codec is None:
        known = ", ".join(CODECS)
        raise ConfigurationError(f"content type {content_type!r} is unknown: use one of {known}")
    return codec
