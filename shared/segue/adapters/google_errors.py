"""Translates the errors of Google's gRPC clients into Segue's."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from segue.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@contextlib.contextmanager
def translate_errors(place: str, remedies: Mapping[str, str]) -> Iterator[None]:
    """Raise ``ConfigurationError`` if there is a remedy, and ``Unavailable`` for what may pass.

    The remedies are keyed by the names of gRPC's status codes.
    """
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

    try:
        yield
    except DefaultCredentialsError as error:
        raise ConfigurationError(
            f"{place}: no credentials ({error}); run 'gcloud auth application-default login'"
        ) from error
    except (GoogleAPIError, GoogleAuthError) as error:
        code = getattr(error, "grpc_status_code", None)
        message = getattr(error, "message", error)
        if code is not None and (remedy := remedies.get(code.name)):
            raise ConfigurationError(f"{place}: {message}; {remedy}") from error
        raise Unavailable(f"{place}: {message}; try again later") from error
