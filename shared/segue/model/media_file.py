"""A media file's identity, and the URIs that users' paths and prefixes stand for.

The URI identifies the file, ``version`` its content, and ``order`` tells which version is newer. In
a bucket, both are the object's generation. In a folder, the version is a hash of the content, and
the ledger assigns the order; ``stat`` tells, without reading the file, that it is the same.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import msgspec

from segue.errors import ConfigurationError

MAX_ORDER = 2**63 - 1  # what a ledger can store
COARSE = "0000000"  # how a time ends that has no more than hundredths of a second
UNDECODED = re.compile("[\udc80-\udcff]")  # bytes of file names that are not UTF-8


class MediaFile(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One version of one source object, as listings and events describe it."""

    uri: str  # gs://bucket/name or file:///folder/name; not percent-encoded
    version: str  # of the content; compared for equality only; "": it was not read yet
    order: int | None = None  # grows with each version; None: the ledger assigns it
    stat: str | None = None  # of a file in a folder: a FileStat
    size_bytes: int = 0
    content_type: str | None = None
    checksum: str | None = None  # as the store gives it, such as crc32c:…; None if it gives none

    @property
    def bucket(self) -> str:
        """The bucket; empty for a file in a folder."""
        return split_uri(self.uri)[0]

    @property
    def is_in_folder(self) -> bool:
        """Whether it is a file in a folder, and not an object in a bucket."""
        return self.uri.startswith("file:///")

    @property
    def name(self) -> str:
        """The object's name in its bucket; for a file in a folder, its whole path."""
        return split_uri(self.uri)[1]


class FileStat(NamedTuple):
    """What changes whenever a file's content does; as text it is compared for equality only.

    Other operations change it, too: it says that a file is the same, and never that it is not.
    """

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """Return that of a file."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return that of a media file or record."""
        return cls(*map(int, text.split(":")))

    def __str__(self) -> str:
        return "{}:{}:{}:{}:{}".format(*self)


def is_same_stat(one: str, other: str) -> bool:
    """Whether two stats say that a file is the same, perhaps on a device with another number.

    Systems number devices anew, when they or a container start, or a disk is mounted. Inode, size
    and times to the nanosecond identify the file nevertheless, and its content, as no change leaves
    its change time as it is: what differs from a snapshot or an image was changed since that was
    taken. Where times are coarser, as on FAT or in a packed image, the change time may be no time
    of a change, and the inode only counted: two disks may then have the same.
    """
    if one == other:
        return True
    rest = one.partition(":")[2]
    return bool(rest) and rest == other.partition(":")[2] and not rest.endswith(COARSE)


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


def parse_location(text: str) -> str:
    """Convert a path or URL to a location: a path becomes absolute, a URL stays as it is."""
    if not is_unicode(text):
        raise ConfigurationError(f"the name '{format_name(text)}' is not UTF-8; rename it")
    if text.startswith("gs://"):
        return text
    path = text.removeprefix("file://") if text.startswith("file:///") else text
    return "file://" + os.path.abspath(os.path.expanduser(path))


def parse_prefix(text: str) -> str:
    """Convert a prefix to a URI prefix: a file, or a folder with all that is in it.

    It ends in ``/`` if it is known to be a folder.
    """
    location = parse_location(text)
    if location.startswith("gs://"):
        split_uri(location)
        return location if "/" in location[5:] else f"{location}/"
    folder = text.endswith("/") or os.path.isdir(location.removeprefix("file://"))
    return f"{location.removesuffix('/')}/" if folder else location  # "/" has a slash already


def resolve_prefix(text: str) -> str:
    """Convert a prefix to a URI prefix; a local one must exist."""
    uri = parse_prefix(text)
    if uri.startswith("file://"):
        try:
            os.stat(uri.removeprefix("file://"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ConfigurationError(
                f"there is no file or folder {text!r}; check the path"
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"{text!r} is not accessible ({error.strerror}); check the path and its permissions"
            ) from error
    return uri


def is_below(uri: str, prefix: str) -> bool:
    """Whether a URI is, or is below, the file or folder that a prefix names; "" is everything.

    ``gs://bucket/music`` has nothing to do with ``gs://bucket/music-private/song.wav``.
    """
    if not prefix or prefix.endswith("/"):
        return uri.startswith(prefix)
    return uri == prefix or uri.startswith(f"{prefix}/")


def list_file_uris(text: str, catalogue: str | None) -> list[str]:
    """List the URIs that a path, a URI or a name below the catalogue may mean, likeliest first."""
    location = parse_location(text)
    split_uri(location)
    relative = not text.startswith(("gs://", "file://", "/", "~"))
    if not relative or not catalogue:
        return [location]
    below = f"{parse_location(catalogue).rstrip('/')}/{text.removeprefix('./')}"
    here = os.path.exists(location.removeprefix("file://"))
    return list(dict.fromkeys([location, below] if here else [below, location]))


def is_unicode(text: str) -> bool:
    """Whether text is Unicode; a file system may have names that are not, which no URI can have."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def format_name(name: str) -> str:
    """Return a name as text that can be encoded; its bytes that are not UTF-8 become ``\\xe9``."""
    name = UNDECODED.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", name)
    return name.encode(errors="backslashreplace").decode()


def build_name_filter(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return a filter for names that match patterns such as ``*.flac``, ignoring case.

    Without patterns, every name matches.
    """
    if not patterns:
        return lambda _name: True
    expression = "|".join(fnmatch.translate(p.casefold()) for p in patterns)
    matches = re.compile(expression).match
    return lambda name: matches(name.casefold()) is not None
