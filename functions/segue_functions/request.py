"""The HTTP function: it accepts a request for results, and returns an id to follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework
import msgspec

from segue.ingest.requests import InvalidRequest, parse_request
from segue.log import Action, log_event
from segue_functions import failures
from segue_functions.caller import find_caller
from segue_functions.stack import get_services
from segue_functions.transport import refuse, respond

if TYPE_CHECKING:
    import flask
    from flask.typing import ResponseReturnValue

MAX_BYTES = 4 << 20  # a thousand names take a megabyte, and JSON may escape each letter

failures.prepare_app(max_bytes=MAX_BYTES)


@functions_framework.http
def request(call: flask.Request) -> ResponseReturnValue:
    """Accept a POST of JSON such as ``{"prefix": "gs://bucket/a/", "jobs": ["beats"]}``.

    The response is 202 with the id of the request. If it has ``after``, too, there are more files:
    send the same request again with both.
    """
    about: dict[str, Any] = {}
    with failures.log_failures(about):
        services = get_services()
        if call.method != "POST":
            return refuse(f"{call.method} is not allowed; POST a request", 405, Allow="POST")
        try:
            receipt = services.requests.accept(
                parse_request(call.get_data()), who=find_caller(call.headers)
            )
        except InvalidRequest as error:
            return refuse(str(error), 400)
        about |= {"request": receipt.request, "targets": receipt.targets}
        log_event(Action.REQUESTED, files=receipt.files, ignored=len(receipt.ignored), **about)
        return respond(msgspec.json.encode(receipt), 202)
    raise AssertionError  # only events raise MalformedEvent
