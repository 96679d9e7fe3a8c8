"""A connection to Cloud Storage: the client, and uploads in one request."""

from __future__ import annotations

import base64
import os
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.auth.credentials import Credentials
    from requests import Response

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
CONNECT_S, READ_S = 10.0, 60.0  # per request
THREADS = 64  # that can keep a connection open
# Otherwise the client requests the bucket's metadata in a thread, for traces that nobody uses.
NO_TELEMETRY = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"


class Connection:
    """The client of one bucket."""

    def __init__(self, bucket: str, deadline_s: float) -> None:
        os.environ.setdefault(NO_TELEMETRY, "true")
        from google.auth.transport.requests import AuthorizedSession
        from google.cloud.storage import Client
        from google.cloud.storage.retry import DEFAULT_RETRY
        from requests.adapters import HTTPAdapter

        emulator = os.environ.get("STORAGE_EMULATOR_HOST")
        endpoint = "https://storage.googleapis.com"
        if emulator:
            endpoint = emulator if "://" in emulator else f"http://{emulator}"
        credentials, project = _find_credentials(anonymous=bool(emulator))
        self._session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        self._session.hooks["response"].append(_read_error_body)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=THREADS))
        self.client = Client(
            project=project or bucket,  # needed only to create buckets
            credentials=credentials,
            client_options={"api_endpoint": endpoint},
            _http=self._session,
        )
        self.bucket = self.client.bucket(bucket)
        self._timeout = (min(CONNECT_S, deadline_s), min(READ_S, deadline_s))
        self._retry = DEFAULT_RETRY.with_timeout(deadline_s)
        self.options = {"timeout": self._timeout, "retry": self._retry}  # for each call
        self._upload_url = f"{endpoint}/upload/storage/v1/b/{bucket}/o"

    def upload(
        self,
        name: str,
        data: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str],
        only_if_absent: bool,
    ) -> None:
        """Write an object in one request, https://cloud.google.com/storage/docs/uploading-objects.

        The client would split more than 8 MiB into several requests.
        """
        from google.api_core.exceptions import from_http_response

        description = {
            "name": name,
            "contentType": content_type,
            "metadata": dict(metadata),
            "crc32c": compute_crc32c(data),  # the server rejects bytes that do not match it
        }
        boundary = uuid.uuid4().hex
        body = build_multipart(boundary, msgspec.json.encode(description), content_type, data)
        params = {"uploadType": "multipart"}
        if only_if_absent:
            params["ifGenerationMatch"] = "0"

        def post() -> None:
            response = self._session.post(
                self._upload_url,
                params=params,
                data=body,
                headers={"Content-Type": f"multipart/related; boundary={boundary}"},
                timeout=self._timeout,
            )
            if not response.ok:
                raise from_http_response(response)  # type: ignore[no-untyped-call]

        self._retry(post)()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def build_multipart(boundary: str, description: bytes, content_type: str, data: bytes) -> bytes:
    """Build a request body from an object's description and its bytes."""
    line = f"--{boundary}".encode()
    return b"".join(
        (
            *(line, b"\r\nContent-Type: application/json; charset=utf-8\r\n\r\n", description),
            *(b"\r\n", line, f"\r\nContent-Type: {content_type}\r\n\r\n".encode(), data),
            *(b"\r\n", line, b"--\r\n"),
        )
    )


def compute_crc32c(data: bytes) -> str:
    """Return the checksum of some bytes in Cloud Storage's notation."""
    import google_crc32c

    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def _read_error_body(response: Response, *_args: object, **_kwargs: object) -> None:
    """Read an error response to its end; after a download the client would leave it open."""
    if not response.ok:
        response.content  # noqa: B018 - reads it


def _find_credentials(*, anonymous: bool) -> tuple[Credentials, str | None]:
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    if anonymous:
        return AnonymousCredentials(), None  # type: ignore[no-untyped-call]
    found: tuple[Any, str | None] = google.auth.default(scopes=[SCOPE])
    return found
