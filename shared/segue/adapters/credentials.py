"""An early check that this machine has credentials for Google Cloud."""

from __future__ import annotations

from segue.errors import ConfigurationError


def check_credentials() -> None:
    """Raise ``ConfigurationError`` if there are no credentials; it does not use them."""
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        google.auth.default()
    except DefaultCredentialsError as error:
        raise ConfigurationError(
            "this machine has no credentials for Google Cloud; run 'gcloud auth "
            "application-default login', or set GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
