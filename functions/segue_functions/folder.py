"""Responds to the event of a file in a folder, which is a hint: what counts is the file itself."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from segue.adapters.connect import connect_store
from segue.clock import utc_now
from segue.errors import ConfigurationError, DamagedRecord, TransientError, Unavailable
from segue.ingest.observation import observe
from segue.log import Action, log_event
from segue.model.media_file import find_bucket_location
from segue_functions.events import MalformedEvent

if TYPE_CHECKING:
    from segue.ingest.observation import Observation
    from segue.model.media_file import MediaFile
    from segue_functions.stack import Services


def observe_file(media: MediaFile, services: Services, about: dict[str, Any]) -> None:
    """Have the ledger say what a file is, and notify the pipelines if it is there.

    Raises
    ------
    MalformedEvent
        If no file can have this name.
    TransientError
        If the file cannot be read, or keeps changing.
    """
    with contextlib.closing(connect_store(find_bucket_location(media.uri))) as store:
        [found] = observe(store, services.ledger, [media], utc_now())
    record, arrivals = found.snapshot.record, services.arrivals
    # Whatever touches all files must not cause a message for each; of a record without results
    # perhaps nobody has told.
    is_told = record is not None and bool(record.results) and arrivals.is_announced(record)
    if not found.is_touched or not is_told:
        arrivals.announce([found])
    if found.media is None and found.error is None:
        services.deletions.announce_absence(media.uri, record)
    match found.error:
        case None:
            pass
        case ConfigurationError():
            raise MalformedEvent(str(found.error)) from found.error
        case TransientError() | DamagedRecord():
            raise found.error
        case _:
            raise Unavailable(str(found.error)) from found.error
    _log(found, about)


def _log(found: Observation, about: dict[str, Any]) -> None:
    """Log what a file was found to be."""
    record = found.snapshot.record
    if record is not None:
        about["version"] = record.version
    if found.arrival is not None:
        log_event(Action.ARRIVED, ledger=found.arrival, **about)
    elif found.is_deleted:
        log_event(Action.DELETED, removed=0, **about)
    elif record is not None and record.erased:
        log_event(Action.IGNORED, reason="the file was erased", **about)
    else:
        log_event(Action.IGNORED, reason="there is no such file, and none in the ledger", **about)
