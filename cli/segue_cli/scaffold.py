"""Writes the files that a new project starts with."""

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
# An existing project keeps its own; the other files are required.
OPTIONAL = frozenset({".gitignore", "README.md", "conftest.py"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaffold:
    """The files that were written, and the existing ones that were kept."""

    folder: str
    written: tuple[str, ...]
    kept: tuple[str, ...]


def write_scaffold(folder: str, *, force: bool = False) -> Scaffold:
    """Write a graph, a first job and its test; overwrite files only with ``force``."""
    files = dict(_read_templates())
    existing = [name for name in files if os.path.lexists(os.path.join(folder, name))]
    conflicts = [name for name in existing if name not in OPTIONAL]
    if conflicts and not force:
        raise ConfigurationError(
            f"{folder!r} already has {', '.join(conflicts)}; name another folder, or overwrite "
            "with --force"
        )
    kept = () if force else tuple(existing)
    written = tuple(name for name in files if name not in kept)
    for name in written:
        _write(os.path.join(folder, name), files[name])
    return Scaffold(folder=folder, written=written, kept=kept)


def _read_templates() -> Iterator[tuple[str, str]]:
    """Yield each file's path in a project, and its text."""

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
