"""The function that a deleted object wakes: a tombstone is left, and artifacts go by policy.

An object that is overwritten is told of twice, as the arrival of its new version and the deletion
of its old one, in any order; the ledger knows which one is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework

from segue.log import Action, say
from segue_functions import failures
from segue_functions.events import ARCHIVED, DELETED, media_of
from segue_functions.stack import current

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

failures.answered()


@functions_framework.cloud_event
def deletion(event: CloudEvent) -> None:
    """Take in the end of one version of a file; what comes twice or too late changes nothing."""
    about: dict[str, Any] = {"event": event["id"]}
    with failures.told(about):
        stack = current()
        media = media_of(event, DELETED, ARCHIVED)
        about |= {"file": media.uri, "generation": media.generation}
        if refusal := stack.intake.refusal(media.uri):
            say(Action.IGNORED, reason=refusal, **about)
            return
        deleted = stack.deletions.take(media)
        if deleted.buried or deleted.removed:
            say(Action.DELETED, removed=deleted.removed, **about)
        else:
            reason = "a newer version is there, or it was deleted before"
            say(Action.IGNORED, reason=reason, **about)
