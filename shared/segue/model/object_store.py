"""The object store: the port that catalogue and artifacts are reached through.

A store is opened at a location, such as ``gs://bucket/prefix`` or a folder; names are relative to
it, use ``/``, and cannot leave it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from segue.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Object:
    """What a store tells of one object without reading it."""

    name: str
    generation: int  # changes, and grows, each time the object is overwritten
    size_bytes: int
    content_type: str | None = None
    checksum: str | None = None  # as the store gives it, such as crc32c:…; None where it gives none
    updated_at: float = 0.0  # seconds since the epoch
    metadata: Mapping[str, str] = field(default_factory=dict)


class ObjectStore(Protocol):
    """Objects by name.

    A missing one raises ``MissingInput``, a server that is away ``Unavailable``, a full disk
    ``DiskFull``.
    """

    location: str  # with which the URIs of its objects start

    def uri(self, name: str) -> str:
        """The URI of an object."""

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[Object]:
        """Stream all objects below a prefix, in the order of their names' UTF-8 bytes.

        They start behind the name ``after``. Metadata is not filled. Memory stays flat, however
        many there are.
        """

    def stat(self, name: str) -> Object:
        """Tell of one object, with its metadata."""

    def read(self, name: str, *, generation: int | None = None) -> bytes:
        """Return an object's bytes; with a generation, those of just that or ``Superseded``."""

    def local(self, name: str, *, generation: int, folder: str) -> str:
        """Return the path of a local file with just that generation's bytes, or ``Superseded``.

        The file is the object itself where the store is a folder, and a download into ``folder``
        otherwise; it must not be changed.
        """

    def create(
        self,
        name: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        replace: bool = False,
    ) -> bool:
        """Write an object whole or not at all, if none has the name; answers whether it did.

        ``replace`` overwrites.
        """

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        """Remove an object (of that generation, if one is given); answers whether it was there."""

    def close(self) -> None:
        """Let go of connections."""


def check_name(name: str) -> str:
    """Return an object's name, or refuse one that could leave its store or that none could hold."""
    parts = name.split("/")
    if not name or "\0" in name or any(p in {"", ".", ".."} for p in parts):
        raise ConfigurationError(
            f"{name!r} is not an object's name: it has an empty, '.' or '..' part, or a NUL; "
            "quote it first"
        )
    return name
