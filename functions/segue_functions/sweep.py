"""The function that a schedule wakes: what was left lying is published again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework

from segue.log import Action, say
from segue_functions import failures
from segue_functions.events import sweep_order_of
from segue_functions.stack import current

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

failures.answered()


@functions_framework.cloud_event
def sweep(event: CloudEvent) -> None:
    """Look for what was left lying, and publish it up to a limit; the next run goes on."""
    about: dict[str, Any] = {"event": event["id"]}
    with failures.told(about):
        stack = current()
        order = sweep_order_of(event)
        about |= {"limit": order.limit}
        swept = stack.sweeper.run(limit=order.limit)
        say(
            Action.SWEPT,
            files=swept.files,
            owed=swept.owed,
            expired=swept.expired,
            limited=swept.limited,
            **about,
        )
