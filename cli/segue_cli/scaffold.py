"""The files that a new project starts with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from segue.errors import ConfigurationError

TEMPLATES = "segue_cli"
SUFFIX = ".template"
HIDDEN = {"gitignore": ".gitignore"}
# A project that is there already keeps its own; the rest would be no project without.
OPTIONAL = frozenset({".gitignore", "README.md", "conftest.py"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaffold:
    """What was written, and what was there and stayed as it was."""

    folder: str
    written: tuple[str, ...]
    kept: tuple[str, ...]


def scaffold(folder: str, *, force: bool = False) -> Scaffold:
    """Write a graph, a first job and its test; without ``force`` nothing is overwritten."""
    files = dict(_templates())
    there = [name for name in files if os.path.lexists(os.path.join(folder, name))]
    in_the_way = [name for name in there if name not in OPTIONAL]
    if in_the_way and not force:
        raise ConfigurationError(
            f"{folder!r} has {', '.join(in_the_way)} already; name another folder, or overwrite "
            "with --force"
        )
    kept = () if force else tuple(there)
    written = tuple(name for name in files if name not in kept)
    for name in written:
        _write(os.path.join(folder, name), files[name])
    return Scaffold(folder=folder, written=written, kept=kept)


def _templates() -> Iterator[tuple[str, str]]:
    """Each file's path in a project, and its text."""

    def walk(place: Traversable, above: str) -> Iterator[tuple[str, str]]:
        for entry in sorted(place.iterdir(), key=lambda e: e.name):
            if entry.is_dir():
                yield from walk(entry, f"{above}{entry.name}/")
            elif entry.name.endswith(SUFFIX):
                name = entry.name.removesuffix(SUFFIX)
                yield above + HIDDEN.get(name, name), entry.read_text("utf-8")

    yield from walk(resources.files(TEMPLATES) / "templates", "")


def _write(path: str, text: str) -> None:
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(
            f"{path!r} cannot be written ({error.strerror}); name a folder that this user may write"
        ) from error
