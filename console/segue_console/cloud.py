"""Serves the console in the cloud, behind Identity-Aware Proxy: it only reads.

Usage: ``python -m segue_console.cloud``, on Cloud Run. ``PORT`` is where it listens,
``SEGUE_CONSOLE_AUDIENCE`` what the proxy signs for, and the settings are as everywhere.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator

from segue.errors import ConfigurationError
from segue.log import Action, configure, log_event
from segue.model.settings import Settings
from segue_console.namespace import open_namespaces
from segue_console.security import ProxyAccess
from segue_console.server import ConsoleServer, listen, run_server

AUDIENCE = "SEGUE_CONSOLE_AUDIENCE"
HOST = "0.0.0.0"  # noqa: S104 - of the container, whose only caller is the proxy
LOOK_S = 1.0


def main() -> None:
    """Serve until the container is stopped."""
    configure(as_json=True)
    audience = os.environ.get(AUDIENCE)
    if not audience:
        raise ConfigurationError(
            f"{AUDIENCE} is not set, so nobody could be let in; deploy the console with Terraform"
        )
    port = int(os.environ.get("PORT", "8080"))
    with watch_signals() as stopped, open_namespaces([Settings.load()]) as namespaces:
        access = ProxyAccess(audience)
        server = ConsoleServer(namespaces, listen(HOST, port), access=access, hosts=None)
        with run_server(server):
            log_event(Action.STARTED, port=port)
            while server.is_running and not select.select([stopped], [], [], LOOK_S)[0]:
                pass
        log_event(Action.STOPPED)


@contextlib.contextmanager
def watch_signals() -> Iterator[int]:
    """Yield a file descriptor that can be read once SIGTERM or SIGINT has come.

    uvicorn's own handlers would end the process before the worker and the plan are stopped.
    """
    reader, writer = os.pipe()
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {n: signal.signal(n, lambda *_: os.write(writer, b"!")) for n in signals}
    try:
        yield reader
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


if __name__ == "__main__":
    main()
