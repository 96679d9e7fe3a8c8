"""Finds links to folders below a folder, which a watch of the platform does not follow."""

from __future__ import annotations

import os
from collections.abc import Iterator


def find_linked_folders(folder: str) -> Iterator[str]:
    """Find links to folders, also through other links, as the folder store follows them.

    A link to a folder that it is in is left out, as following it would never end.
    """
    yield from _walk(folder, ())


def _walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    inner = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir():
                        there = entry.stat()
                        inner.append((entry.path, entry.is_symlink(), there.st_dev, there.st_ino))
                except OSError:
                    continue
    except OSError:
        return
    for path, is_link, device, number in inner:
        if (device, number) in above:
            continue
        if is_link:
            yield path
        yield from _walk(path, (*above, (device, number)))
