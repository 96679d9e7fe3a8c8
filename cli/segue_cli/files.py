"""Writes the files that are named on the command line."""

from __future__ import annotations

from segue.errors import ConfigurationError


def write_file(path: str, data: bytes) -> None:
    """Write a file; raise ``ConfigurationError`` if that is not possible."""
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path!r} ({error.strerror}); choose another file with --output"
        ) from error
