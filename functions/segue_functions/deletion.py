"""The function that a deleted object triggers: it records a tombstone, and may remove artifacts.

An overwritten object causes two events, the arrival of its new version and the deletion of its old
one, in any order; the ledger knows which version is current.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework

from segue.clock import utc_now
from segue.log import Action, log_event
from segue_functions import failures
from segue_functions.events import ARCHIVED, DELETED, parse_media
from segue_functions.folder import observe_file
from segue_functions.generations import check_deletion
from segue_functions.stack import get_services
from segue_functions.transport import respond_to_event

if TYPE_CHECKING:
    import flask
    from cloudevents.http import CloudEvent
    from flask.typing import ResponseReturnValue

    from segue_functions.stack import Services

failures.prepare_app()


@functions_framework.http
def deletion(call: flask.Request) -> ResponseReturnValue:
    """Respond to the request that carries the event."""
    return respond_to_event(call, handle_deletion)


def handle_deletion(event: CloudEvent, services: Services | None = None) -> None:
    """Record the deletion of one version; an event that is repeated or too late changes nothing.

    The event of a file in a folder is a hint to look at it.
    """
    about: dict[str, Any] = {"event": event["id"]}
    with failures.log_failures(about):
        services = services or get_services()
        media = parse_media(event, DELETED, ARCHIVED)
        about["file"] = media.uri
        if reason := services.media_filter.find_reason_to_ignore(media.uri):
            log_event(Action.IGNORED, reason=reason, **about)
            return
        if not media.bucket:
            observe_file(media, services, about)
            return
        about["version"] = media.version
        check_deletion(media, services.ledger, utc_now())
        result = services.deletions.record(media)
        if result.is_new or result.removed:
            log_event(Action.DELETED, removed=result.removed, **about)
        else:
            reason = "a newer version is there, or it was deleted before"
            log_event(Action.IGNORED, reason=reason, **about)
