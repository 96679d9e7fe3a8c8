"""A server of all functions: ``segue serve``, or ``python -m segue_functions.server``.

Each function is mounted at its name. As in the cloud, functions-framework builds it from its own
module. Waitress serves them, since it reads requests without threads: connections that stall keep
none of the others waiting.

Web pages are refused: a browser sends an Origin with each POST of a page, and the page's own host
name where that name is made to point here. ``segue serve`` also asks for a token. The module by
itself asks for none, like the functions in the cloud, where Cloud Run checks each caller.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # the current folder: nothing in it may be imported

import argparse
import contextlib
import hmac
import ipaddress
import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import functions_framework

from segue.errors import ConfigurationError, SegueError
from segue.log import Action, configure, log_event
from segue.model.settings import Settings
from segue_functions import stack
from segue_functions.transport import MAX_BODY_BYTES

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FUNCTIONS = ("arrival", "deletion", "sweep", "request")
HOST = re.compile(r"(?:\[([^]]+)\]|([^:,]+))(?::\d*)?")  # the header, perhaps with a port
THREADS = 8
MAX_CONNECTIONS = 500  # of the 1,024 files that a process may usually have open
IDLE_S = 75  # after which a connection is closed
GRACE_S = 20  # for requests under way when the server is stopped


def build_app(host: str, token: str | None = None) -> WSGIApplication:
    """Build the app of all functions, each at its name, and ``/healthz``.

    Without a token, every caller but a web page is let in.
    """
    folder = os.path.dirname(os.path.abspath(__file__))
    apps: dict[str, WSGIApplication] = {
        name: functions_framework.create_app(name, os.path.join(folder, f"{name}.py"))  # type: ignore[no-untyped-call]
        for name in FUNCTIONS
    }
    apps["healthz"] = _answer_healthz

    def dispatch(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if "HTTP_ORIGIN" in environ or not _is_own_host(environ.get("HTTP_HOST", ""), host):
            return _respond(start, "403 Forbidden", "requests of web pages are refused\n")
        if token is not None and not _has_token(environ, token):
            text = "send the token in a header: Authorization: Bearer TOKEN\n"
            return _respond(start, "401 Unauthorized", text, ("WWW-Authenticate", "Bearer"))
        name = environ["PATH_INFO"].strip("/")
        if name not in apps:
            known = " ".join(f"/{name}" for name in apps)
            return _respond(start, "404 Not Found", f"not found; there are {known}\n")
        path = {"SCRIPT_NAME": f"{environ.get('SCRIPT_NAME', '')}/{name}", "PATH_INFO": "/"}
        return apps[name]({**environ, **path}, start)

    return dispatch


def _is_own_host(given: str, host: str) -> bool:
    """Whether a Host header has an address or a name of this server.

    The name of a page that was made to point here is neither.
    """
    found = HOST.fullmatch(given)
    if found is None:
        return False
    name = found[1] or found[2]
    if name.lower() in {"localhost", host.lower()}:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _has_token(environ: WSGIEnvironment, token: str) -> bool:
    scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    is_equal = hmac.compare_digest(given.strip().encode(), token.encode())
    return scheme.lower() == "bearer" and is_equal


def _answer_healthz(_environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    try:
        stack.get_services()
    except SegueError as error:
        return _respond(start, "503 Service Unavailable", f"{error}\n")
    return _respond(start, "200 OK", "ok\n")


def _respond(
    start: StartResponse, status: str, text: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    body = text.encode()
    start(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers])
    return [body]


def serve(
    host: str,
    port: int,
    *,
    token: str | None = None,
    on_start: Callable[[str, int], None] | None = None,
) -> None:
    """Serve until a signal ends the process; ``on_start`` gets the address first."""
    from waitress.server import create_server

    stack.build_services(Settings.load()).close()  # a wrong set-up fails before anything runs
    listening = _bind(host, port)
    server = create_server(
        build_app(host, token),
        sockets=[listening],
        threads=THREADS,
        connection_limit=MAX_CONNECTIONS,
        channel_timeout=IDLE_S,
        max_request_body_size=MAX_BODY_BYTES,
        asyncore_use_poll=True,
        log_socket_errors=False,
        ident="",
    )
    logging.getLogger("waitress").setLevel(logging.ERROR)  # else it warns of each full queue
    address, actual_port = listening.getsockname()[:2]
    with contextlib.ExitStack() as opened:
        opened.callback(stack.close)
        opened.callback(server.close)
        stack.get_services()
        if on_start is not None:
            on_start(address, actual_port)
        for number in (signal.SIGINT, signal.SIGTERM):
            opened.callback(signal.signal, number, signal.signal(number, _stop))
        log_event(Action.STARTED, host=address, port=actual_port, functions=FUNCTIONS)
        server.run()
        server.task_dispatcher.shutdown(timeout=GRACE_S)  # run() itself waits five seconds
    log_event(Action.STOPPED)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        host.encode("idna")  # as below, where an error would leave the socket open
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not a host's name"
        reason = str(cause).partition(" (")[0]
        raise ConfigurationError(
            f"cannot listen on {host}, port {port} ({reason}); choose another address"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(prog="python -m segue_functions.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0: any free port")
    given = parser.parse_args(arguments)
    configure(as_json=True)
    try:
        serve(given.host, given.port)
    except SegueError as error:
        log_event(Action.MISCONFIGURED, severity="ERROR", error=str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
