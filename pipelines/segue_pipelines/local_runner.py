"""Beam's local runner, without a hang of its worker processes.

If a pipeline fails while one of its worker processes is still starting, Beam 2.77 stops only the
workers that are connected, and then waits for all of them: for ever, as the late one waits for
work.
"""

from __future__ import annotations

from typing import Any

from apache_beam.runners.portability.fn_api_runner import FnApiRunner, worker_handlers

_STOP = worker_handlers.BeamFnControlServicer._DONE_MARKER  # noqa: SLF001 - Beam has no other way
_close = worker_handlers.ControlConnection.close


def build_local_runner() -> Any:
    """Return a local runner whose late workers stop, too."""
    worker_handlers.ControlConnection.close = _close_for_late_workers
    return FnApiRunner()


def _close_for_late_workers(connection: Any) -> None:
    """Close a worker's connection, and leave the order to stop for a worker that connects later."""
    _close(connection)
    connection.push(_STOP)
