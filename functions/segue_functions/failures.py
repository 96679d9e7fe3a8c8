"""How functions handle errors: they log each one once, and have the event retried if that helps.

An error that reaches the framework becomes a 500 with a traceback in the log. Errors that others
can repair get a 503 without a traceback instead. Either way, the event is delivered up to 100 times
in about 15 hours, and then dead-lettered (``infra/modules/function``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import functions_framework
from cloudevents.exceptions import DataUnmarshallerError

from segue.errors import ConfigurationError, SegueError, TransientError
from segue.log import Action, log_event
from segue_functions.events import MalformedEvent

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

RETRY_AFTER_S = 10


@contextlib.contextmanager
def log_failures(about: dict[str, Any]) -> Iterator[None]:
    """Log errors; swallow those of malformed events, and raise all others to the framework.

    ``about`` has the log fields of the event; the function adds to it as it learns more.
    """
    try:
        yield
    except MalformedEvent as error:
        log_event(Action.MALFORMED, severity="ERROR", reason=str(error), **about)
    except TransientError as error:
        log_event(
            Action.UNAVAILABLE, severity="WARNING", kind=error.kind, error=str(error), **about
        )
        raise
    except ConfigurationError as error:
        log_event(Action.MISCONFIGURED, severity="ERROR", error=str(error), **about)
        raise


def register_error_handlers() -> None:
    """Register responses to logged errors with the app that is being built from a module."""
    for error, handler in (
        (TransientError, _ask_to_retry),
        (ConfigurationError, _ask_to_retry),
        (DataUnmarshallerError, _accept_unreadable),
    ):
        functions_framework.errorhandler(error)(handler)


def _ask_to_retry(error: SegueError) -> ResponseReturnValue:
    return {"error": str(error)}, 503, {"Retry-After": str(RETRY_AFTER_S)}


def _accept_unreadable(error: DataUnmarshallerError) -> ResponseReturnValue:
    """Acknowledge a body that is not JSON; it reaches no function, and a retry would not help."""
    log_event(Action.MALFORMED, severity="ERROR", reason=str(error)[:1000])
    return "OK"
