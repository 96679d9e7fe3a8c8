"""Reads secrets, from the environment or from Secret Manager.

What goes wrong is told without the reference, which nobody's logs need.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Any

import msgspec

from segue.backoff import Backoff, retry
from segue.errors import ConfigurationError, Unavailable
from segue.extras import MissingExtra
from segue.model.media_file import is_unicode
from segue.model.secret_reference import find_variable

ENDPOINT = "https://secretmanager.googleapis.com"
OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER"  # what gcloud reads, too
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
BACKOFF, ATTEMPTS = Backoff(0.5, 5.0), 4
TIMEOUT_S = (10.0, 20.0)  # to connect, to read
REMEDY = "store it as text, such as in base64"
ACCESSOR = "roles/secretmanager.secretAccessor"
_LOCAL = ("http://127.0.0.1:", "http://localhost:")
_values: dict[str, str] = {}  # by reference: each is read once per process


def read_secret(reference: str, place: str) -> str:
    """Return the value that a reference names.

    Parameters
    ----------
    reference : str
        ``env:NAME``, or ``projects/PROJECT/secrets/NAME/versions/VERSION``.
    place : str
        Where the graph has the reference, for messages.

    Raises
    ------
    ConfigurationError
        If there is no such secret, this process may not read it, or it is no text.
    Unavailable
        If Secret Manager does not answer.
    """
    if (name := find_variable(reference)) is not None:
        value = os.environ.get(name)
        if not value:
            raise ConfigurationError(f"{place}: the environment variable is not set; set it")
        if not is_unicode(value):
            raise ConfigurationError(
                f"{place}: the environment variable is no UTF-8 text; {REMEDY}"
            )
        return value
    if reference not in _values:
        _values[reference] = _decode(_access(reference, place), place)
    return _values[reference]


def _access(reference: str, place: str) -> bytes:
    """Ask Secret Manager for a version of a secret, and return the body of the answer."""
    endpoint = os.environ.get(OVERRIDE, ENDPOINT).rstrip("/")
    try:
        session = _open_session(endpoint)
    except ImportError as error:
        raise MissingExtra(f"{place}: reading Secret Manager", "cloud") from error
    with session:
        return retry(
            lambda: _get(session, f"{endpoint}/v1/{reference}:access", place),
            backoff=BACKOFF,
            should_retry=lambda error: isinstance(error, Unavailable),
            attempts=ATTEMPTS,
        )


def _open_session(endpoint: str) -> Any:
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import DefaultCredentialsError
    from google.auth.transport.requests import AuthorizedSession

    if endpoint.startswith(_LOCAL):
        return AuthorizedSession(AnonymousCredentials())  # type: ignore[no-untyped-call]
    if not endpoint.startswith("https://"):
        raise ConfigurationError(
            f"{OVERRIDE} is {endpoint!r}, and credentials go only to https:// and to this machine; "
            "correct it, or unset it"
        )
    try:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    except DefaultCredentialsError as error:
        raise ConfigurationError(
            f"no credentials to read secrets ({error}); run 'gcloud auth application-default login'"
        ) from error
    return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]


def _get(session: Any, url: str, place: str) -> bytes:
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    try:
        response = session.get(url, timeout=TIMEOUT_S, allow_redirects=False)
    except (RequestException, GoogleAuthError, OSError) as error:  # its text has the address
        what = type(error).__name__
        raise Unavailable(f"{place}: Secret Manager cannot be reached ({what})") from None
    code = int(response.status_code)
    if code == 200:
        return bytes(response.content)
    if code in {408, 429} or code >= 500:
        raise Unavailable(f"{place}: Secret Manager answers with {code}; try again later")
    remedy = "correct the reference"
    if code in {401, 403}:
        remedy = f"grant {ACCESSOR} on the secret to the account that runs this"
    elif code == 404:
        remedy = "there is no such secret or version; create it, or correct the reference"
    raise ConfigurationError(f"{place}: Secret Manager answers with {code}; {remedy}")


def _decode(body: bytes, place: str) -> str:
    """Return the value in an answer, whose checksum has to be right."""
    import google_crc32c

    try:
        payload = msgspec.json.decode(body)["payload"]
        data = base64.b64decode(payload["data"], validate=True)
        checksum = payload.get("dataCrc32c")
        if checksum is not None and int(checksum) != google_crc32c.value(data):
            raise Unavailable(f"{place}: the answer of Secret Manager is damaged; try again later")
        return data.decode()
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise ConfigurationError(f"{place}: the secret is no UTF-8 text; {REMEDY}") from None
