"""Translates exceptions of Cloud Storage's client into Segue's errors."""

from __future__ import annotations

import errno
import functools
from http.client import HTTPException
from typing import TYPE_CHECKING

from segue.errors import ConfigurationError, DiskFull, SegueError, Unavailable

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

DISK_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT}


@functools.cache
def list_network_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that the client raises if a response is missing or damaged."""
    from google.api_core.exceptions import RetryError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from requests import RequestException

    raised = (RetryError, DataCorruption, InvalidResponse, RequestException)
    return (*raised, HTTPException, ConnectionError, TimeoutError)


@functools.cache
def list_client_errors() -> tuple[type[Exception], ...]:
    """Return all that ``translate_error`` may know."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    return (*list_network_errors(), GoogleAPICallError, GoogleAuthError, OSError)


def translate_error(error: Exception, place: str) -> SegueError | None:
    """Return the error to raise instead, or None if the cloud did not cause the exception."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, list_network_errors()):
        return Unavailable(f"{place}: {error}; try again later")
    if isinstance(error, GoogleAPICallError):
        return _translate_server_error(error, place)
    if isinstance(error, GoogleAuthError):
        return _translate_credential_error(error, place)
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return DiskFull(f"no room is left to download {place}; free some space, and run again")
    return None


def _translate_server_error(error: GoogleAPICallError, place: str) -> SegueError:
    if error.code is None or error.code in {408, 429} or error.code >= 500:
        return Unavailable(f"{place}: {error}; try again later")
    if error.code in {401, 403}:
        return ConfigurationError(
            f"access to {place} is denied ({error.message}); "
            "grant roles/storage.objectUser to the account that runs this"
        )
    return ConfigurationError(
        f"{place}: the server rejected the request ({error.message}); correct the location"
    )


def _translate_credential_error(error: GoogleAuthError, place: str) -> SegueError:
    from google.auth.exceptions import TransportError

    if error.retryable or isinstance(error, TransportError):
        return Unavailable(f"{place}: {error}; try again later")
    return ConfigurationError(
        f"{place}: the credentials are missing or were rejected ({error}); "
        "run 'gcloud auth application-default login', or use another account"
    )
