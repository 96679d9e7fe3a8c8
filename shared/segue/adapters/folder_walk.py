"""Walks a folder: its files in the order of their names, each once, however folders are linked.

A link to a folder inside the walked one is not followed, because its files have a name there. A
link that leads out is followed, unless an earlier one (in the order of names) led to the same
folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from segue.errors import ConfigurationError
from segue.model.media_file import is_unicode
from segue.model.object_store import LeaveOut, LeftOut, LeftOutReason

T = TypeVar("T")


class FoundFile(msgspec.Struct, frozen=True, kw_only=True):
    """A regular file; or a folder, whose name ends in ``/`` and which comes before its files."""

    name: str  # relative to the store
    path: str
    status: os.stat_result | None = None  # None: a folder
    is_link: bool = False


class FolderWalk:
    """One walk of a folder.

    Parameters
    ----------
    top : str
        The folder's path.
    base : str
        What the names of its files begin with, such as ``albums/``.
    prefix, after : str
        Only the names that begin with the one, and come after the other.
    leave_out : callable, optional
        Called with everything that is there and cannot be a media file, or cannot be read. Without
        it, a folder that cannot be read raises ``ConfigurationError``, the rest is ignored, and
        folders before ``after`` are not searched for links.
    """

    def __init__(
        self,
        top: str,
        base: str = "",
        *,
        prefix: str = "",
        after: str = "",
        leave_out: LeaveOut | None = None,
    ) -> None:
        self._top, self._base = top, base
        self._prefix, self._after = prefix, after
        self._leave_out = leave_out
        self._real_top = os.path.realpath(top).rstrip("/")
        self._entered: set[tuple[int, int]] = set()  # folders outside, by device and inode

    def __iter__(self) -> Iterator[FoundFile]:
        # A stack instead of recursion: a path may have two thousand parts.
        folders = [(self._list_entries(self._top, self._base), "")]
        while folders:
            entries, outside = folders[-1]
            for name, entry in entries:
                if not self._is_wanted(name):
                    continue
                if not name.endswith("/"):
                    found = self._stat_file(name, entry)
                    if found is not None:
                        yield found
                elif (real := self._enter(name, entry, outside)) is not None:
                    yield FoundFile(name=name, path=entry.path, is_link=entry.is_symlink())
                    folders.append((self._list_entries(entry.path, name), real))
                    break
            else:
                folders.pop()

    def _is_wanted(self, name: str) -> bool:
        is_folder = name.endswith("/")
        if not name.startswith(self._prefix) and not (is_folder and self._prefix.startswith(name)):
            return False
        if is_folder and (self._after.startswith(name) or self._leave_out is not None):
            return True
        return self._is_after(name)

    def _is_after(self, name: str) -> bool:
        return not self._after or os.fsencode(name) > os.fsencode(self._after)

    def _list_entries(self, folder: str, base: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """List files, and folders with a ``/`` after their names, in the order of names."""
        try:
            with os.scandir(folder) as entries:
                found = [
                    (f"{base}{entry.name}/" if _is_folder(entry) else base + entry.name, entry)
                    for entry in entries
                ]
        except (FileNotFoundError, NotADirectoryError):
            return iter(())
        except OSError as error:
            self._handle_error(base, folder, error)
            return iter(())
        found.sort(key=lambda pair: os.fsencode(pair[0]), reverse=True)
        return _drain(found)

    def _stat_file(self, name: str, entry: os.DirEntry[str]) -> FoundFile | None:
        try:
            found = entry.stat()
        except FileNotFoundError:
            if entry.is_symlink():
                self._report(name, LeftOutReason.BROKEN_LINK)
            return None  # else it was deleted since
        except OSError as error:
            self._handle_error(name, os.path.dirname(entry.path), error)
            return None
        if not stat.S_ISREG(found.st_mode):
            self._report(name, LeftOutReason.SPECIAL_FILE)
        elif not is_unicode(name):
            self._report(name, LeftOutReason.NOT_UTF8)
        else:
            return FoundFile(name=name, path=entry.path, status=found)
        return None

    def _enter(self, name: str, entry: os.DirEntry[str], outside: str) -> str | None:
        """Return the real path of a folder outside, "" for one inside, None for one to skip."""
        if not outside and not entry.is_symlink():
            return ""
        try:
            real = os.path.realpath(entry.path) if entry.is_symlink() else f"{outside}/{entry.name}"
            found = os.stat(entry.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._handle_error(name, entry.path, error)
            return None
        identity = (found.st_dev, found.st_ino)
        if f"{real}/".startswith(f"{self._real_top}/") or identity in self._entered:
            return None
        self._entered.add(identity)
        return real

    def _handle_error(self, name: str, folder: str, error: OSError) -> None:
        reason = LeftOutReason.of(error)
        is_top = folder == self._top and name == self._base
        if is_top or (self._leave_out is None and reason is LeftOutReason.UNREADABLE):
            raise ConfigurationError(
                f"the folder {folder!r} is not readable ({error.strerror}); give this user "
                "permission to read it, or check the disk"
            ) from error
        self._report(name, reason)

    def _report(self, name: str, reason: LeftOutReason) -> None:
        if self._leave_out is not None and self._is_after(name):
            self._leave_out(LeftOut(name=name, reason=reason))


def _drain(found: list[T]) -> Iterator[T]:
    """Yield what is in a list, from its end; an entry keeps its status until it is freed."""
    while found:
        yield found.pop()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed
        return False
