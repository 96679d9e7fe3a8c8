"""A job on Dataflow is cancelled by a request to the service, here a server on this machine."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from google.auth.credentials import AnonymousCredentials

from segue.adapters.dataflow_jobs import cancel_job
from segue.errors import ConfigurationError, Unavailable

NAME = "projects/acme/locations/europe-west1/jobs/2026-01-02_03_04_05-1"


class Service:
    """Answers with a status, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[tuple[str, str, object]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append((self.command, self.path, body))
                self.send_response(service.status)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def cancel(self) -> None:
        cancel_job(NAME, endpoint=self.endpoint, credentials=AnonymousCredentials())


@pytest.fixture
def service():
    made = Service()
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_the_service_is_asked_to_cancel_the_job(service):
    service.cancel()
    wanted = {"requestedState": "JOB_STATE_CANCELLED"}
    assert service.asked == [("PUT", f"/v1b3/{NAME}", wanted)]


@pytest.mark.parametrize(
    ("status", "error", "remedy"),
    [
        (403, ConfigurationError, "grant roles/dataflow.developer"),
        (
            404,
            ConfigurationError,
            "gcloud dataflow jobs cancel 2026-01-02_03_04_05-1",
        ),
        (400, ConfigurationError, "it may have ended"),
        (429, Unavailable, "try again"),
        (503, Unavailable, "try again"),
    ],
)
def test_what_the_service_refuses_is_told_with_a_remedy(service, status, error, remedy):
    service.status = status
    with pytest.raises(error, match=remedy):
        service.cancel()


def test_a_service_that_cannot_be_reached_is_unavailable(service):
    service.server.server_close()
    with pytest.raises(Unavailable, match="Dataflow cannot be reached"):
        service.cancel()
