"""What a person writes for a file or a prefix, as the ledger and the stores name it."""

from __future__ import annotations

import os

from segue.model.media_file import split_uri


def location_of(text: str) -> str:
    """Turn what a person writes for a place into a location: a path absolute, a URL as it is."""
    if text.startswith("gs://"):
        return text
    path = text.removeprefix("file://") if text.startswith("file:///") else text
    return "file://" + os.path.abspath(os.path.expanduser(path))


def prefix_uri(text: str) -> str:
    """Turn a prefix into a URI prefix; a folder or a bucket stands for what is in it."""
    location = location_of(text)
    if location.startswith("gs://"):
        split_uri(location)
        return location if "/" in location[5:] else f"{location}/"
    folder = text.endswith("/") or os.path.isdir(location.removeprefix("file://"))
    return f"{location.rstrip('/')}/" if folder else location


def file_uris(text: str, catalogue: str | None) -> list[str]:
    """Say which URIs a path, a URI or a name below the catalogue may mean, the likeliest first."""
    location = location_of(text)
    split_uri(location)
    relative = not text.startswith(("gs://", "file://", "/", "~"))
    if not relative or not catalogue:
        return [location]
    below = f"{location_of(catalogue).rstrip('/')}/{text.removeprefix('./')}"
    here = os.path.exists(location.removeprefix("file://"))
    return list(dict.fromkeys([location, below] if here else [below, location]))
