"""Serves the console in a thread, until it is stopped."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

import uvicorn

from segue.errors import ConfigurationError
from segue_console.app import build_app
from segue_console.plans import Plans
from segue_console.security import TOKEN, Access, TokenAccess, create_token
from segue_console.waveforms import Waveforms

if TYPE_CHECKING:
    from segue_console.namespace import Namespace

HOST = "127.0.0.1"
END_S = 2  # for answers under way


class ConsoleServer:
    """Answers requests in a thread.

    Parameters
    ----------
    namespaces : mapping of str to Namespace
    listener : socket
        What it listens on already; it is closed at the end.
    access : Access
    hosts : collection of str or None
        The names, with their ports, under which it is reached; None: a proxy checks them.
    allow_changes : bool
    url : str
        What a reader opens.
    """

    def __init__(
        self,
        namespaces: Mapping[str, Namespace],
        listener: socket.socket,
        *,
        access: Access,
        hosts: Collection[str] | None,
        allow_changes: bool = False,
        url: str = "",
    ) -> None:
        self.url = url
        self._namespaces, self._socket, self._access = namespaces, listener, access
        self._waveforms, self._plans = Waveforms(), Plans()
        app = build_app(
            namespaces,
            waveforms=self._waveforms,
            plans=self._plans,
            access=access,
            hosts=hosts,
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

    @property
    def port(self) -> int:
        """Where it listens."""
        found: int = self._socket.getsockname()[1]
        return found

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def create_single_use_url(self) -> str:
        """Return an address that lets one browser in, once: others may see it among processes."""
        assert isinstance(self._access, TokenAccess)
        return _build_url(self.port, self._access.create_single_use())

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


@contextlib.contextmanager
def run_server(server: ConsoleServer) -> Iterator[ConsoleServer]:
    """Answer requests until the end of the block."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def serve_console(
    namespaces: Mapping[str, Namespace], *, port: int, allow_changes: bool, token: str | None = None
) -> Iterator[ConsoleServer]:
    """Serve on this machine until the end of the block.

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
    listener = listen(HOST, port)
    port = listener.getsockname()[1]
    token = token or create_token()
    server = ConsoleServer(
        namespaces,
        listener,
        access=TokenAccess(token, port),
        hosts=(f"{HOST}:{port}", f"localhost:{port}"),
        allow_changes=allow_changes,
        url=_build_url(port, token),
    )
    with run_server(server):
        yield server


def _build_url(port: int, token: str) -> str:
    return f"http://{HOST}:{port}/?{TOKEN}={token}"


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises ``ConfigurationError`` if the port is taken."""
    # With the protocol, asyncio sends each part at once; else a page waits 40 ms for its second.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # a request that comes before the server is up waits
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"port {port} of {host} cannot be used ({error.strerror}); name another with --port, "
            "or 0 for a free one"
        ) from error
    return listener
