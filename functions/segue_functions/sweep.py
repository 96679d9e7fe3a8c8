"""The function that a schedule triggers: it publishes messages for unfinished work again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework

from segue.log import Action, log_event
from segue_functions import failures
from segue_functions.events import parse_sweep_order
from segue_functions.stack import get_services
from segue_functions.transport import respond_to_event

if TYPE_CHECKING:
    import flask
    from cloudevents.http import CloudEvent
    from flask.typing import ResponseReturnValue

    from segue_functions.stack import Services

failures.prepare_app()


@functions_framework.http
def sweep(call: flask.Request) -> ResponseReturnValue:
    """Respond to the request that carries the event."""
    return respond_to_event(call, handle_sweep)


def handle_sweep(event: CloudEvent, services: Services | None = None) -> None:
    """Publish messages for unfinished work again, up to a limit; the next run continues."""
    about: dict[str, Any] = {"event": event["id"]}
    with failures.log_failures(about):
        services = services or get_services()
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
