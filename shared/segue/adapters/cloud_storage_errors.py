"""What an exception of Cloud Storage's client means in Segue's terms."""

from __future__ import annotations

import errno
import functools
from http.client import HTTPException
from typing import TYPE_CHECKING

from segue.errors import ConfigurationError, DiskFull, SegueError, Unavailable

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

FULL = {errno.ENOSPC, errno.EDQUOT}


@functools.cache
def of_the_network() -> tuple[type[Exception], ...]:
    """Return what the client raises when an answer does not come, or comes damaged."""
    from google.api_core.exceptions import RetryError
    from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
    from requests import RequestException

    raised = (RetryError, DataCorruption, InvalidResponse, RequestException)
    return (*raised, HTTPException, ConnectionError, TimeoutError)


@functools.cache
def of_the_client() -> tuple[type[Exception], ...]:
    """Return all that ``meaning`` may know."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    return (*of_the_network(), GoogleAPICallError, GoogleAuthError, OSError)


def meaning(error: Exception, place: str) -> SegueError | None:
    """Return what is to be raised instead; None for what is none of the cloud's doing."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

    if isinstance(error, of_the_network()):
        return Unavailable(f"{place}: {error}; try again later")
    if isinstance(error, GoogleAPICallError):
        return _of_the_server(error, place)
    if isinstance(error, GoogleAuthError):
        return _of_credentials(error, place)
    if isinstance(error, OSError) and error.errno in FULL:
        return DiskFull(f"no room is left to download {place}; free some, and run again")
    return None


def _of_the_server(error: GoogleAPICallError, place: str) -> SegueError:
    if error.code is None or error.code in {408, 429} or error.code >= 500:
        return Unavailable(f"{place}: {error}; try again later")
    if error.code in {401, 403}:
        return ConfigurationError(
            f"{place} is not allowed ({error.message}); "
            "grant roles/storage.objectUser to the account that runs this"
        )
    return ConfigurationError(
        f"{place}: the server refused it ({error.message}); correct the location"
    )


def _of_credentials(error: GoogleAuthError, place: str) -> SegueError:
    from google.auth.exceptions import TransportError

    if error.retryable or isinstance(error, TransportError):
        return Unavailable(f"{place}: {error}; try again later")
    return ConfigurationError(
        f"{place}: the credentials are missing, or not accepted ({error}); "
        "run 'gcloud auth application-default login', or use another account"
    )
