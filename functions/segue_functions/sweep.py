"""The function that a schedule triggers: it publishes messages for unfinished work again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework

from segue.log import Action, log_event
from segue_functions import failures
from segue_functions.events import parse_sweep_order
from segue_functions.stack import get_services

if TYPE_CHECKING:
    from cloudevents.http import CloudEvent

failures.register_error_handlers()


@functions_framework.cloud_event
def sweep(event: CloudEvent) -> None:
    """Publish messages for unfinished work again, up to a limit; the next run continues."""
    about: dict[str, Any] = {"event": event["id"]}
    with failures.log_failures(about):
        services = get_services()
        order = parse_sweep_order(event)
        about |= {"limit": order.limit}
        result = services.sweeper.run(limit=order.limit)
        log_event(
            Action.SWEPT,
            files=result.files,
            pending=result.pending,
            expired=result.expired,
            limited=result.limited,
            **about,
        )
