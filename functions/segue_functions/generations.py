"""Which generation of an object an event is believed to be about.

The ledger keeps the greatest generation, so an event that claims one from the future would outrank
all real versions to come. A generation is the time of the object's creation, in microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.errors import ConfigurationError
from segue.ingest.catalogue import look_up
from segue_functions.events import MalformedEvent

if TYPE_CHECKING:
    from datetime import datetime

    from segue.model.ledger import Ledger
    from segue.model.media_file import MediaFile

CLOCK_DIFFERENCE_S = 60  # between Cloud Storage's servers and this one


def check_arrival(media: MediaFile, now: datetime) -> None:
    """Check that an object may have arrived; most are not looked up.

    The function need not be allowed to read the catalogue.

    Raises
    ------
    MalformedEvent
        If the generation is later than now, and the object has another one.
    """
    if is_later_than_now(media, now):
        found = _find(media)
        if found is None or found.version != media.version:
            raise _build_error(media, "the object has another one")


def check_deletion(media: MediaFile, ledger: Ledger, now: datetime) -> None:
    """Check that an object may have been deleted.

    Raises
    ------
    MalformedEvent
        If the generation is later than now, and the ledger has an older one or none.
    """
    if is_later_than_now(media, now):
        record = ledger.read([media.uri])[0].record
        if record is None or record.order < _get_generation(media):
            raise _build_error(media, "the ledger does not have it")


def is_later_than_now(media: MediaFile, now: datetime) -> bool:
    """Whether no object that exists now can have this generation, unless a clock was wrong."""
    return _get_generation(media) > (now.timestamp() + CLOCK_DIFFERENCE_S) * 1e6


def _get_generation(media: MediaFile) -> int:
    """Return the generation, which is what orders the versions of an object."""
    assert media.order is not None
    return media.order


def _find(media: MediaFile) -> MediaFile | None:
    try:
        found = look_up(media.uri)
    except (
        ConfigurationError
    ) as error:  # a name that no object can have, or a bucket that is closed
        raise MalformedEvent(
            f"generation {media.version} of {media.uri!r} cannot be confirmed: {error}"
        ) from error
    if found.error is not None:
        raise found.error
    return found.media


def _build_error(media: MediaFile, reason: str) -> MalformedEvent:
    return MalformedEvent(
        f"generation {media.version} of {media.uri!r} is later than now, and {reason}; check "
        "the sender"
    )
