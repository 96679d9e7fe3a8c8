"""The function that a deleted object triggers: it records a tombstone, and may remove artifacts.

An overwritten object causes two events, the arrival of its new version and the deletion of its old
one, in any order; the ledger knows which version is current.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework

from segue.log import Action, log_event
from segue_functions import failures
from segue_functions.events import ARCHIVED, DELETED, parse_media
from segue_functions.stack import get_services

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

failures.register_error_handlers()


@functions_framework.cloud_event
def deletion(event: CloudEvent) -> None:
    """Record the deletion of one version; an event that is repeated or too late changes nothing."""
    about: dict[str, Any] = {"event": event["id"]}
    with failures.log_failures(about):
        services = get_services()
        media = parse_media(event, DELETED, ARCHIVED)
        about |= {"file": media.uri, "generation": media.generation}
        if reason := services.media_filter.find_reason_to_ignore(media.uri):
            log_event(Action.IGNORED, reason=reason, **about)
            return
        result = services.deletions.record(media)
        if result.is_new or result.removed:
            log_event(Action.DELETED, removed=result.removed, **about)
        else:
            reason = "a newer version is there, or it was deleted before"
            log_event(Action.IGNORED, reason=reason, **about)
