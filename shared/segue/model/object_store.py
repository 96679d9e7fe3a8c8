"""The object store: the port through which catalogue and artifacts are accessed.

A store is opened at a location, such as ``gs://bucket/prefix`` or a folder; names are relative to
it, use ``/``, and cannot leave it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import msgspec

from segue.errors import ConfigurationError
from segue.model.media_file import MediaFile

ENOUGH = 64  # ranges
MAX_PROBES = 2_000  # each is one request
LAST = "\U0010ffff"


class Object(msgspec.Struct, frozen=True, kw_only=True):
    """An object's properties, as the store gives them without reading it."""

    name: str
    generation: int  # changes, and grows, each time the object is overwritten
    size_bytes: int
    stat: str | None = None  # of a file in a folder: a FileStat
    digest: str = ""  # of the content of a file in a folder, once it was read
    content_type: str | None = None
    checksum: str | None = None  # as the store gives it, such as crc32c:…; None if it gives none
    updated_at: float = 0.0  # seconds since the epoch
    metadata: Mapping[str, str] = {}

    def to_media_file(self, uri: str) -> MediaFile:
        """Return the version of a media file that this object is; ``uri`` names it in full.

        The version of a file in a folder that was not read is empty.
        """
        in_folder = self.stat is not None
        return MediaFile(
            uri=uri,
            version=self.digest if in_folder else str(self.generation),
            order=None if in_folder else self.generation,
            stat=self.stat,
            size_bytes=self.size_bytes,
            content_type=self.content_type,
            checksum=self.checksum,
        )


class LeftOutReason(StrEnum):
    """Why a file is left out: it was found or asked for, and cannot be processed."""

    MISSING = "missing"  # it was named, and there is no such file
    NOT_MEDIA = "not_media"  # it was named, and is not media of the graph
    NOT_UTF8 = "not_utf8"
    TOO_LONG = "too_long"
    BROKEN_LINK = "broken_link"
    SPECIAL_FILE = "special_file"
    UNMOUNTED = "unmounted"
    CHANGING = "changing"
    UNREADABLE = "unreadable"

    @classmethod
    def of(cls, error: OSError) -> LeftOutReason:
        """Return the reason that an error of a file system means."""
        return REASONS.get(error.errno or 0, cls.UNREADABLE)


REASONS = {
    errno.ENAMETOOLONG: LeftOutReason.TOO_LONG,
    errno.ELOOP: LeftOutReason.BROKEN_LINK,
    errno.ENOTDIR: LeftOutReason.BROKEN_LINK,
}

REMEDIES = {
    LeftOutReason.NOT_UTF8: "its name is not UTF-8; rename it",
    LeftOutReason.TOO_LONG: "its path is longer than the system allows; move it up",
    LeftOutReason.BROKEN_LINK: "it is a link that leads nowhere; repair or remove it",
    LeftOutReason.SPECIAL_FILE: "it is a pipe, a socket or a device, which are never opened",
    LeftOutReason.UNMOUNTED: "its folder is missing or empty, as its disk is not mounted; mount it",
    LeftOutReason.CHANGING: "it is being written; run again once it is complete",
    LeftOutReason.UNREADABLE: "it cannot be read; give this user permission, or check the disk",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A file that is left out, or a folder with all that is in it."""

    name: str  # of a folder with a "/" at its end; may have bytes that are not UTF-8
    reason: LeftOutReason

    @property
    def explanation(self) -> str:
        """What is wrong, and what to do."""
        return REMEDIES[self.reason]


LeaveOut = Callable[[LeftOut], None]


class ObjectStore(Protocol):
    """Objects by name.

    A missing object raises ``MissingInput``, an unreachable server ``Unavailable``, a full disk
    ``DiskFull``.
    """

    location: str  # the start of the URIs of its objects

    def uri(self, name: str) -> str:
        """Return the URI of an object."""

    def list(
        self, prefix: str = "", *, after: str = "", leave_out: LeaveOut | None = None
    ) -> Iterator[Object]:
        """Stream all objects whose names begin with a text, in the order of their UTF-8 bytes.

        They start behind the name ``after``, and have no metadata. Memory stays flat, however many
        there are, but for the files of one folder: half a kilobyte each. ``leave_out`` is called
        with what is there and cannot be an object; without it, only a folder that cannot be read is
        an error.
        """

    def stat(self, name: str) -> Object:
        """Return one object's properties, with its metadata."""

    def identify(self, name: str) -> Object:
        """Return one object's properties, with what identifies its content.

        In a bucket that is the generation; a file in a folder is read, and has a ``digest`` then.
        One that is being written meanwhile raises ``Superseded``.
        """

    def doubt_absence(self, name: str, *, stat: str | None) -> LeftOutReason | None:
        """Return why an object that is missing may exist nevertheless, or None if it does not.

        ``stat`` is what it had when it was seen last: a file whose disk is not mounted seems to be
        missing. A missing object of a bucket does not exist.
        """

    def read(self, name: str, *, generation: int | None = None) -> bytes:
        """Return an object's bytes; raise ``Superseded`` if a given generation is not current."""

    def read_part(
        self, name: str, *, start: int, length: int, generation: int | None = None
    ) -> bytes:
        """Return so many of an object's bytes from a position on, fewer at its end.

        ``Superseded`` is raised as by ``read``.
        """

    def fetch(self, name: str, *, version: str, stat: str | None, folder: str) -> str:
        """Return the path of a local file with the bytes of a version of a media file.

        The file is the object itself if the store is a folder, else a download into ``folder``; it
        must not be changed. If the object has other bytes, ``Superseded`` is raised; a file in a
        folder is read to find that out, unless it has the given ``stat``.
        """

    def create(
        self,
        name: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        replace: bool = False,
        generation: int | None = None,
    ) -> bool:
        """Write an object atomically if the name is free; return whether it was written.

        ``replace`` overwrites an existing one; with a ``generation``, only if that is the current
        one. In both cases nobody else's write is lost: of several writers that name the same
        generation, one succeeds.
        """

    def sync(self) -> None:
        """Return once all that was written to the store survives a power cut."""

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        """Delete an object (of a generation, if given); return whether it was there."""

    def close(self) -> None:
        """Close connections."""


def check_name(name: str) -> str:
    """Return an object's name, or raise if it could leave its store or cannot be stored."""
    parts = set(name.split("/"))
    if not name or "\0" in name or not parts.isdisjoint({"", ".", ".."}):
        raise ConfigurationError(
            f"{name!r} is not an object's name: it has an empty, '.' or '..' part, or a NUL; "
            "quote it first"
        )
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRange:
    """The names that start with a prefix, after one name up to and including another."""

    prefix: str
    after: str = ""  # "": from the first
    until: str | None = None  # None: to the last

    def list_objects(
        self, store: ObjectStore, *, leave_out: LeaveOut | None = None
    ) -> Iterator[Object]:
        """List the objects, in order."""

        def leave_out_inside(found: LeftOut) -> None:
            if leave_out is not None and (self.until is None or found.name <= self.until):
                leave_out(found)

        for found in store.list(self.prefix, after=self.after, leave_out=leave_out_inside):
            if self.until is not None and found.name > self.until:
                return
            yield found


def split_at_slash(prefix: str) -> list[NameRange]:
    """Return the ranges of the file or folder that a prefix names.

    ``music`` means the object ``music`` and all below ``music/``; not ``music-private/``, whose
    names lie between the two.
    """
    if not prefix or prefix.endswith("/"):
        return [NameRange(prefix=prefix)]
    return [NameRange(prefix=prefix, until=prefix), NameRange(prefix=f"{prefix}/")]


def list_objects(
    store: ObjectStore, prefix: str, *, after: str = "", leave_out: LeaveOut | None = None
) -> Iterator[Object]:
    """List the objects of the file or folder that a prefix names, after a name, in order."""
    for part in split_at_slash(prefix):
        yield from replace(part, after=after).list_objects(store, leave_out=leave_out)


def split_prefix(store: ObjectStore, prefix: str, *, enough: int = ENOUGH) -> list[NameRange]:
    """Split a file or folder by the names' next character, repeatedly, until there are enough.

    Together the ranges contain each name exactly once, also those that the store has not. A long
    common beginning costs one or two probes per character. As the distribution of names is unknown,
    the ranges may differ in size.
    """
    *exact, folder = split_at_slash(prefix)
    parts, probes = [folder.prefix], 0
    while len(parts) < enough and probes < MAX_PROBES:
        finer: list[str] = []
        for part in parts:
            longer = _add_next_character(store, part)
            probes += len(longer) + 1
            finer += longer or [part]
        if finer == parts:
            break
        parts = finer
    ranges = [
        NameRange(prefix=folder.prefix, after=after, until=until)
        for after, until in zip(["", *parts[1:]], [*parts[1:], None], strict=True)
    ]
    return [*exact, *ranges]


def _add_next_character(store: ObjectStore, prefix: str) -> list[str]:
    """Return the prefixes, longer by a character, of the names that are longer than a prefix."""
    parts: list[str] = []
    after = prefix
    while (found := next(iter(store.list(prefix, after=after)), None)) is not None:
        part = found.name[: len(prefix) + 1]
        if part in parts[-1:]:  # the rest of the name sorts behind LAST
            after = found.name
        else:
            parts.append(part)
            after = part + LAST
    return parts
