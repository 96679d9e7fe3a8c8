"""Takes single files out of a wheel, a zip or a tar archive.

Nothing else of the archive is written, and nothing outside of the given folder, whatever the names
in the archive are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tarfile
import zipfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import IO, Self

from segue.errors import ConfigurationError, SegueError

BLOCK_BYTES = 2**20
MAX_HEADER_BYTES = 2**20  # of a tar archive's member
# What is damaged in an archive leads to these, or to none at all: a name that is too long, a file
# within a file, a negative position.
ARCHIVE_ERRNOS = (
    *(None, errno.EINVAL, errno.ENAMETOOLONG),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
)

# From the name in an archive to where the file is written; None: it is not wanted.
FindTarget = Callable[[str], str | None]


@dataclass(slots=True)
class Allowance:
    """How many bytes may still be written."""

    limit_bytes: int
    written: int = 0

    def copy(self, source: IO[bytes], path: str) -> None:
        """Write a file; raise ``ConfigurationError`` beyond the limit, whatever its header says."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as target:
            while block := source.read(BLOCK_BYTES):
                self.written += len(block)
                if self.written > self.limit_bytes:
                    raise ConfigurationError(
                        f"the model is larger than {self.limit_bytes:,} bytes; check 'source' and "
                        "'size_bytes'"
                    )
                target.write(block)


def extract(path: str, name: str, find_target: FindTarget, *, limit_bytes: int) -> list[str]:
    """Write the wanted files of an archive; return the names that they have in it.

    Raises ``ConfigurationError`` with the archive's name if it is none or is damaged, and
    ``OSError`` if its files cannot be written.
    """
    allowance = Allowance(limit_bytes)
    found = []
    try:
        with contextlib.closing(_iterate_files(path)) as files:
            for member, open_file in files:
                target = find_target(member)
                if target is not None:
                    with open_file() as file:
                        allowance.copy(file, target)
                    found.append(member)
    except Exception as error:
        # Of a damaged archive, the modules of Python raise anything, IndexError and TypeError, too.
        is_of_disk = isinstance(error, OSError) and error.errno not in ARCHIVE_ERRNOS
        if isinstance(error, SegueError) or is_of_disk:
            raise
        raise ConfigurationError(
            f"{name} is not an archive that can be read ({error}); name a .whl, .zip, .tar.gz or "
            ".tgz"
        ) from error
    return found


def select_path(wanted: str, target: str) -> FindTarget:
    """Return what finds the target of a file, or of all files in a folder (with a ``/`` last)."""

    def find(name: str) -> str | None:
        if not wanted.endswith("/"):
            return target if name == wanted else None
        if not name.startswith(wanted):
            return None
        parts = name.removeprefix(wanted).split("/")
        if {"", ".", ".."}.intersection(parts) or "\\" in name or "\0" in name:
            return None
        return os.path.join(target, *parts)

    return find


class _BoundedTarInfo(tarfile.TarInfo):
    """The header of a member, which may not be followed by a text of any size.

    ``tarfile`` reads such a text, a long name or what pax adds, at once: a small archive would fill
    the memory.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.size > MAX_HEADER_BYTES and not (info.isreg() or info.issparse()):
            raise tarfile.ReadError(f"a header of {info.size:,} bytes")
        return info


def _iterate_files(path: str) -> Generator[tuple[str, Callable[[], IO[bytes]]], None, None]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir():
                    yield info.filename, partial(archive.open, info)
        return
    with tarfile.open(path, "r|*", tarinfo=_BoundedTarInfo) as stream:
        for member in stream:
            if member.isreg():
                yield member.name, partial(_open_member, stream, member)


def _open_member(stream: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = stream.extractfile(member)
    assert file is not None
    return file
