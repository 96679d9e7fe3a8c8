"""Serves the console on this machine, in a thread, until it is stopped."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import uvicorn

from segue.errors import ConfigurationError
from segue_console.app import build_app
from segue_console.plans import Plans
from segue_console.security import TOKEN, TokenAccess
from segue_console.waveforms import Waveforms

if TYPE_CHECKING:
    from segue_console.namespace import Namespace

HOST = "127.0.0.1"
END_S = 2  # for answers under way


class ConsoleServer:
    """A server that listens already.

    Parameters
    ----------
    namespaces : mapping of str to Namespace
    port : int
        0 picks a free one.
    allow_changes : bool
    token : str, optional
        What lets a browser in; by default a new one.

    Raises
    ------
    ConfigurationError
        If the port is taken.
    """

    def __init__(
        self,
        namespaces: Mapping[str, Namespace],
        *,
        port: int,
        allow_changes: bool,
        token: str | None = None,
    ) -> None:
        self._namespaces = namespaces
        self._socket = _listen(port)
        self.port: int = self._socket.getsockname()[1]
        token = token or create_token()
        self.url = f"http://{HOST}:{self.port}/?{TOKEN}={token}"
        self._waveforms, self._plans = Waveforms(), Plans()
        app = build_app(
            namespaces,
            waveforms=self._waveforms,
            plans=self._plans,
            access=TokenAccess(token, self.port),
            hosts=(f"{HOST}:{self.port}", f"localhost:{self.port}"),
            allow_changes=allow_changes,
        )
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=END_S,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)

    def start(self) -> None:
        """Answer requests."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, after the answers under way."""
        for namespace in self._namespaces.values():
            namespace.live.stop()  # which ends the streams to open pages
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        self._waveforms.close()
        self._plans.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def create_token() -> str:
    """Return a new token."""
    return secrets.token_urlsafe(24)


@contextlib.contextmanager
def serve_console(
    namespaces: Mapping[str, Namespace], *, port: int, allow_changes: bool, token: str | None = None
) -> Iterator[ConsoleServer]:
    """Serve until the end of the block."""
    server = ConsoleServer(namespaces, port=port, allow_changes=allow_changes, token=token)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _listen(port: int) -> socket.socket:
    # With the protocol, asyncio sends each part at once; else a page waits 40 ms for its second.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # a request that comes before the server is up waits
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"port {port} of {HOST} cannot be used ({error.strerror}); name another with --port, "
            "or 0 for a free one"
        ) from error
    return listener
