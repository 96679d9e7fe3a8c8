"""A worker without Beam: it pulls messages in a loop, for as long as it runs.

Any number of them may run at once, on machines or in containers of any kind: each message goes to
one of them, and what one leaves unfinished goes to another. So whatever starts containers by the
length of a queue scales them.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

from segue.adapters.connect import check_writable
from segue.errors import ConfigurationError
from segue.execution.leases import release_at_exit
from segue.execution.stop_signals import stop_at_signals
from segue.execution.stream_worker import StreamWorker
from segue.execution.streaming_run import StreamingRun, log_reply, open_stream_worker
from segue.log import Action, log_event
from segue.model.lease_owner import is_of_this_process

TURN_S = 1.0
STALLED_S = 60.0  # a worker whose loop has not turned for so long is ill


class Health:
    """Whether a worker's loop goes on; long jobs run in child processes, and do not stop it."""

    def __init__(self, run: StreamingRun) -> None:
        self._pipelines = run.pipelines
        self._turned_at_s = time.monotonic()
        self.running = 0

    def record_turn(self, worker: StreamWorker) -> None:
        """Record that the loop has turned."""
        self._turned_at_s = time.monotonic()
        self.running = worker.running

    def describe(self) -> tuple[bool, dict[str, object]]:
        """Return whether the worker is well, and what it is doing."""
        idle_s = time.monotonic() - self._turned_at_s
        is_well = idle_s < STALLED_S
        return is_well, {
            "ok": is_well,
            "pipelines": list(self._pipelines),
            "running": self.running,
            "seconds_since_turn": round(idle_s, 1),
        }


def work(run: StreamingRun, *, port: int | None = None) -> None:
    """Work on the messages of some pipelines until a signal stops it, or it is idle.

    At SIGTERM or SIGINT running jobs have 15 seconds to finish. With a ``port``, ``GET /`` there
    responds 200 while the loop turns, and 503 if it does not.
    """
    check_writable(run.artifacts)
    health = Health(run)
    try:
        with contextlib.ExitStack() as opened:
            if port is not None:
                opened.enter_context(_serve(health, port))
            attach = opened.enter_context(stop_at_signals())
            worker = open_stream_worker(run, opened)
            attach(worker)
            while not worker.is_over:
                for reply in worker.work(TURN_S):
                    log_reply(reply)
                health.record_turn(worker)
    finally:
        release_at_exit(run.ledger, run.graph.namespace, is_of_this_process)
    log_event(Action.STOPPED, pipelines=" ".join(run.pipelines))


@contextlib.contextmanager
def _serve(health: Health, port: int) -> Iterator[None]:
    """Serve the health of a worker while it runs, to whatever looks after its container."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_well, found = health.describe()
            body = json.dumps(found).encode()
            self.send_response(HTTPStatus.OK if is_well else HTTPStatus.SERVICE_UNAVAILABLE)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Log nothing: probes come every few seconds."""

    try:
        server = http.server.ThreadingHTTPServer(("", port), Handler)
    except OSError as error:
        raise ConfigurationError(
            f"port {port} cannot be used ({error.strerror}); name another one with --health-port"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
