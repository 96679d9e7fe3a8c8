"""How functions handle errors: they log each one once, and have the event retried if that helps.

An error that reaches the framework becomes a 500 with a traceback in the log. Errors that others
can repair get a 503 without a traceback instead. Either way, the event is delivered up to 100 times
in about 15 hours, and then dead-lettered (``infra/modules/function``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import flask
import functions_framework

from segue.errors import ConfigurationError, DamagedRecord, SegueError, TransientError
from segue.log import Action, log_event
from segue_functions.events import MalformedEvent
from segue_functions.transport import MAX_BODY_BYTES, BodyReader

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
    except DamagedRecord as error:
        log_event(Action.DAMAGED, severity="ERROR", error=str(error), **about)
        raise


def prepare_app(*, max_bytes: int = MAX_BODY_BYTES) -> None:
    """Prepare the app that functions-framework is building from the calling module, if it is.

    Bodies are read before the app runs, and errors that were logged get their responses.
    """
    for error in (TransientError, ConfigurationError, DamagedRecord):
        functions_framework.errorhandler(error)(_ask_to_retry)
    if flask.has_app_context():
        app = flask.current_app
        app.wsgi_app = BodyReader(app.wsgi_app, max_bytes)  # type: ignore[assignment, method-assign]


def _ask_to_retry(error: SegueError) -> ResponseReturnValue:
    return {"error": str(error)}, 503, {"Retry-After": str(RETRY_AFTER_S)}
