"""A function's archive: what Cloud Functions is given to install and serve.

The same tree gives the same bytes on any machine, so that Terraform names an archive by its content
and deploys only what has changed: names in order, no times, no compression (whose bytes depend on
the library at hand).
"""

from __future__ import annotations

import ast
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace

from segue.errors import ConfigurationError
from segue.model.settings import Settings
from segue.stack import load_graph

# Each with the parts of the stack that it uses, whose clients are imported while it starts.
FUNCTIONS = {
    "arrival": ("ledger", "queue"),
    "deletion": ("ledger", "artifacts"),
    "sweep": ("ledger", "queue"),
    "request": ("ledger", "queue", "artifacts"),
}
LOCK = os.path.join("locks", "functions.txt")
FOLDERS = {"segue_functions": "functions", "segue": "shared"}  # package → the folder that it is in
FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can say
UNIX, FILE_MODE = 3, 0o100644
MAIN = '''\
"""Segue's function {name}, where functions-framework looks for it."""

from segue_functions.{name} import {name}
from segue_functions.stack import warm

__all__ = ["{name}"]

warm({parts})
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """One function's archive."""

    function: str
    files: dict[str, bytes]  # by name

    def write(self, path: str) -> None:
        """Write the archive in place of any other, whole or not at all."""
        unfinished = f"{path}.unfinished"
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as file:
                for name in sorted(self.files):
                    entry = zipfile.ZipInfo(name, FIRST_DAY)
                    entry.create_system = UNIX
                    entry.external_attr = FILE_MODE << 16
                    file.writestr(entry, self.files[name])
            os.replace(unfinished, path)
        except OSError as error:
            raise ConfigurationError(
                f"{path!r} cannot be written ({error.strerror}); name another with --output"
            ) from error


def archive(function: str, settings: Settings, *, root: str | None = None) -> Archive:
    """Put together what a function needs: its code, its requirements, and the graph."""
    if function not in FUNCTIONS:
        raise ConfigurationError(
            f"{function!r} is no function; name one of {', '.join(FUNCTIONS)}, or --all"
        )
    root = source_tree() if root is None else root
    files = dict(_imported(root, ["segue_functions.stack", f"segue_functions.{function}"]))
    parts = ", ".join(f'"{part}"' for part in FUNCTIONS[function])
    files["main.py"] = MAIN.format(name=function, parts=parts).encode()
    files["requirements.txt"] = _read(os.path.join(root, LOCK))
    files["jobs.yaml"] = _read(_graph(settings))
    return Archive(function=function, files=files)


def source_tree() -> str:
    """Where the source of Segue is, with its locks."""
    root = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
    if not os.path.exists(os.path.join(root, LOCK)):
        raise ConfigurationError(
            f"an archive is made from Segue's source tree, and {root!r} has no {LOCK}; "
            "run 'segue package' in a checkout, as 'make setup' installs it"
        )
    return root


def _imported(root: str, modules: list[str]) -> Iterator[tuple[str, bytes]]:
    """The files of modules, and of all in these rooms that they import, now or when they run.

    What no function imports is left out, so that a change of it deploys nothing.
    """
    seen: set[str] = set()
    while modules:
        module = modules.pop()
        folder = FOLDERS.get(module.partition(".")[0])
        if module in seen or folder is None:
            continue
        seen.add(module)
        modules.append(module.rpartition(".")[0])  # importing a module imports those above it
        stem = module.replace(".", "/")
        for name in (f"{stem}.py", f"{stem}/__init__.py"):
            path = os.path.join(root, folder, name)
            if os.path.exists(path):
                source = _read(path)
                yield name, source
                modules += _imports(ast.parse(source))


def _imports(node: ast.AST) -> Iterator[str]:
    """What code imports; names that are imported from a package may be modules, too."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=otherwise):
                yield from _imports(ast.Module(otherwise, []))
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield module
                yield from (f"{module}.{name.name}" for name in names)
            case _:
                yield from _imports(child)


def _graph(settings: Settings) -> str:
    """The graph's file, once it is seen to be right; the function's environment fills it later."""
    filled = replace(
        settings,
        catalogue=settings.catalogue or "gs://catalogue",
        artifacts=settings.artifacts or "gs://artifacts",
    )
    path = load_graph(filled).path
    assert path is not None
    return path


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"{path!r} cannot be read ({error.strerror})") from error
