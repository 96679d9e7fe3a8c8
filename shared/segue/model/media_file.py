"""A media file's identity: bucket and name identify the file, the generation its version."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Sequence

import msgspec

from segue.errors import ConfigurationError

SCHEMES = ("gs://", "file://")


class MediaFile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One version of one source object, as listings and events describe it."""

    uri: str  # gs://bucket/name or file:///folder/name; not percent-encoded
    generation: int  # grows each time the object is overwritten
    size_bytes: int = 0
    content_type: str | None = None
    checksum: str | None = None  # as the store gives it, such as crc32c:…; None if it gives none

    @property
    def id(self) -> str:
        """The ledger's key."""
        return uri_to_file_id(self.uri)

    @property
    def bucket(self) -> str:
        """The bucket; empty for a file in a folder."""
        return split_uri(self.uri)[0]

    @property
    def name(self) -> str:
        """The object's name in its bucket; for a file in a folder, its whole path."""
        return split_uri(self.uri)[1]


def uri_to_file_id(uri: str) -> str:
    """Return the ledger's key for a file: a hash, so that no key range becomes hot."""
    return hashlib.blake2b(uri.encode(), digest_size=16).hexdigest()


def split_uri(uri: str) -> tuple[str, str]:
    """Split ``gs://bucket/name`` into bucket and name; ``file:///folder/name`` has no bucket."""
    if uri.startswith("file:///"):
        return "", uri[8:]
    if uri.startswith("gs://"):
        bucket, _, name = uri[5:].partition("/")
        if bucket:
            return bucket, name
    raise ConfigurationError(
        f"{uri!r} is not a location; write gs://bucket/name or file:///folder/name"
    )


def find_bucket_location(uri: str) -> str:
    """Return the location of a URI's bucket: ``gs://bucket`` or ``file:///``."""
    bucket, _ = split_uri(uri)
    return f"gs://{bucket}" if bucket else "file:///"


def build_name_filter(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return a filter for names that match patterns such as ``*.flac``, ignoring case.

    Without patterns, every name matches.
    """
    if not patterns:
        return lambda _name: True
    suffixes = tuple(p[1:].casefold() for p in patterns if re.fullmatch(r"\*[^*?\[\]]+", p))
    if len(suffixes) == len(patterns):
        return lambda name: name.casefold().endswith(suffixes)
    expression = "|".join(fnmatch.translate(p.casefold()) for p in patterns)
    matches = re.compile(expression).match
    return lambda name: matches(name.casefold()) is not None
