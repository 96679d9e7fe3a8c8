"""The function that a finalized object wakes: it is recorded, and its jobs are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework

from segue.log import Action, say
from segue.model.ledger import Arrival
from segue_functions import failures
from segue_functions.events import FINALIZED, media_of
from segue_functions.stack import current

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

failures.answered()


@functions_framework.cloud_event
def arrival(event: CloudEvent) -> None:
    """Take in one version of a file; what comes twice or too late changes nothing."""
    about: dict[str, Any] = {"event": event["id"]}
    with failures.told(about):
        stack = current()
        media = media_of(event, FINALIZED)
        about |= {"file": media.uri, "generation": media.generation}
        if refusal := stack.intake.refusal(media.uri):
            say(Action.IGNORED, reason=refusal, **about)
            return
        told = stack.arrivals.take([media])[0]
        if told is Arrival.STALE:
            reason = "a newer version is there, or it was deleted since"
            say(Action.IGNORED, ledger=told, reason=reason, **about)
        else:
            say(Action.ARRIVED, ledger=told, **about)
