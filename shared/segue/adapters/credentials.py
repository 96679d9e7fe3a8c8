"""Whether this machine has credentials for Google Cloud, told before others wait for them."""

from __future__ import annotations

from segue.errors import ConfigurationError


def check_credentials() -> None:
    """Raise ``ConfigurationError`` if no credentials are found; none are used."""
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        google.auth.default()
    except DefaultCredentialsError as error:
        raise ConfigurationError(
            "this machine has no credentials for Google Cloud; run 'gcloud auth "
            "application-default login', or set GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
