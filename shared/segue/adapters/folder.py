"""A folder as an object store: whole objects or none, generations, and metadata.

An object is written to a file without a name, and gets its name in one step, so that a killed
writer leaves nothing behind. Metadata stands in extended attributes where the file system has them,
otherwise in a file beside the object.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mimetypes
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from segue.errors import (
    ConfigurationError,
    Contended,
    DiskFull,
    MissingInput,
    Superseded,
    Unavailable,
)
from segue.model.location import location_of
from segue.model.object_store import Object, check_name

ATTRIBUTE = "user.segue"
SIDECAR = ".segue-metadata"
UNFINISHED = ".segue-unfinished-"
TRIES = 100
FULL = {errno.ENOSPC, errno.EDQUOT}
NO_ATTRIBUTES = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSPC, errno.E2BIG}
NO_NAMELESS_FILES = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.EXDEV}


class FolderStore:
    """The object store on a file system.

    A generation is the time of the file's last change in nanoseconds. The modification time would
    not do: renaming an older file over a newer one, or copying with times preserved, sets it back.
    """

    def __init__(self, location: str, *, metadata: Literal["auto", "sidecar"] = "auto") -> None:
        self.location = location_of(location)
        self._root = self.location.removeprefix("file://").rstrip("/")
        self._attributes = metadata == "auto" and hasattr(os, "setxattr")
        self._nameless = hasattr(os, "O_TMPFILE")
        self._inside: set[str] = set()  # folders that are known not to lead out of this one

    def uri(self, name: str) -> str:
        return f"file://{self._root}/{name}"

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}"

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[Object]:
        folder = prefix.rpartition("/")[0]
        if any(part in {".", ".."} for part in prefix.split("/")):
            raise ConfigurationError(f"the prefix {prefix!r} has a '.' or '..' part; leave it out")
        top = f"{self._root}/{folder}" if folder else (self._root or "/")
        yield from self._walk(top, f"{folder}/" if folder else "", prefix, after, ())

    def _walk(
        self, folder: str, base: str, prefix: str, after: str, above: tuple[tuple[int, int], ...]
    ) -> Iterator[Object]:
        for key, entry in _entries(folder, base):
            if entry is None:
                continue
            if key.endswith("/"):
                if not (key.startswith(prefix) or prefix.startswith(key)) or _passed(key, after):
                    continue
                here = _identity(entry.path)
                if (
                    here is not None and here not in above
                ):  # a link to a folder above would never end
                    yield from self._walk(entry.path, key, prefix, after, (*above, here))
            elif key.startswith(prefix) and (not after or os.fsencode(key) > os.fsencode(after)):
                try:
                    found = entry.stat()
                except FileNotFoundError:  # deleted since, or a link to nothing
                    continue
                yield Object(
                    name=key,
                    generation=found.st_ctime_ns,
                    size_bytes=found.st_size,
                    updated_at=found.st_mtime,
                )

    def stat(self, name: str) -> Object:
        path = self._path(name)
        with _errors(path):
            found = os.stat(path)
            if not os.path.isfile(path):
                raise IsADirectoryError(errno.EISDIR, "is a folder", path)
            stored = self._metadata(path)
        return Object(
            name=name,
            generation=found.st_ctime_ns,
            size_bytes=found.st_size,
            content_type=stored.get("content_type") or mimetypes.guess_type(name)[0],
            updated_at=found.st_mtime,
            metadata=stored.get("metadata", {}),
        )

    def _metadata(self, path: str) -> dict[str, Any]:
        try:
            data = os.getxattr(path, ATTRIBUTE) if hasattr(os, "getxattr") else None
        except OSError:
            data = None
        if data is None:
            try:
                with open(path + SIDECAR, "rb") as file:
                    data = file.read()
            except OSError:
                return {}
        stored: dict[str, Any] = json.loads(data)
        return stored

    def read(self, name: str, *, generation: int | None = None) -> bytes:
        path = self._path(name)
        with _errors(path), open(path, "rb") as file:
            _check(file.fileno(), path, generation)
            data = file.read()
            _check(file.fileno(), path, generation)
            return data

    def local(self, name: str, *, generation: int, folder: str) -> str:  # noqa: ARG002 - nothing is copied
        path = self._path(name)
        with _errors(path):
            _check(path, path, generation)
        return path

    def create(
        self,
        name: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        replace: bool = False,
    ) -> bool:
        path = self._path(name)
        folder = path.rpartition("/")[0]
        stored = json.dumps({"content_type": content_type, "metadata": dict(metadata)}).encode()
        with _errors(path):
            for _ in range(TRIES):
                self._make(folder)
                # Who deletes a folder's last object deletes the folder, perhaps just now.
                with contextlib.suppress(FileNotFoundError):
                    return self._write(path, folder, data, stored, replace=replace)
        raise Contended(f"the folder of {path!r} is deleted again and again; try again later")

    def _write(self, path: str, folder: str, data: bytes, stored: bytes, *, replace: bool) -> bool:
        if replace:
            self._write_named(path, folder, data, stored, replace=True)
            return True
        try:
            if not self._nameless or not self._write_nameless(path, folder, data, stored):
                self._write_named(path, folder, data, stored, replace=False)
        except FileExistsError:
            return False
        return True

    def _make(self, folder: str) -> None:
        """Make a folder and those above it, and see that none of them leads out through a link."""
        above = folder.rpartition("/")[0]
        if above not in self._inside and os.path.isdir(above):
            self._check_inside(above)
        try:
            os.mkdir(folder)
        except FileExistsError:
            if folder not in self._inside:
                self._check_inside(folder)
        except FileNotFoundError:
            self._make(above)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)

    def _check_inside(self, folder: str) -> None:
        root = os.path.realpath(self._root or "/")
        real = os.path.realpath(folder)
        within = real == root or real.startswith(root.rstrip("/") + "/")
        if not within and len(folder) >= len(self._root):
            raise ConfigurationError(
                f"{folder!r} leads out of {self._root!r} through a link; remove the link"
            )
        if len(self._inside) > 10_000:
            self._inside.clear()
        self._inside.add(folder)

    def _write_nameless(self, path: str, folder: str, data: bytes, stored: bytes) -> bool:
        """Write through a file without a name; answers False where the file system has none."""
        try:
            handle = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666)
        except OSError as error:
            if error.errno not in NO_NAMELESS_FILES or not os.path.isdir(folder):
                raise
            self._nameless = False
            return False
        try:
            _write(handle, data)
            described = self._describe(handle, stored)
            # The handle as src_dir_fd is what makes Python call linkat, which follows the link
            # under /proc.
            os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle, follow_symlinks=True)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in NO_NAMELESS_FILES or not os.path.isdir(folder):
                raise
            self._nameless = False
            return False
        finally:
            os.close(handle)
        if not described:
            self._describe_beside(path, folder, stored)
        return True

    def _write_named(
        self, path: str, folder: str, data: bytes, stored: bytes, *, replace: bool
    ) -> None:
        unfinished = self._unfinished(folder)
        handle = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            try:
                _write(handle, data)
                described = self._describe(handle, stored)
                if replace:
                    _outdate(handle, path)
            finally:
                os.close(handle)
            if replace:
                os.replace(unfinished, path)
            else:
                os.link(unfinished, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
        if not described:
            self._describe_beside(path, folder, stored)

    @staticmethod
    def _unfinished(folder: str) -> str:
        """A name that no other store, thread or process has, and none had before it was killed."""
        return f"{folder}/{UNFINISHED}{os.urandom(8).hex()}"

    def _describe(self, handle: int, stored: bytes) -> bool:
        """Keep what is said of an object in its attributes; answers whether that could be."""
        if self._attributes:
            try:
                os.setxattr(handle, ATTRIBUTE, stored)
            except OSError as error:
                if error.errno not in NO_ATTRIBUTES:
                    raise
                # An attribute that is too long for this file system says nothing about the next
                # object's.
                self._attributes = error.errno in {errno.ENOSPC, errno.E2BIG}
            else:
                return True
        return False

    def _describe_beside(self, path: str, folder: str, stored: bytes) -> None:
        """Keep it in a file beside the object, once it is sure whose object it is."""
        unfinished = self._unfinished(folder)
        beside = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        try:
            _write(beside, stored)
        finally:
            os.close(beside)
        os.replace(unfinished, path + SIDECAR)

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        path = self._path(name)
        try:
            with _errors(path):
                _check(path, path, generation)
                os.unlink(path)
        except (MissingInput, Superseded):
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + SIDECAR)
        folder = path.rpartition("/")[0]
        while len(folder) > len(self._root):  # empty folders are no objects; leave none behind
            try:
                os.rmdir(folder)
            except OSError:
                break
            folder = folder.rpartition("/")[0]
        return True

    def close(self) -> None:
        """Nothing is held open."""


def _entries(folder: str, base: str) -> list[tuple[str, os.DirEntry[str] | None]]:
    """A folder's files and folders (with a ``/`` behind their names), in the order of their
    objects' names.
    """
    found: list[tuple[str, os.DirEntry[str] | None]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(UNFINISHED) or name.endswith(SIDECAR):
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError:
                    continue
                found.append((f"{base}{name}/" if is_folder else base + name, entry))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        return []
    except PermissionError as error:
        raise ConfigurationError(
            f"the folder {folder!r} may not be read; give this user the right to read it"
        ) from error
    ascii_only = all(key.isascii() for key, _ in found)
    found.sort(key=_first if ascii_only else _first_bytes)
    return found


def _first(pair: tuple[str, object]) -> str:
    return pair[0]


def _first_bytes(pair: tuple[str, object]) -> bytes:
    return os.fsencode(pair[0])


def _passed(key: str, after: str) -> bool:
    """Whether all names in a folder come before ``after``."""
    return bool(after) and not after.startswith(key) and os.fsencode(key) < os.fsencode(after)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check(file: int | str, path: str, generation: int | None) -> None:
    if generation is not None and (found := os.stat(file).st_ctime_ns) != generation:
        raise Superseded(
            f"{path!r} has generation {found}, not {generation}: it was overwritten; its new "
            "version is worked on next"
        )


def _outdate(handle: int, path: str) -> None:
    """See that a file is younger than the one it will replace: file systems' clocks are coarse."""
    try:
        old_ns = os.stat(path).st_ctime_ns
    except FileNotFoundError:
        return
    while os.fstat(handle).st_ctime_ns <= old_ns:
        time.sleep(0.001)
        os.utime(handle)


def _write(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    """Say in Segue's terms what the file system said."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise MissingInput(f"{path!r} does not exist as a file; it was moved or deleted") from error
    except PermissionError as error:
        raise MissingInput(
            f"{path!r} may not be used ({error.strerror}); give this user the right to it"
        ) from error
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise
        if error.errno in FULL:
            raise DiskFull(f"no room is left for {path!r}; free some, and run again") from error
        if error.errno == errno.ENAMETOOLONG:
            raise ConfigurationError(f"{path!r} is too long a name for this file system") from error
        raise Unavailable(f"{path!r}: {error.strerror}; look after the device") from error
