"""The catalogue: which objects are its media, and how one media file is found."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass

from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError, TransientError
from segue.ingest.observation import Look, look
from segue.model.graph import Graph
from segue.model.media_file import (
    MediaFile,
    build_name_filter,
    find_bucket_location,
    is_below,
    list_file_uris,
    parse_location,
    split_uri,
)
from segue.model.record import Record
from segue.model.settings import Settings

SQLITE = "sqlite:///"
DATABASE_SUFFIXES = ("", "-wal", "-shm", "-journal", ".up")  # of a database and what is beside it
NOT_INCLUDED = "a name that matches no include pattern of the graph"
EXCLUDED = "a name that matches an exclude pattern of the graph"
UNSAFE_PARTS = frozenset({"", ".", ".."})

_matches = functools.lru_cache(maxsize=8)(build_name_filter)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFilter:
    """Accepts the media of a catalogue; pickles, so that pipelines can send it to their workers."""

    catalogue: str | None = None  # a bucket or folder; None: anywhere
    excluded: tuple[str, ...] = ()  # files and folders that Segue itself writes
    include: tuple[str, ...] = ()  # patterns such as *.flac; none: all names
    exclude: tuple[str, ...] = ()  # patterns of names that are no media, even if included

    def accepts(self, uri: str) -> bool:
        """Return whether an object is media of the catalogue."""
        return self.find_reason_to_ignore(uri) is None

    def find_reason_to_ignore(self, uri: str) -> str | None:
        """Return why an object is ignored, or None if it is media of the catalogue."""
        try:
            bucket, name = split_uri(uri)
        except ConfigurationError:
            return "not a URI such as gs://bucket/name"
        if not name or name.endswith("/"):
            return "a folder"
        if not bucket and is_unsafe_path(name):
            return "a path with empty, '.' or '..' parts, or a NUL"
        if self.excludes(uri):
            return "written by Segue itself"
        if self.catalogue is not None and not is_below(uri, self.catalogue):
            return f"not below the catalogue {self.catalogue}"
        return self.find_reason_by_name(name)

    def find_reason_by_name(self, name: str) -> str | None:
        """Return why a name alone is none of media: ``EXCLUDED`` or ``NOT_INCLUDED``, or None."""
        if self.exclude and _matches(self.exclude)(name):
            return EXCLUDED
        if not _matches(self.include)(name):
            return NOT_INCLUDED
        return None

    def excludes(self, uri: str) -> bool:
        """Return whether a file or folder is written by Segue itself."""
        return uri.startswith(self.excluded) and any(is_below(uri, own) for own in self.excluded)

    def concerns(self, uri: str) -> bool:
        """Return whether a file that is left out would be media, or a folder may contain some."""
        return not self.excludes(uri) if uri.endswith("/") else self.accepts(uri)


def build_media_filter(graph: Graph, settings: Settings, *, anywhere: bool = False) -> MediaFilter:
    """Build the filter of a graph's catalogue, which excludes everything that Segue itself writes.

    With ``anywhere``, media outside of the catalogue are accepted, too: the caller named a place.
    """
    catalogue = None
    if graph.catalogue and not anywhere:
        catalogue = parse_location(graph.catalogue).removesuffix("/") + "/"
    folders = (parse_location(graph.artifacts), parse_location(".segue"))
    # Each write to a database in the catalogue would trigger an event, and that another write.
    databases = (
        parse_location(url.removeprefix(SQLITE)) + suffix
        for url in (settings.ledger, settings.queue)
        if url.startswith(SQLITE)
        for suffix in DATABASE_SUFFIXES
    )
    return MediaFilter(
        catalogue=catalogue,
        excluded=(*(f"{folder.rstrip('/')}/" for folder in folders), *databases),
        include=graph.include,
        exclude=graph.exclude,
    )


def is_unsafe_path(path: str) -> bool:
    """Return whether a path in a folder may lead to another place than it seems to."""
    return "\0" in path or not UNSAFE_PARTS.isdisjoint(path.split("/"))


def look_up(uri: str, known: Record | None = None) -> Look:
    """Look at one file; ``known`` is its record, which may save reading a file in a folder.

    Raises
    ------
    ConfigurationError
        If no file can have this name, or its bucket is closed to this user.
    """
    with contextlib.closing(connect_store(find_bucket_location(uri))) as store:
        found = look(store, MediaFile(uri=uri, version=""), known)
    if isinstance(found.error, ConfigurationError):
        raise found.error
    return found


def find_media(file: str, catalogue: str | None) -> MediaFile:
    """Return the file that a path, a URI, or a path relative to the catalogue means.

    Raises
    ------
    ConfigurationError
        If there is no such file, or this user may not read it.
    TransientError
        If it, or its bucket, cannot be reached.
    """
    uris = list_file_uris(file, catalogue)
    for found in map(look_up, uris):
        if found.media is not None:
            return found.media
        if isinstance(found.error, TransientError):
            raise found.error
        if found.error is not None or found.other:
            raise ConfigurationError(str(found.error or found.other))
    raise ConfigurationError(f"there is no file {' or '.join(map(repr, uris))}; check the path")
