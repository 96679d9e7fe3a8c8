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
CONNECT_S, READ_S = 10.0, 60.0  # of one request
THREADS = 64  # that may have a connection kept open for them
# The client would ask for the bucket's metadata in a thread, for traces that nobody asked for.
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
        credentials, project = _credentials(anonymous=bool(emulator))
        self._session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        self._session.hooks["response"].append(_read_error)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=THREADS))
        self.client = Client(
            project=project or bucket,  # which only making buckets would need
            credentials=credentials,
            client_options={"api_endpoint": endpoint},
            _http=self._session,
        )
        self.bucket = self.client.bucket(bucket)
        self._timeout = (min(CONNECT_S, deadline_s), min(READ_S, deadline_s))
        self._retry = DEFAULT_RETRY.with_timeout(deadline_s)
        self.options = {"timeout": self._timeout, "retry": self._retry}  # of each call
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

        The client would make several requests of more than 8 MiB.
        """
        from google.api_core.exceptions import from_http_response

        description = {
            "name": name,
            "contentType": content_type,
            "metadata": dict(metadata),
            "crc32c": crc32c(data),  # the server refuses bytes that do not fit it
        }
        boundary = uuid.uuid4().hex
        body = multipart(boundary, msgspec.json.encode(description), content_type, data)
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


def multipart(boundary: str, description: bytes, content_type: str, data: bytes) -> bytes:
    """Put an object's description and its bytes into one body."""
    line = f"--{boundary}".encode()
    return b"".join(
        (
            *(line, b"\r\nContent-Type: application/json; charset=utf-8\r\n\r\n", description),
            *(b"\r\n", line, f"\r\nContent-Type: {content_type}\r\n\r\n".encode(), data),
            *(b"\r\n", line, b"--\r\n"),
        )
    )


def crc32c(data: bytes) -> str:
    """Return the checksum of an object's bytes as Cloud Storage writes it."""
    import google_crc32c

    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def _read_error(response: Response, *_args: object, **_kwargs: object) -> None:
    """Read an error to its end; the client leaves that of a download and its connection open."""
    if not response.ok:
        response.content  # noqa: B018 - reads it


def _credentials(*, anonymous: bool) -> tuple[Credentials, str | None]:
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    if anonymous:
        return AnonymousCredentials(), None  # type: ignore[no-untyped-call]
    found: tuple[Any, str | None] = google.auth.default(scopes=[SCOPE])
    return found
