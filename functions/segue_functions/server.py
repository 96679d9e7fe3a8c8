"""All functions in one server, for a laptop: ``python -m segue_functions.server --port 8080``.

Each function is mounted at its name, made by functions-framework from its own module as in the
cloud, and served by gunicorn as there, with threads in one worker process.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import functions_framework

from segue.errors import SegueError
from segue.log import Action, configure, say
from segue.model.settings import Settings
from segue_functions import stack

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

FUNCTIONS = ("arrival", "deletion", "sweep", "request")
THREADS = 8
KEEP_ALIVE_S = 75
GRACE_S = 20  # for what is under way when the server is told to end


def app() -> WSGIApplication:
    """All functions, each at its name, and ``/healthz``."""
    folder = os.path.dirname(os.path.abspath(__file__))
    made: dict[str, WSGIApplication] = {
        name: functions_framework.create_app(name, os.path.join(folder, f"{name}.py"))  # type: ignore[no-untyped-call]
        for name in FUNCTIONS
    }
    made["healthz"] = _healthz

    def called(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        name = environ["PATH_INFO"].strip("/")
        if name not in made:
            known = " ".join(f"/{name}" for name in made)
            return _text(start, "404 Not Found", f"there are {known}\n")
        below = {"SCRIPT_NAME": f"{environ.get('SCRIPT_NAME', '')}/{name}", "PATH_INFO": "/"}
        return made[name]({**environ, **below}, start)

    return called


def _healthz(_environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
    try:
        stack.current()
    except SegueError as error:
        return _text(start, "503 Service Unavailable", f"{error}\n")
    return _text(start, "200 OK", "ok\n")


def _text(start: StartResponse, status: str, text: str) -> Iterable[bytes]:
    body = text.encode()
    start(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def serve(host: str, port: int) -> None:
    """Serve until a signal ends the process."""
    from gunicorn.app.base import BaseApplication
    from gunicorn.arbiter import Arbiter

    stack.build(Settings.of()).close()  # what is wrong with the set-up is told before anything runs
    options: dict[str, Any] = {
        "bind": f"{host}:{port}",
        "worker_class": "gthread",
        "threads": THREADS,
        "keepalive": KEEP_ALIVE_S,
        "graceful_timeout": GRACE_S,
        "timeout": 0,  # a request over many files may take its time
        "loglevel": "warning",
        "control_socket_disable": True,
        "post_worker_init": _started,
        "worker_exit": _stopped,
    }
    made = app()

    class Server(BaseApplication):  # type: ignore[misc]
        """The server, with its options given and none read from elsewhere."""

        def load_config(self) -> None:
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Callable[..., Any]:
            return made

    class Calm(Arbiter):  # type: ignore[misc]
        """Ends at Ctrl-C as it does at SIGTERM: a worker that is told to quit may not get to it."""

        def handle_int(self) -> None:
            self.handle_term()

    Calm(Server()).run()


def _started(worker: Worker) -> None:
    """Tell where the server is, once it can serve."""
    stack.current()
    host, port = worker.sockets[0].getsockname()[:2]
    say(Action.STARTED, host=host, port=port, functions=FUNCTIONS)


def _stopped(_arbiter: Arbiter, _worker: Worker) -> None:
    stack.close()
    say(Action.STOPPED)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(prog="python -m segue_functions.server", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080, help="0: any that is free")
    given = parser.parse_args(arguments)
    configure(as_json=True)
    try:
        serve(given.host, given.port)
    except SegueError as error:
        say(Action.MISCONFIGURED, severity="ERROR", error=str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
