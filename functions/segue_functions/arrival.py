"""The function that a finalized object triggers: it records the file, and tells the pipelines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework

from segue.clock import utc_now
from segue.log import Action, log_event
from segue.model.transitions import Arrival
from segue_functions import failures
from segue_functions.events import FINALIZED, parse_media
from segue_functions.folder import observe_file
from segue_functions.generations import check_arrival
from segue_functions.stack import get_services
from segue_functions.transport import respond_to_event

if TYPE_CHECKING:
    import flask
    from cloudevents.http import CloudEvent
    from flask.typing import ResponseReturnValue

    from segue_functions.stack import Services

failures.prepare_app()


@functions_framework.http
def arrival(call: flask.Request) -> ResponseReturnValue:
    """Respond to the request that carries the event."""
    return respond_to_event(call, handle_arrival)


def handle_arrival(event: CloudEvent, services: Services | None = None) -> None:
    """Record one version of a file; an event that is repeated or too late changes nothing.

    The event of a file in a folder is a hint to look at it.
    """
    about: dict[str, Any] = {"event": event["id"]}
    with failures.log_failures(about):
        services = services or get_services()
        media = parse_media(event, FINALIZED)
        about["file"] = media.uri
        if reason := services.media_filter.find_reason_to_ignore(media.uri):
            log_event(Action.IGNORED, reason=reason, **about)
            return
        if not media.bucket:
            observe_file(media, services, about)
            return
        about["version"] = media.version
        check_arrival(media, utc_now())
        recorded = services.arrivals.record([media])[0]
        if recorded is Arrival.STALE:
            reason = "a newer version exists, or the file has since been deleted or erased"
            log_event(Action.IGNORED, ledger=recorded, reason=reason, **about)
        else:
            log_event(Action.ARRIVED, ledger=recorded, **about)
