"""The function that a finalized object triggers: it records the file, and notifies its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework

from segue.log import Action, log_event
from segue.model.transitions import Arrival
from segue_functions import failures
from segue_functions.events import FINALIZED, parse_media
from segue_functions.stack import get_services

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

failures.register_error_handlers()


@functions_framework.cloud_event
def arrival(event: CloudEvent) -> None:
    """Record one version of a file; an event that is repeated or too late changes nothing."""
    about: dict[str, Any] = {"event": event["id"]}
    with failures.log_failures(about):
        services = get_services()
        media = parse_media(event, FINALIZED)
        about |= {"file": media.uri, "generation": media.generation}
        if reason := services.media_filter.find_reason_to_ignore(media.uri):
            log_event(Action.IGNORED, reason=reason, **about)
            return
        recorded = services.arrivals.record([media])[0]
        if recorded is Arrival.STALE:
            reason = "a newer version exists, or the file has since been deleted"
            log_event(Action.IGNORED, ledger=recorded, reason=reason, **about)
        else:
            log_event(Action.ARRIVED, ledger=recorded, **about)
