"""What a function does with what goes wrong: it is told once, and sent again where that helps.

An error that reaches the framework becomes a 500 with a traceback in the log. What can be repaired
by others is answered with 503 instead, without one: the event is delivered again, for a day.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import functions_framework
from cloudevents.exceptions import DataUnmarshallerError

from segue.errors import ConfigurationError, SegueError, TransientError
from segue.log import Action, say
from segue_functions.events import MalformedEvent

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

RETRY_AFTER_S = 10


@contextlib.contextmanager
def told(about: dict[str, Any]) -> Iterator[None]:
    """Log what goes wrong; what is malformed ends here, everything else goes on to the sender.

    ``about`` is what is known of the event by then; the function adds to it.
    """
    try:
        yield
    except MalformedEvent as error:
        say(Action.MALFORMED, severity="ERROR", reason=str(error), **about)
    except TransientError as error:
        say(Action.UNAVAILABLE, severity="WARNING", kind=error.kind, error=str(error), **about)
        raise
    except ConfigurationError as error:
        say(Action.MISCONFIGURED, severity="ERROR", error=str(error), **about)
        raise


def answered() -> None:
    """Let the app that is being made out of a module answer errors that ``told`` has logged."""
    for error, answer in (
        (TransientError, _come_again),
        (ConfigurationError, _come_again),
        (DataUnmarshallerError, _unreadable),
    ):
        functions_framework.errorhandler(error)(answer)


def _come_again(error: SegueError) -> ResponseReturnValue:
    return {"error": str(error)}, 503, {"Retry-After": str(RETRY_AFTER_S)}


def _unreadable(error: DataUnmarshallerError) -> ResponseReturnValue:
    """What no parser of JSON gets through never reaches a handler; nor will it the next time."""
    say(Action.MALFORMED, severity="ERROR", reason=str(error)[:1000])
    return "OK"
