"""Which generation an event is believed to be about.

The ledger keeps the greatest generation, so an event that claims one from the future would outrank
all real versions to come. A generation is a time: that of the object's creation in microseconds, or
of a local file's last change in nanoseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.errors import ConfigurationError, Unavailable
from segue.ingest.catalogue import stat_media
from segue_functions.events import MalformedEvent

if TYPE_CHECKING:
    from datetime import datetime

    from segue.model.ledger import Ledger
    from segue.model.media_file import MediaFile

CLOCK_DIFFERENCE_S = 60  # between Cloud Storage's servers and this one; a local file has one clock


def check_arrival(media: MediaFile, now: datetime) -> MediaFile:
    """Return the version that has arrived: that of the event, or of a local file as it is now.

    Raises
    ------
    MalformedEvent
        If the generation is later than now, and the object has another one.
    """
    is_later = is_later_than_now(media, now)
    if media.bucket and not is_later:
        return media  # the function need not be allowed to read the catalogue
    found = _find(media)
    if found is not None and (not media.bucket or found.generation == media.generation):
        return found
    if is_later:
        raise _build_error(media, "the object has another one")
    return media


def find_reason_to_keep(media: MediaFile, ledger: Ledger, now: datetime) -> str | None:
    """Return why a deletion is not believed, or None if it is.

    Raises
    ------
    MalformedEvent
        If the generation is later than now, and the ledger has an older one or none.
    """
    if not media.bucket:
        found = _find(media)
        if found is not None and found.generation <= media.generation:
            return "the file is there"
    if is_later_than_now(media, now):
        record = ledger.read([media.uri])[0].record
        if record is None or record.generation < media.generation:
            raise _build_error(media, "the ledger does not have it")
    return None


def is_later_than_now(media: MediaFile, now: datetime) -> bool:
    """Whether no object that exists now can have this generation, unless a clock was wrong."""
    if media.bucket:
        return media.generation > (now.timestamp() + CLOCK_DIFFERENCE_S) * 1e6
    return media.generation > now.timestamp() * 1e9


def _find(media: MediaFile) -> MediaFile | None:
    try:
        found = stat_media(media.uri)
    except ConfigurationError as error:  # a name that no file can have, or a bucket that is closed
        raise MalformedEvent(
            f"generation {media.generation} of {media.uri!r} cannot be confirmed: {error}"
        ) from error
    if found.unknown:
        raise Unavailable(found.unknown)
    return found.media


def _build_error(media: MediaFile, reason: str) -> MalformedEvent:
    return MalformedEvent(
        f"generation {media.generation} of {media.uri!r} is later than now, and {reason}; check "
        "the sender"
    )
