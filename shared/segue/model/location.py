"""Converts files and prefixes as users write them to the URIs of the ledger and the stores."""

from __future__ import annotations

import os

from segue.errors import ConfigurationError
from segue.model.media_file import split_uri


def parse_location(text: str) -> str:
    """Convert a path or URL to a location: a path becomes absolute, a URL stays as it is."""
    if text.startswith("gs://"):
        return text
    path = text.removeprefix("file://") if text.startswith("file:///") else text
    return "file://" + os.path.abspath(os.path.expanduser(path))


def parse_prefix(text: str) -> str:
    """Convert a prefix to a URI prefix; a folder or a bucket means all that is in it."""
    location = parse_location(text)
    if location.startswith("gs://"):
        split_uri(location)
        return location if "/" in location[5:] else f"{location}/"
    folder = text.endswith("/") or os.path.isdir(location.removeprefix("file://"))
    return f"{location.rstrip('/')}/" if folder else location


def resolve_prefix(text: str) -> str:
    """Convert a prefix to a URI prefix; a local one must match at least one file or folder."""
    uri = parse_prefix(text)
    path = uri.removeprefix("file://")
    if uri.startswith("file://") and not os.path.exists(path):
        folder, stem = os.path.split(path)
        names = os.listdir(folder) if os.path.isdir(folder) else []
        if not stem or not any(name.startswith(stem) for name in names):
            raise ConfigurationError(f"no file or folder starts with {text!r}; check the path")
    return uri


def list_file_uris(text: str, catalogue: str | None) -> list[str]:
    """List the URIs that a path, a URI or a name below the catalogue may mean, likeliest first."""
    location = parse_location(text)
    split_uri(location)
    relative = not text.startswith(("gs://", "file://", "/", "~"))
    if not relative or not catalogue:
        return [location]
    below = f"{parse_location(catalogue).rstrip('/')}/{text.removeprefix('./')}"
    here = os.path.exists(location.removeprefix("file://"))
    return list(dict.fromkeys([location, below] if here else [below, location]))
