"""The stat of a media file in its bucket or folder."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError, MissingInput, TransientError, Unavailable
from segue.model.location import list_file_uris
from segue.model.media_file import MediaFile, find_bucket_location, split_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaStat:
    """The stat of a file: the file, or that it is gone, or the error that left it unknown."""

    uri: str
    media: MediaFile | None = None
    unknown: str = ""

    @property
    def gone(self) -> bool:
        """Whether there is no such file."""
        return self.media is None and not self.unknown


def stat_media(uri: str) -> MediaStat:
    """Stat one file."""
    try:
        with contextlib.closing(connect_store(find_bucket_location(uri))) as store:
            found = store.stat(split_uri(uri)[1])
    except MissingInput:
        return MediaStat(uri=uri)
    except TransientError as error:
        return MediaStat(uri=uri, unknown=str(error))
    return MediaStat(uri=uri, media=found.to_media_file(uri))


def find_media(file: str, catalogue: str | None) -> MediaFile:
    """Return the file that a path, a URI, or a path relative to the catalogue means.

    Raises
    ------
    ConfigurationError
        If there is no such file.
    Unavailable
        If its bucket cannot be reached.
    """
    uris = list_file_uris(file, catalogue)
    for found in map(stat_media, uris):
        if found.media is not None:
            return found.media
        if found.unknown:
            raise Unavailable(found.unknown)
    raise ConfigurationError(f"there is no file {' or '.join(map(repr, uris))}; check the path")
