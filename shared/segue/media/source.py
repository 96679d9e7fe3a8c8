"""Opens the local copy of a media file, whatever is at its path."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from segue.errors import CorruptMedia, MissingInput

if TYPE_CHECKING:
    from typing import BinaryIO


def open_source(path: str, uri: str) -> BinaryIO:
    """Open a media file to be read.

    Parameters
    ----------
    path : str
        The path of its local copy.
    uri : str
        Its URI, for errors.

    Raises
    ------
    MissingInput
        If it does not exist, is a folder, or is not readable.
    CorruptMedia
        If it is a pipe or a device, which is not waited for, or is empty.
    """
    try:
        file = open(path, "rb", opener=open_at_once)  # noqa: SIM115 - the caller closes it
    except OSError as error:
        raise MissingInput(f"{uri}: its local copy cannot be read: {error.strerror}") from error
    found = os.fstat(file.fileno())
    if stat.S_ISREG(found.st_mode) and found.st_size > 0:
        return file
    file.close()
    what = "empty file" if stat.S_ISREG(found.st_mode) else "not a file, but a pipe or a device"
    raise CorruptMedia(f"{uri}: {what}")


def open_at_once(path: str, flags: int) -> int:
    """Open a file like `os.open`, but do not wait for a pipe's writer, or for a device."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
