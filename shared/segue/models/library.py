"""The models on this machine: a folder, which a bucket may fill.

A model that is ready has a folder of its own, ``NAME@VERSION/KEY``, which appears in one step. In
it are the model's file or folder, its licence, and ``segue-model.json``, which lists the files. The
key stands for the checksum and the conversion, so another checksum never meets files of the first.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from segue.errors import ConfigurationError, DiskFull, MissingInput, Unavailable
from segue.model.model_entry import CONTENTS, LICENCE, compute_folder_sha256

if TYPE_CHECKING:
    from segue.model.model_entry import ModelEntry
    from segue.model.object_store import ObjectStore

LOCK = ".lock"
UNFINISHED = ".unfinished-"
BLOCK_BYTES = 2**20
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE_ERRNOS = (
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.ENOENT),
    errno.EFBIG,  # for some file systems, 4 GiB is too large
)
REMEDY = "free some space, or name another folder with SEGUE_MODELS"


class DamagedCopyError(Unavailable):
    """A model in the bucket is incomplete, or is not what it should be."""


class StoredFile(msgspec.Struct, frozen=True):
    """A file of a model that is ready."""

    size_bytes: int
    sha256: str


class ModelContents(msgspec.Struct, frozen=True):
    """What ``segue-model.json`` says of a model that is ready."""

    reference: str
    source: str
    sha256: str
    leaf: str  # the name of the model's file or folder
    files: Mapping[str, StoredFile]  # by path, the licence included


_decode_contents = msgspec.json.Decoder(ModelContents).decode


def find_user_folder() -> str:
    """Return the folder for the models of this user, if no other is named."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return os.path.join(os.path.abspath(base), "segue", "models")
    caches = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
    return os.path.join(os.path.expanduser(caches), "segue", "models")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLibrary:
    """The models on this machine, and the bucket that they may be copied from."""

    folder: str
    store: ObjectStore | None = None  # of a bucket that has the ready models of several machines

    def find(self, entry: ModelEntry) -> str | None:
        """Return the path of a model that is ready here; None if it is missing or incomplete."""
        folder = self._find_folder(entry)
        try:
            with open(os.path.join(folder, CONTENTS), "rb") as file:
                contents = _decode_contents(file.read())
            for name, stored in contents.files.items():
                if os.stat(os.path.join(folder, name)).st_size != stored.size_bytes:
                    return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return os.path.join(folder, contents.leaf)

    def find_licence(self, entry: ModelEntry) -> str | None:
        """Return the path of the text of a ready model's licence, if it has one."""
        path = os.path.join(self._find_folder(entry), LICENCE)
        return path if os.path.exists(path) else None

    def is_available(self, entry: ModelEntry) -> bool:
        """Whether a model is ready here, or can be copied from the bucket."""
        if self.find(entry) is not None:
            return True
        return self.store is not None and self._read_contents(self.store, entry) is not None

    def require(self, entry: ModelEntry) -> str:
        """Return the path of a model, which is copied from the bucket if it is not here.

        Raises
        ------
        ConfigurationError
            If it is in neither place; the message says what to type.
        """
        path = self.find(entry)
        if path is None and self.store is not None:
            with self.lock(entry):
                path = self.find(entry) or self.copy_from_store(entry)
        if path is None:
            raise build_missing_error([entry.reference])
        return path

    @contextlib.contextmanager
    def lock(self, entry: ModelEntry) -> Iterator[None]:
        """Let one process at a time get a model; remove what a killed one has left."""
        folder = os.path.dirname(self._find_folder(entry))
        with contextlib.ExitStack() as opened:
            with translate_errors(folder):
                os.makedirs(folder, exist_ok=True)
                file = opened.enter_context(open(os.path.join(folder, LOCK), "wb"))
            fcntl.flock(file, fcntl.LOCK_EX)
            for name in os.listdir(folder):
                if name.startswith(UNFINISHED):
                    shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
            yield

    @contextlib.contextmanager
    def make_folder(self, entry: ModelEntry) -> Iterator[str]:
        """Yield an empty folder to make a model in, and remove it; the lock must be held."""
        above = os.path.dirname(self._find_folder(entry))
        folder = tempfile.mkdtemp(dir=above, prefix=UNFINISHED)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add(self, entry: ModelEntry, folder: str, *, leaf: str) -> str:
        """Move a folder with a model, and its licence, to its place; return the model's path.

        ``leaf`` is the name of the model's file or folder in it. The lock must be held. What is
        there already is incomplete, and is replaced.
        """
        place = self._find_folder(entry)
        files = {name: _measure_file(os.path.join(folder, name)) for name in walk_files(folder)}
        contents = ModelContents(
            reference=entry.reference,
            source=entry.public_source,
            sha256=entry.sha256,
            leaf=leaf,
            files=files,
        )
        for name in files:
            _sync(os.path.join(folder, name))
        path = os.path.join(folder, CONTENTS)
        with open(path, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(contents)))
        _sync(path)
        _sync(folder)
        os.chmod(folder, 0o755)  # noqa: S103 - other users read it, too
        if os.path.lexists(place):
            with self.make_folder(entry) as old:
                os.rename(place, os.path.join(old, "old"))
        os.rename(folder, place)
        _sync(os.path.dirname(place))
        return os.path.join(place, leaf)

    def copy_to_store(self, entry: ModelEntry, *, replace: bool = False) -> bool:
        """Upload a model that is ready here to the bucket, unless it is there; return whether."""
        store = self.store
        if store is None or (not replace and self._read_contents(store, entry) is not None):
            return False
        folder = self._find_folder(entry)
        # The list of files comes last: with it, the model is complete.
        for name in [*sorted(set(walk_files(folder)) - {CONTENTS}), CONTENTS]:
            with open(os.path.join(folder, name), "rb") as file:
                store.create(
                    f"{entry.reference}/{entry.key}/{name}",
                    file.read(),
                    content_type="application/octet-stream",
                    metadata={},
                    replace=True,
                )
        return True

    def copy_from_store(self, entry: ModelEntry) -> str | None:
        """Copy a model from the bucket, and return its path; None if it is not there.

        The lock must be held. Raises ``DamagedCopyError`` if what is there is not the model.
        """
        store = self.store
        contents = None if store is None else self._read_contents(store, entry)
        if store is None or contents is None:
            return None
        with translate_errors(self.folder), self.make_folder(entry) as work:
            ready = os.path.join(work, "ready")
            for name, stored in contents.files.items():
                path = _join_inside(ready, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                at = f"{entry.reference}/{entry.key}/{name}"
                try:
                    found = store.identify(at)
                    version = found.digest or str(found.generation)
                    fetched = store.fetch(at, version=version, stat=None, folder=work)
                except MissingInput as error:
                    raise _build_damaged_error(entry, store.uri(at), "there") from error
                shutil.copyfile(fetched, path)
                if os.path.dirname(fetched) == work:
                    os.unlink(fetched)
                if _measure_file(path) != stored:
                    raise _build_damaged_error(entry, store.uri(at), f"what its {CONTENTS} says")
            # The leaf is that of the source from which it was uploaded.
            model = _join_inside(ready, contents.leaf)
            if not os.path.exists(model) or not (
                entry.convert or compute_source_sha256(model) == entry.sha256
            ):
                at = store.uri(f"{entry.reference}/{entry.key}/{contents.leaf}")
                raise _build_damaged_error(entry, at, "what its checksum says")
            return self.add(entry, ready, leaf=contents.leaf)

    def close(self) -> None:
        """Close the connection to the bucket."""
        if self.store is not None:
            self.store.close()

    def _find_folder(self, entry: ModelEntry) -> str:
        return os.path.join(self.folder, entry.reference, entry.key)

    def _read_contents(self, store: ObjectStore, entry: ModelEntry) -> ModelContents | None:
        name = f"{entry.reference}/{entry.key}/{CONTENTS}"
        try:
            return _decode_contents(store.read(name))
        except (MissingInput, msgspec.MsgspecError, UnicodeDecodeError):
            return None


def build_missing_error(references: list[str], options: str = "") -> ConfigurationError:
    """Return the error to raise if models are missing: it has the command that gets them."""
    what = "the model" if len(references) == 1 else "the models"
    are = "is" if len(references) == 1 else "are"
    return ConfigurationError(
        f"{what} {', '.join(references)} {are} not on this machine, or not complete; run "
        f"'segue models get {' '.join(references)}{options}'"
    )


def walk_files(folder: str) -> Iterator[str]:
    """Yield the paths of all files in a folder, relative to it and with ``/``, in order."""
    for above, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield os.path.relpath(os.path.join(above, name), folder).replace(os.sep, "/")


def compute_sha256(path: str) -> str:
    """Return the SHA-256 checksum of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def compute_source_sha256(path: str) -> str:
    """Return the checksum of a file, or of a folder as ``compute_folder_sha256`` says."""
    if not os.path.isdir(path):
        return compute_sha256(path)
    return compute_folder_sha256(
        (name, compute_sha256(os.path.join(path, name))) for name in walk_files(path)
    )


def _build_damaged_error(entry: ModelEntry, uri: str, rule: str) -> DamagedCopyError:
    return DamagedCopyError(
        f"{uri} is not {rule}; run 'segue models get {entry.reference}' on a machine that does not "
        "have it: it is downloaded again, and uploaded"
    )


def _measure_file(path: str) -> StoredFile:
    return StoredFile(size_bytes=os.path.getsize(path), sha256=compute_sha256(path))


def _join_inside(folder: str, name: str) -> str:
    path = os.path.normpath(os.path.join(folder, name))
    if not path.startswith(folder + os.sep):
        raise ConfigurationError(f"{name!r} of a model leads out of its folder; remove the model")
    return path


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def translate_errors(folder: str) -> Iterator[None]:
    """Say what to do if the disk is full, or the folder may not be written."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL_ERRNOS:
            raise DiskFull(f"no room is left for models in {folder!r}; {REMEDY}") from error
        if error.errno in NOT_WRITABLE_ERRNOS:
            raise ConfigurationError(
                f"the folder for models {folder!r} cannot be written ({error.strerror}); make it "
                "writable for this user, or name another with SEGUE_MODELS"
            ) from error
        raise
