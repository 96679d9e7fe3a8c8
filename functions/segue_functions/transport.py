"""HTTP around the functions: reads and parses whatever a caller sends.

functions-framework can parse events, too, but turns what its parser raises for hostile input into a
500; and the sender of an event repeats what was answered with 500.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import flask
import msgspec
from cloudevents.http import from_http
from werkzeug.wsgi import get_content_length, get_input_stream

from segue.log import Action, log_event
from segue.model.media_file import is_unicode
from segue_functions.events import MalformedEvent

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from cloudevents.http import CloudEvent
    from flask.typing import ResponseReturnValue
    from werkzeug.datastructures import Headers

# Pub/Sub delivers at most 10 MB, in base64; so nothing that Eventarc sends is too large.
MAX_BODY_BYTES = 16 << 20
MAX_ATTRIBUTE = 1024  # characters of an event's id, source or type


class BodyReader:
    """WSGI middleware that reads each request's body before the app runs.

    A body that is too large, or that breaks off, never reaches the app.
    """

    def __init__(self, app: WSGIApplication, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._app = app
        self._max_bytes = max_bytes

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        try:
            body = self._read(environ)
        except Exception as error:  # noqa: BLE001 - each server has errors of its own for this
            reason = f"the body cannot be read ({type(error).__name__}); send it again"
            return flask.Response(*refuse(reason, 400))(environ, start)
        if body is None:
            reason = f"the body has more than {self._max_bytes:,} bytes; send less"
            return flask.Response(*refuse(reason, 413))(environ, start)
        given: dict[str, Any] = {
            "wsgi.input": BytesIO(body),
            "wsgi.input_terminated": True,
            "CONTENT_LENGTH": str(len(body)),
        }
        return self._app({**environ, **given}, start)

    def _read(self, environ: WSGIEnvironment) -> bytes | None:
        """Return the body, or None if it is too large."""
        length = get_content_length(environ)
        if length is not None and length > self._max_bytes:
            return None
        stream = get_input_stream(environ)
        if not environ.get("wsgi.input_terminated"):
            return stream.read()
        body = stream.read(self._max_bytes + 1)  # in chunks, it may be of any size
        if length is not None and len(body) < length:
            raise EOFError
        return body if len(body) <= self._max_bytes else None


def respond_to_event(
    call: flask.Request, handle: Callable[[CloudEvent], None]
) -> ResponseReturnValue:
    """Parse the event of a request, have it handled, and respond.

    What is no CloudEvent is answered with 400. Eventarc sends none such; so a person, or a wrong
    program, reads the answer. The data of an event is for ``handle`` to judge.
    """
    if call.method != "POST":
        return refuse(f"{call.method} is not allowed; POST an event", 405, Allow="POST")
    try:
        event = parse_event(call.headers, call.get_data())
    except MalformedEvent as error:
        return refuse(str(error), 400)
    handle(event)
    return "OK"


def parse_event(headers: Headers, body: bytes) -> CloudEvent:
    """Parse a CloudEvent in binary or structured mode; its data stays as bytes or text of JSON.

    Raises
    ------
    MalformedEvent
        If it is none, or lacks an id, a source or a type.
    """
    try:
        event = from_http(headers, body, data_unmarshaller=_keep)
    except Exception as error:  # the library passes on what codecs, json and dicts raise
        raise MalformedEvent(
            f"the request is not a CloudEvent in binary or structured mode ({type(error).__name__}"
            "); check the sender"
        ) from error
    for name in ("id", "source", "type"):
        value: object = event.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= MAX_ATTRIBUTE:
            raise MalformedEvent(
                f"the event's {name} is not a text of at most {MAX_ATTRIBUTE:,} characters; check "
                "the sender"
            )
        if not is_unicode(value):
            raise MalformedEvent(f"the event's {name} is not Unicode; check the sender")
    return event


def _keep(data: Any) -> Any:
    return data


def refuse(reason: str, status: int, **headers: str) -> tuple[bytes, int, dict[str, str]]:
    """Log why a request is refused, and return the response that says so."""
    log_event(Action.MALFORMED, severity="WARNING", reason=reason[:1000])
    return respond(msgspec.json.encode({"error": reason}), status, **headers)


def respond(body: bytes, status: int, **headers: str) -> tuple[bytes, int, dict[str, str]]:
    """Return a response with JSON."""
    return body, status, {"Content-Type": "application/json", **headers}
