"""A look at a media file where it lies."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from segue.adapters.connect import connect_store
from segue.errors import MissingInput, TransientError
from segue.model.media_file import MediaFile, bucket_location, split_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was seen: the file, that it is gone, or only why it could not be looked at."""

    uri: str
    media: MediaFile | None = None
    unknown: str = ""

    @property
    def gone(self) -> bool:
        """Whether there is no such file."""
        return self.media is None and not self.unknown


def sight(uri: str) -> Sight:
    """Look at one file."""
    try:
        with contextlib.closing(connect_store(bucket_location(uri))) as store:
            there = store.stat(split_uri(uri)[1])
    except MissingInput:
        return Sight(uri=uri)
    except TransientError as error:
        return Sight(uri=uri, unknown=str(error))
    return Sight(
        uri=uri,
        media=MediaFile(
            uri=uri,
            generation=there.generation,
            size_bytes=there.size_bytes,
            content_type=there.content_type,
            checksum=there.checksum,
        ),
    )
