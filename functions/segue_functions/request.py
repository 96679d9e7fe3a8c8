"""The function that answers HTTP: results are asked for, and an id to follow them is returned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import functions_framework
import msgspec

from segue.ingest.requests import InvalidRequest, decode
from segue.log import Action, say
from segue_functions import failures
from segue_functions.stack import current

if TYPE_CHECKING:
    import flask
    from flask.typing import ResponseReturnValue

MOST_BYTES = 4 << 20  # a thousand names have a megabyte, and JSON may escape each letter

failures.answered()


@functions_framework.http
def request(call: flask.Request) -> ResponseReturnValue:
    """Take a POST of JSON such as ``{"prefix": "gs://bucket/a/", "jobs": ["beats"]}``.

    Answers 202 and the id of the request. If ``after`` is answered, too, there are more files: the
    same request is to be sent again, with both.
    """
    about: dict[str, Any] = {}
    with failures.told(about):
        stack = current()
        if call.method != "POST":
            return _refused(f"{call.method} is not taken; POST a request", 405, Allow="POST")
        body = call.get_data()
        if len(body) > MOST_BYTES:
            return _refused(f"a request has at most {MOST_BYTES:,} bytes; name a prefix", 413)
        try:
            accepted = stack.requests.take(decode(body))
        except InvalidRequest as error:
            return _refused(str(error), 400)
        about |= {"request": accepted.request, "targets": accepted.targets}
        say(Action.REQUESTED, files=accepted.files, ignored=len(accepted.ignored), **about)
        return _json(msgspec.json.encode(accepted), 202)
    raise AssertionError  # nothing that is asked for is a malformed event


def _refused(reason: str, status: int, **headers: str) -> ResponseReturnValue:
    say(Action.MALFORMED, severity="WARNING", reason=reason[:1000])
    return _json(msgspec.json.encode({"error": reason}), status, **headers)


def _json(body: bytes, status: int, **headers: str) -> ResponseReturnValue:
    return body, status, {"Content-Type": "application/json", **headers}
