"""The client of Cloud Storage: its connections, uploads in one request, and its errors."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import uuid
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import msgspec

from segue.errors import ConfigurationError, DiskFull, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from requests import Response

SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
CONNECT_S, READ_S = 10.0, 60.0  # per request
THREADS = 64  # that can keep a connection open
DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}
# Otherwise the client requests the bucket's metadata in a thread, for traces that nobody uses.
NO_TELEMETRY = "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA"


class Connection:
    """The client of one bucket."""

    def __init__(self, bucket: str, deadline_s: float) -> None:
        os.environ.setdefault(NO_TELEMETRY, "true")
        import google.auth
        from google.auth.credentials import AnonymousCredentials
        from google.auth.transport.requests import AuthorizedSession
        from google.cloud.storage import Client
        from google.cloud.storage.retry import DEFAULT_RETRY
        from requests.adapters import HTTPAdapter

        if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):
            endpoint = emulator if "://" in emulator else f"http://{emulator}"
            credentials: Any = AnonymousCredentials()  # type: ignore[no-untyped-call]
        else:
            endpoint = "https://storage.googleapis.com"
            credentials, _ = google.auth.default(scopes=[SCOPE])
        self._session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        self._session.hooks["response"].append(_read_error_body)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=THREADS))
        self.client = Client(
            project=None,  # needed only to create buckets
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
        only_if_generation: int | None,
    ) -> None:
        """Write an object in one request, https://cloud.google.com/storage/docs/uploading-objects.

        Generation 0 means that the object must not exist, None that any may be overwritten. The
        client would split more than 8 MiB into several requests.
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
        if only_if_generation is not None:
            params["ifGenerationMatch"] = str(only_if_generation)

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


@contextlib.contextmanager
def translate_errors(place: str) -> Iterator[None]:
    """Translate errors of the server, the network and the disk into Segue's errors.

    The answers that an object is missing, or that a precondition failed, are the caller's.
    """
    from google.api_core.exceptions import (
        GoogleAPICallError,
        NotFound,
        PreconditionFailed,
        RetryError,
    )
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from requests import RequestException

    try:
        yield
    except (NotFound, PreconditionFailed):
        raise
    except (  # a response is missing or damaged
        *(RetryError, DataCorruption, InvalidResponse, RequestException),
        *(HTTPException, ConnectionError, TimeoutError),
    ) as error:
        raise _unavailable(place, error) from error
    except GoogleAPICallError as error:
        if error.code is None or error.code in {408, 429} or error.code >= 500:
            raise _unavailable(place, error) from error
        if error.code in {401, 403}:
            raise ConfigurationError(
                f"access to {place} is denied ({error.message}); "
                "grant roles/storage.objectUser to the account that runs this"
            ) from error
        raise ConfigurationError(
            f"{place}: the server rejected the request ({error.message}); correct the location"
        ) from error
    except GoogleAuthError as error:
        if error.retryable or isinstance(error, TransportError):
            raise _unavailable(place, error) from error
        raise ConfigurationError(
            f"{place}: the credentials are missing or were rejected ({error}); "
            "run 'gcloud auth application-default login', or use another account"
        ) from error
    except OSError as error:
        if error.errno not in DISK_FULL_ERRNOS:
            raise
        raise DiskFull(
            f"no room is left to download {place}; free some space, and run again"
        ) from error


def _unavailable(place: str, error: Exception) -> Unavailable:
    return Unavailable(f"{place}: {error}; try again later")
