"""Files that a person names to be written."""

from __future__ import annotations

from segue.errors import ConfigurationError


def write_file(path: str, data: bytes) -> None:
    """Write a file, or say what stands in the way."""
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise ConfigurationError(
            f"{path!r} cannot be written ({error.strerror}); name another with --output"
        ) from error
