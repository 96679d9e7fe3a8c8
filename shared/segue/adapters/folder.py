"""The object store in a folder: atomic writes, generations, metadata, and digests.

An object is written to a file without a name and then linked to its name in one step, so a killed
writer leaves nothing behind. Metadata is in extended attributes if the file system has them, else
in a file beside the object. Whoever replaces or deletes a certain generation locks the folder
meanwhile, as the file system has no such operation.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import mimetypes
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from segue.adapters.folder_walk import FolderWalk
from segue.errors import (
    ConfigurationError,
    Contended,
    DiskFull,
    MissingInput,
    Superseded,
    Unavailable,
)
from segue.model.media_file import FileStat, is_same_stat, parse_location
from segue.model.object_store import LeaveOut, LeftOutReason, Object, check_name

XATTR_NAME = "user.segue"
SIDECAR = ".segue-metadata"
UNFINISHED = ".segue-unfinished-"
ATTEMPTS = 100
READINGS = 3  # of a file that changes while it is read
DIGEST_BYTES = 12
TICK_S = 0.02  # of the clocks of file systems, at most
COARSE_TICK_S = 2.0  # of those that keep no fractions of a second
PROBE_BYTES = 4096
DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
XATTR_UNSUPPORTED = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.ENOSPC, errno.E2BIG}
O_TMPFILE_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL, errno.EXDEV}


class _StoredMetadata(msgspec.Struct):
    """What is stored beside an object's bytes; of a media file, others may have written it."""

    content_type: str | None = None
    metadata: dict[str, str] = {}


_decode_metadata = msgspec.json.Decoder(_StoredMetadata).decode


class FolderStore:
    """The object store on a file system.

    A generation is the time of the file's last status change (ctime) in nanoseconds: enough for
    objects that are only written by this store. Media files are changed by others, who may swap
    folders and restore times: they are identified by the digest of their content.
    """

    def __init__(self, location: str, *, metadata: Literal["auto", "sidecar"] = "auto") -> None:
        self.location = parse_location(location)
        self._root = self.location.removeprefix("file://").rstrip("/")
        self._uses_xattr = metadata == "auto" and hasattr(os, "setxattr")
        self._has_o_tmpfile = hasattr(os, "O_TMPFILE")
        self._checked_folders: set[str] = set()  # folders that are known to be inside this one
        self._synced: int | None = None  # a handle of the folder, once ``sync`` was called

    def uri(self, name: str) -> str:
        return f"file://{self._root}/{name}"

    def _to_path(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}"

    def list(
        self, prefix: str = "", *, after: str = "", leave_out: LeaveOut | None = None
    ) -> Iterator[Object]:
        base = prefix[: prefix.rfind("/") + 1]
        if any(part in {".", ".."} for part in prefix.split("/")):
            raise ConfigurationError(f"the prefix {prefix!r} has a '.' or '..' part; leave it out")
        top = f"{self._root}/{base}".rstrip("/") or "/"
        for found in FolderWalk(top, base, prefix=prefix, after=after, leave_out=leave_out):
            if found.status is not None and not _is_own_file(found.name):
                yield Object(
                    name=found.name,
                    generation=found.status.st_ctime_ns,
                    size_bytes=found.status.st_size,
                    stat=str(FileStat.of(found.status)),
                    updated_at=found.status.st_mtime,
                )

    def stat(self, name: str) -> Object:
        path = self._to_path(name)
        with _translate_errors(path):
            return self._build_object(name, path, _stat_regular_file(path))

    def identify(self, name: str) -> Object:
        path = self._to_path(name)
        with _translate_errors(path):
            found, digest = _compute_digest(path)
            return self._build_object(name, path, found, digest)

    def doubt_absence(self, name: str, *, stat: str | None) -> LeftOutReason | None:
        path = self._to_path(name)
        folder = os.path.dirname(path)
        nearest = path
        while not os.path.lexists(nearest):
            nearest = os.path.dirname(nearest)
        if os.path.islink(nearest) and not os.path.exists(nearest):
            return LeftOutReason.BROKEN_LINK
        if stat is None:
            return None
        try:
            device = FileStat.parse(stat).device
            if os.stat(nearest).st_dev == device or device in _list_mounted_devices():
                return None
            # Many leave a hidden file where a disk is to be mounted, to see that it is not.
            if nearest == folder and not all(name.startswith(".") for name in os.listdir(folder)):
                return None
        except OSError:
            return LeftOutReason.UNREADABLE
        return LeftOutReason.UNMOUNTED

    def _build_object(
        self, name: str, path: str, found: os.stat_result, digest: str = ""
    ) -> Object:
        stored = self._read_metadata(path)
        return Object(
            name=name,
            generation=found.st_ctime_ns,
            size_bytes=found.st_size,
            stat=str(FileStat.of(found)),
            digest=digest,
            content_type=stored.content_type or mimetypes.guess_type(name)[0],
            updated_at=found.st_mtime,
            metadata=stored.metadata,
        )

    def _read_metadata(self, path: str) -> _StoredMetadata:
        try:
            data = os.getxattr(path, XATTR_NAME) if hasattr(os, "getxattr") else None
        except OSError:
            data = None
        if data is None:
            try:
                with open(path + SIDECAR, "rb") as file:
                    data = file.read()
            except OSError:
                return _StoredMetadata()
        try:
            return _decode_metadata(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # or cut by a power cut
            return _StoredMetadata()

    def read(self, name: str, *, generation: int | None = None) -> bytes:
        path = self._to_path(name)
        with _translate_errors(path):
            _stat_regular_file(path)  # opening a pipe would wait for a writer
        with _translate_errors(path), open(path, "rb") as file:
            _check_generation(file.fileno(), path, generation)
            data = file.read()
            _check_generation(file.fileno(), path, generation)
            return data

    def read_part(
        self, name: str, *, start: int, length: int, generation: int | None = None
    ) -> bytes:
        path = self._to_path(name)
        with _translate_errors(path):
            _stat_regular_file(path)
            with open(path, "rb") as file:
                _check_generation(file.fileno(), path, generation)
                file.seek(start)
                data = file.read(length)
                _check_generation(file.fileno(), path, generation)
                return data

    def fetch(self, name: str, *, version: str, stat: str | None, folder: str) -> str:  # noqa: ARG002 - nothing is copied
        path = self._to_path(name)
        with _translate_errors(path):
            _stat_regular_file(path)
            with open(path, "rb") as file:  # else a job or a decoder would fail for want of rights
                found = str(FileStat.of(os.fstat(file.fileno())))
                if stat is not None and is_same_stat(found, stat):
                    return path
            if _compute_digest(path)[1] != version:
                raise Superseded(
                    f"{path!r} has another content than version {version}: it was overwritten; its "
                    "new version is processed next"
                )
        return path

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
        path = self._to_path(name)
        folder = path.rpartition("/")[0]
        stored = json.dumps({"content_type": content_type, "metadata": dict(metadata)}).encode()
        with _translate_errors(path):
            for attempt in range(ATTEMPTS):
                if generation is not None and not _has_generation(path, generation):
                    return False
                self._make_folder(folder)
                # Deleting a folder's last object deletes the folder, perhaps at this moment. Some
                # kernels call that EPERM, which an immutable folder gives each time.
                try:
                    if replace:
                        return self._replace(path, folder, data, stored, generation)
                    return self._create(path, folder, data, stored)
                except FileNotFoundError:
                    continue
                except PermissionError as error:
                    if error.errno != errno.EPERM or attempt == ATTEMPTS - 1:
                        raise
        raise Contended(f"others keep deleting the folder of {path!r}; try again later")

    def _create(self, path: str, folder: str, data: bytes, stored: bytes) -> bool:
        if self._has_o_tmpfile:
            try:
                self._write(path, folder, data, stored)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in O_TMPFILE_UNSUPPORTED or not os.path.isdir(folder):
                    raise
                self._has_o_tmpfile = False
            else:
                return True
        try:
            with _name_temporary(folder) as temporary:
                self._write(path, folder, data, stored, temporary=temporary)
        except FileExistsError:
            return False
        return True

    def _replace(
        self, path: str, folder: str, data: bytes, stored: bytes, generation: int | None
    ) -> bool:
        with _lock(folder) as locked:
            if generation is not None and not _has_generation(path, generation):
                return False
            # What a killed process left under the object's own name is overwritten by the next, or
            # removed with the object.
            with _name_temporary(folder, path if locked else None) as temporary:
                self._write(path, folder, data, stored, temporary=temporary, replace=True)
        return True

    def _make_folder(self, folder: str) -> None:
        """Create a folder and its parents, and check that no link leads out of the store."""
        above = folder.rpartition("/")[0]
        if above not in self._checked_folders and os.path.isdir(above):
            self._check_inside(above)
        try:
            os.mkdir(folder)
        except FileExistsError:
            if folder not in self._checked_folders:
                self._check_inside(folder)
        except FileNotFoundError:
            self._make_folder(above)
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
        if len(self._checked_folders) > 10_000:
            self._checked_folders.clear()
        self._checked_folders.add(folder)

    def _write(
        self,
        path: str,
        folder: str,
        data: bytes,
        stored: bytes,
        *,
        temporary: str | None = None,
        replace: bool = False,
    ) -> None:
        """Write a file, without a name or with a temporary one, and give it its name at the end."""
        flags = os.O_TMPFILE if temporary is None else os.O_CREAT | os.O_EXCL
        handle = os.open(temporary or folder, flags | os.O_WRONLY, 0o666)
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            has_attribute = self._set_attribute(handle, stored)
            if replace:
                _touch_until_newer(handle, path)
            if temporary is None:
                # With src_dir_fd Python calls linkat, which follows the link under /proc.
                os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle, follow_symlinks=True)
        if temporary is not None:
            (os.replace if replace else os.link)(temporary, path)
        if not has_attribute:  # only the creator of an object may write its sidecar
            sidecar = f"{folder}/{UNFINISHED}{os.urandom(8).hex()}"
            with open(sidecar, "xb") as file:
                file.write(stored)
            os.replace(sidecar, path + SIDECAR)

    def _set_attribute(self, handle: int, stored: bytes) -> bool:
        """Store metadata in an extended attribute; return whether that was possible."""
        if self._uses_xattr:
            try:
                os.setxattr(handle, XATTR_NAME, stored)
            except OSError as error:
                if error.errno not in XATTR_UNSUPPORTED:
                    raise
                # An attribute that is too long for this file system says nothing about those of
                # other objects.
                self._uses_xattr = error.errno in {errno.ENOSPC, errno.E2BIG}
            else:
                return True
        return False

    def sync(self) -> None:
        """Write the file system's buffers to the disk: one call, however many files there are.

        The handle stays open, as Linux reports a failed write to those who have opened the file
        system before.
        """
        if self._synced is None:
            try:
                self._synced = os.open(self._root or "/", os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:  # nothing was written yet
                return
        with _translate_errors(self._root):
            _sync_file_system(self._synced)

    def check_writable(self) -> None:
        """Raise an error if nothing can be written here; nothing is left behind.

        Raises
        ------
        ConfigurationError
            If the folder, or the one in which it will be made, is read-only or forbidden.
        DiskFull
        """
        folder = self._root or "/"
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        try:
            # Where the system can, it has no name: a killed process leaves nothing behind.
            with tempfile.TemporaryFile(dir=folder, prefix=UNFINISHED) as file:
                file.write(bytes(PROBE_BYTES))
        except OSError as error:
            if error.errno in DISK_FULL_ERRNOS:
                raise DiskFull(
                    f"no room is left for {self._root!r}; free some space, and run again"
                ) from error
            raise ConfigurationError(
                f"{self._root!r} is not writable ({error.strerror}); make it writable for this "
                "user, or name another place"
            ) from error

    def delete(self, name: str, *, generation: int | None = None) -> bool:
        path = self._to_path(name)
        folder = path.rpartition("/")[0]
        try:
            with _translate_errors(path), _lock(folder) as locked:
                _check_generation(path, path, generation)
                os.unlink(path)
                if locked:  # nobody else writes it now
                    with contextlib.suppress(OSError):
                        os.unlink(_find_temporary(path))
        except (MissingInput, Superseded) as error:
            if isinstance(cause := error.__cause__, PermissionError):
                raise ConfigurationError(
                    f"{path!r} cannot be deleted ({cause.strerror}); make its folder writable for "
                    "this user"
                ) from cause
            return False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + SIDECAR)
        while len(folder) > len(self._root):  # empty folders are not objects; leave none behind
            try:
                os.rmdir(folder)
            except OSError:
                break
            folder = folder.rpartition("/")[0]
        return True

    def close(self) -> None:
        """Close the folder."""
        if self._synced is not None:
            os.close(self._synced)
            self._synced = None


def _is_own_file(name: str) -> bool:
    """Whether a file belongs to this store, and is not an object."""
    return name.rpartition("/")[2].startswith(UNFINISHED) or name.endswith(SIDECAR)


def _stat_regular_file(path: str) -> os.stat_result:
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is not a regular file", path)
    return found


def _list_mounted_devices() -> set[int]:
    """Return the numbers of the devices that are mounted, as far as the system tells them."""
    try:
        with open("/proc/self/mountinfo") as file:
            numbers = [line.split()[2].split(":") for line in file]
    except OSError:  # elsewhere than on Linux
        return set()
    return {os.makedev(int(major), int(minor)) for major, minor in numbers}


def _compute_digest(path: str) -> tuple[os.stat_result, str]:
    """Read a file, and return its status and the digest of its content at that time."""
    for _ in range(READINGS):
        _stat_regular_file(path)  # opening a pipe would wait for a writer
        with open(path, "rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            time.sleep(_find_rest_of_tick(before))
            digest = hashlib.file_digest(file, _make_hash).hexdigest()
            after = os.fstat(file.fileno())
        if FileStat.of(before) == FileStat.of(after):
            return after, digest
    raise Superseded(f"{path!r} is being written; try again once it is complete")


def _make_hash() -> Any:
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def _find_rest_of_tick(found: os.stat_result) -> float:
    """Return how long to wait until another write would show in a file's status."""
    is_coarse = found.st_ctime_ns % 10**9 == found.st_mtime_ns % 10**9 == 0
    tick_s = COARSE_TICK_S if is_coarse else TICK_S
    return tick_s if time.time() - found.st_ctime_ns / 1e9 < tick_s else 0.0


def _check_generation(file: int | str, path: str, generation: int | None) -> None:
    if generation is not None and (found := os.stat(file).st_ctime_ns) != generation:
        raise Superseded(
            f"{path!r} has generation {found}, not {generation}: it was overwritten; its new "
            "version is processed next"
        )


def _has_generation(path: str, generation: int) -> bool:
    try:
        return os.stat(path).st_ctime_ns == generation
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _name_temporary(folder: str, path: str | None = None) -> Iterator[str]:
    """Give a name without a file, and remove its file if it is still there.

    The name is one that was never used before, or that of an object, if nobody else writes it now.
    """
    if path is None:
        temporary = f"{folder}/{UNFINISHED}{os.urandom(8).hex()}"
    else:
        temporary = _find_temporary(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _find_temporary(path: str) -> str:
    """Return the name of the file that an object is written to by those who hold the lock."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{UNFINISHED}{hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()}"


@contextlib.contextmanager
def _lock(folder: str) -> Iterator[bool]:
    """Lock a folder against others that replace or delete in it; the lock ends with the process.

    On a file system without locks for folders, such as NFS, nothing is locked, and False is given.
    """
    with contextlib.ExitStack() as opened:
        is_same = False
        while not is_same:  # it may have been deleted, and created again, since it was opened
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                locked = True
            except OSError:
                locked = False
            is_same = os.path.samestat(os.fstat(handle), os.stat(folder))
        yield locked


def _sync_file_system(handle: int) -> None:
    """Call syncfs(2), which Python has not; elsewhere than on Linux, sync(2)."""
    if sys.platform != "linux":
        os.sync()
        return
    import ctypes

    if ctypes.CDLL(None, use_errno=True).syncfs(handle) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _touch_until_newer(handle: int, path: str) -> None:
    """Update a file's ctime until it is after that of the file that it will replace.

    File systems' clocks are coarse.
    """
    try:
        old_ns = os.stat(path).st_ctime_ns
    except FileNotFoundError:
        return
    while os.fstat(handle).st_ctime_ns <= old_ns:
        time.sleep(0.001)
        os.utime(handle)


@contextlib.contextmanager
def _translate_errors(path: str) -> Iterator[None]:
    """Translate errors of the file system into Segue's."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        is_other = isinstance(error, IsADirectoryError)
        raise MissingInput(
            f"{path!r} is a folder, a pipe, a socket or a device, not a file; name a file"
            if is_other
            else f"{path!r} does not exist as a file; it was moved or deleted"
        ) from error
    except PermissionError as error:
        raise MissingInput(
            f"{path!r} is not accessible ({error.strerror}); give this user permission"
        ) from error
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise
        if error.errno in DISK_FULL_ERRNOS:
            raise DiskFull(
                f"no room is left for {path!r}; free some space, and run again"
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            raise ConfigurationError(
                f"the name {path!r} is too long for this file system; shorten it"
            ) from error
        if error.errno == errno.ELOOP:
            raise MissingInput(
                f"{path!r} is a link that leads back to itself; remove it"
            ) from error
        raise Unavailable(f"{path!r}: {error.strerror}; check the device") from error
