"""Builds what Terraform deploys: the functions' archives, and the graph that they contain as JSON.

The same tree gives the same bytes on any machine, so Terraform can name an archive by its content
and deploy only what has changed: names are sorted, without times and without compression (whose
bytes depend on the library version).
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace

from segue.errors import ConfigurationError
from segue.model.graph import Graph, find_lock
from segue.model.manifest import LOCK_FILE
from segue.model.queue import (
    list_deletion_topics,
    list_published_topics,
    list_subscriptions,
    list_topics,
)
from segue.model.secret_reference import find_stored_secret
from segue.model.settings import Settings
from segue.stack import load_graph
from segue_cli.segue_sources import SegueSources, find_sources
from segue_cli.views.output import build_write_error

# Function → the parts of the stack that it uses, whose clients are imported at the start.
FUNCTIONS = {
    "arrival": ("ledger", "queue"),
    "deletion": ("ledger", "artifacts"),
    "sweep": ("ledger", "queue"),
    "request": ("ledger", "queue", "artifacts"),
}
LOCK = os.path.join("locks", "functions.txt")
GRAPH_FORMAT = 4  # infra/variables.tf refuses any other
FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # the earliest date of the zip format
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
    """The archive of one function."""

    function: str
    files: dict[str, bytes]  # by name

    def write(self, path: str) -> None:
        """Write the archive atomically, replacing an existing one."""
        with (
            replace_file(path) as unfinished,
            zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as file,
        ):
            for name in sorted(self.files):
                entry = zipfile.ZipInfo(name, FIRST_DAY)
                entry.create_system = UNIX
                entry.external_attr = FILE_MODE << 16
                file.writestr(entry, self.files[name])


@contextlib.contextmanager
def replace_file(path: str) -> Iterator[str]:
    """Yield the path of a file to write, which replaces ``path`` once it is complete."""
    unfinished = f"{path}.unfinished"
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        raise build_write_error(path, error) from error


def build_archive(
    function: str, settings: Settings, *, sources: SegueSources | None = None
) -> Archive:
    """Collect the files that a function needs: its code, its requirements and the graph."""
    if function not in FUNCTIONS:
        raise ConfigurationError(
            f"{function!r} is not a function; name one of {', '.join(FUNCTIONS)}, or --all"
        )
    sources = find_sources() if sources is None else sources
    files = dict(
        _collect_modules(sources, ["segue_functions.stack", f"segue_functions.{function}"])
    )
    parts = ", ".join(f'"{part}"' for part in FUNCTIONS[function])
    files["main.py"] = MAIN.format(name=function, parts=parts).encode()
    files["requirements.txt"] = _read(os.path.join(sources.deployed, LOCK))
    graph, files["jobs.yaml"] = _load_graph(settings)
    if (lock := _read_lock(graph)) is not None:
        files[LOCK_FILE] = lock
    return Archive(function=function, files=files)


def compile_graph(settings: Settings) -> bytes:
    """Return what Terraform needs to know of the graph, as JSON.

    Terraform compares the hashes with its own jobs.yaml and segue.lock. Parameters are left out:
    what fills their variables may be secret. Of secrets, it has the names in Secret Manager.
    """
    graph, text = _load_graph(settings)
    lock = _read_lock(graph)
    jobs = {
        job.name: {
            "parents": job.parents,
            "reads_source": job.reads_source,
            "owner": job.owner,
            "memory_gib": job.resources.memory_gib,
            "gpu": job.resources.gpu,
            "secrets": sorted({s for r in job.secrets.values() if (s := find_stored_secret(r))}),
        }
        for job in graph.jobs.values()
    }
    pipelines = {
        name: {
            "jobs": its_jobs,
            "reads": [one.name for one in list_subscriptions(graph, (name,))],
            "publishes": list_published_topics(graph, (name,)),
        }
        for name, its_jobs in graph.pipelines.items()
    }
    document = {
        "format": GRAPH_FORMAT,
        "sha256": hashlib.sha256(text).hexdigest(),
        "lock_sha256": None if lock is None else hashlib.sha256(lock).hexdigest(),
        "jobs": jobs,
        "pipelines": pipelines,
        "topics": list_topics(graph),
        "deletion_topics": list_deletion_topics(graph),
        "subscriptions": {
            one.name: {"topic": one.topic, "queue": one.queue} for one in list_subscriptions(graph)
        },
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _collect_modules(sources: SegueSources, modules: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the files of modules, and of all modules of Segue that they import, also lazily.

    Other modules are left out, so that a change of them deploys nothing.
    """
    seen: set[str] = set()
    while modules:
        module = modules.pop()
        folder = sources.folders.get(module.partition(".")[0])
        if module in seen or folder is None:
            continue
        seen.add(module)
        modules.append(module.rpartition(".")[0])  # importing a module imports its parents
        stem = module.replace(".", "/")
        # A package may read its stub when it is imported, as segue does for its public names.
        for name in (f"{stem}.py", f"{stem}/__init__.py", f"{stem}/__init__.pyi"):
            path = os.path.join(folder, name)
            if os.path.exists(path):
                source = _read(path)
                yield name, source
                modules += _list_imports(ast.parse(source))


def _list_imports(node: ast.AST) -> Iterator[str]:
    """Yield imported modules, and names imported from packages, which may be modules too."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=otherwise):
                yield from _list_imports(ast.Module(otherwise, []))
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield module
                yield from (f"{module}.{name.name}" for name in names)
            case _:
                yield from _list_imports(child)


def _load_graph(settings: Settings) -> tuple[Graph, bytes]:
    """Return the graph and its file, whose variables the functions' environment sets."""
    filled = replace(
        settings,
        catalogue=settings.catalogue or "gs://catalogue",
        artifacts=settings.artifacts or "gs://artifacts",
    )
    graph = load_graph(filled)
    assert graph.path is not None
    return graph, _read(graph.path)


def _read_lock(graph: Graph) -> bytes | None:
    """Return the lock of a graph that needs other namespaces."""
    if not graph.references:
        return None
    assert graph.path is not None
    return _read(find_lock(graph.path))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"{path!r} cannot be read ({error.strerror})") from error
