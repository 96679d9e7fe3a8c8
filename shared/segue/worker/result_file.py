"""Files that a job returns in place of their bytes, which become the artifact.

A path or a file that is open counts, if the file is in the temporary folder of the job's process,
or is the job's input: what else is on the machine is no result, wherever a link in an archive, or a
name in a file's tags, may lead. The file is read from its first byte to its last, however far it
was written or read before, and removed once its bytes are written, unless it is the input.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import tempfile
from typing import TYPE_CHECKING, Any

from segue.codec.encoded import describe
from segue.errors import BadOutput
from segue.media.memory import require_memory
from segue.model.return_type import FILE_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable

REMEDY = (
    "write results below tempfile.gettempdir(), such as with tempfile.NamedTemporaryFile, or "
    "return their bytes"
)
# Class of tempfile.NamedTemporaryFile(), which is no class of io.
_NamedFile = tempfile._TemporaryFileWrapper  # noqa: SLF001 - typeshed names it, too


def is_file(value: object) -> bool:
    """Return whether a value is a path, or a file that is open."""
    return isinstance(value, os.PathLike | io.IOBase | _NamedFile)


class ResultFiles:
    """Reads the files that jobs return in one process, and removes them."""

    def __init__(self, folder: str) -> None:
        self._folder = folder  # of the process's temporary files
        self._read: set[str] = set()
        self._opened: list[Any] = []

    def read(self, value: Any, content_type: str, source: str | None) -> bytes:
        """Return the bytes of a file that a job returned.

        Parameters
        ----------
        value
            A path, or a file that is open.
        content_type : str
            Of the output.
        source : str, optional
            The path of the job's input, if it is a file.

        Raises
        ------
        BadOutput
            If the content type has no bytes of its own, or the file is no regular one, is opened as
            text, or is neither in the folder nor the input.
        TooLarge
            If it does not fit into what is left of the job's memory.
        """
        if content_type not in FILE_TYPES:
            raise BadOutput(
                f"the job returned {describe(value)}; {content_type} holds values, and a file only "
                f"{', '.join(FILE_TYPES)}: return the value, or declare one of these"
            )
        if isinstance(value, os.PathLike):
            return self._read_path(os.fspath(value), source)
        self._opened.append(value)
        return self._read_open(value, source)

    def remove(self) -> None:
        """Close and remove the files that were read, unless they are inputs."""
        while self._opened:
            with contextlib.suppress(OSError, ValueError):
                self._opened.pop().close()
        while self._read:
            with contextlib.suppress(OSError):
                os.unlink(self._read.pop())

    def _read_path(self, name: str | bytes, source: str | None) -> bytes:
        if "\0" in os.fsdecode(name):
            raise BadOutput(f"the job returned {os.fsdecode(name)!r}, which is no path: {REMEDY}")
        path = os.path.realpath(os.fsdecode(name))
        is_own = path.startswith(os.path.realpath(self._folder) + os.sep)
        is_source = source is not None and path == os.path.realpath(source)
        if not (is_own or is_source):
            raise BadOutput(
                f"the job returned the path {os.fsdecode(name)!r}, which is neither in the job's "
                f"temporary folder nor its input: {REMEDY}"
            )
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise BadOutput(
                f"the job returned the path {os.fsdecode(name)!r}, which cannot be read "
                f"({error.strerror}): return the path of a file that exists"
            ) from error
        if is_own and not is_source:
            self._read.add(path)
            if os.fstat(file).st_nlink > 1 and not stat.S_ISDIR(os.fstat(file).st_mode):
                os.close(file)
                raise BadOutput(
                    f"the job returned the path {os.fsdecode(name)!r}, a file that has another "
                    "name elsewhere, too: return a copy of it"
                )
        return _read_whole(file, os.fsdecode(name))

    def _read_open(self, value: Any, source: str | None) -> bytes:
        if isinstance(value, io.BytesIO) and not value.closed:
            return value.getvalue()
        if hasattr(value, "encoding"):  # what tempfile returns has it if it was opened as text
            raise BadOutput(f"the job returned {describe(value)}, opened as text: open it with 'b'")
        if not _is_plain(value):
            raise BadOutput(
                f"the job returned {describe(value)}, which has no bytes that are those of a file: "
                "close it and return its path, or return the bytes"
            )
        number = None
        if not value.closed:
            with contextlib.suppress(OSError, ValueError):  # a file that is only read, or no file
                value.flush()
            number = _try(value.fileno)
        name = getattr(value, "name", None)
        if number is not None and os.fstat(number).st_nlink == 0:
            # It never had a name, or has none any more: nobody else can mean it.
            return _read_whole(os.dup(number), "a file without a name")
        if not isinstance(name, str | bytes):
            raise BadOutput(f"the job returned {describe(value)}, which is no file: {REMEDY}")
        if number is not None and not _is_same(number, name):
            raise BadOutput(
                f"the job returned {describe(value)}, which is not at its path any more"
            )
        return self._read_path(name, source)


def _read_whole(number: int, name: str) -> bytes:
    """Read a file from its beginning, if it is a regular one, and close it."""
    try:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode):
            what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
            raise BadOutput(f"the job returned {name!r}, which is {what}: return a file")
        require_memory(found.st_size, f"the result {name!r} of {found.st_size:,} bytes")
        with open(number, "rb", buffering=0, closefd=False) as file:
            file.seek(0)
            return file.read()
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        message = f"the job returned {name!r}, opened for writing only: open it with 'w+b'"
        raise BadOutput(message) from error
    finally:
        os.close(number)


def _is_plain(value: Any) -> bool:
    """Return whether what a file object reads is what is on the disk: gzip's, say, unpacks it."""
    file = value.file if isinstance(value, _NamedFile) else value
    is_raw = isinstance(getattr(file, "raw", file), io.FileIO)
    return is_raw or isinstance(file, tempfile.SpooledTemporaryFile)


def _is_same(number: int, name: str | bytes) -> bool:
    try:
        return os.path.samestat(os.fstat(number), os.stat(name))
    except OSError:
        return False


def _try(action: Callable[[], int]) -> int | None:
    try:
        return action()
    except (OSError, ValueError):  # of io.UnsupportedOperation, too
        return None
