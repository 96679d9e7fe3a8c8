"""A server of all functions for a laptop: ``segue serve`` or ``python -m segue_functions.server``.

Each function is mounted at its name. As in the cloud, functions-framework builds it from its own
module, and gunicorn serves it, with threads in one worker process. There is no authentication.
Requests with an Origin header are refused: browsers send it with each POST of a web page, and no
page has any business here.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import functions_framework

from segue.errors import ConfigurationError, SegueError
from segue.log import Action, configure, log_event
from segue.model.settings import Settings
from segue_functions import stack

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

FUNCTIONS = ("arrival", "deletion", "sweep", "request")
THREADS = 8
KEEP_ALIVE_S = 75
GRACE_S = 20  # for requests under way when the server is stopped


def build_app() -> WSGIApplication:
    """Build the app of all functions, each at its name, and ``/healthz``."""
    folder = os.path.dirname(os.path.abspath(__file__))
    apps: dict[str, WSGIApplication] = {
        name: functions_framework.create_app(name, os.path.join(folder, f"{name}.py"))  # type: ignore[no-untyped-call]
        for name in FUNCTIONS
    }
    apps["healthz"] = _answer_healthz

    def dispatch(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if "HTTP_ORIGIN" in environ:
            return _respond(start, "403 Forbidden", "requests of web pages are refused\n")
        name = environ["PATH_INFO"].strip("/")
        if name not in apps:
            known = " ".join(f"/{name}" for name in apps)
            return _respond(start, "404 Not Found", f"not found; there are {known}\n")
        path = {"SCRIPT_NAME": f"{environ.get('SCRIPT_NAME', '')}/{name}", "PATH_INFO": "/"}
        return apps[name]({**environ, **path}, start)

    return dispatch


def _answer_healthz(_environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    try:
        stack.get_services()
    except SegueError as error:
        return _respond(start, "503 Service Unavailable", f"{error}\n")
    return _respond(start, "200 OK", "ok\n")


def _respond(start: StartResponse, status: str, text: str) -> Iterable[bytes]:
    body = text.encode()
    start(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def serve(host: str, port: int) -> None:
    """Serve until a signal ends the process."""
    from gunicorn.app.base import BaseApplication
    from gunicorn.arbiter import Arbiter

    stack.build_services(Settings.load()).close()  # a wrong set-up fails before anything runs
    options: dict[str, Any] = {
        "bind": f"fd://{_bind(host, port)}",
        "worker_class": "gthread",
        "threads": THREADS,
        "keepalive": KEEP_ALIVE_S,
        "graceful_timeout": GRACE_S,
        "timeout": 0,  # a request over many files may take long
        "loglevel": "warning",
        "control_socket_disable": True,
        "post_worker_init": _log_start,
        "worker_exit": _log_stop,
    }
    app = build_app()

    class Server(BaseApplication):  # type: ignore[misc]
        """The server, with only the options given here."""

        def load_config(self) -> None:
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Callable[..., Any]:
            return app

    class GracefulArbiter(Arbiter):  # type: ignore[misc]
        """Handles Ctrl-C like SIGTERM: a worker that gets SIGQUIT may not end cleanly."""

        def handle_int(self) -> None:
            self.handle_term()

    GracefulArbiter(Server()).run()


def _bind(host: str, port: int) -> int:
    """Return a file descriptor that listens; gunicorn would retry, and only log that it failed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family).detach()
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise ConfigurationError(
            f"cannot listen on {host}, port {port} ({reason}); choose another address"
        ) from error


def _log_start(worker: Worker) -> None:
    """Log the address of the server, once it can serve."""
    stack.get_services()
    host, port = worker.sockets[0].getsockname()[:2]
    log_event(Action.STARTED, host=host, port=port, functions=FUNCTIONS)


def _log_stop(_arbiter: Arbiter, _worker: Worker) -> None:
    stack.close()
    log_event(Action.STOPPED)


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
