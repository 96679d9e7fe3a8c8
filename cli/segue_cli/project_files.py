"""Collects the files of a project: a graph with its code, and what deploys it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from segue.errors import ConfigurationError, suggest
from segue.extras import DISTRIBUTION
from segue.model.artifact import find_version
from segue.model.graph import Graph, read_graph
from segue.model.shipped_graphs import list_shipped_graphs
from segue_cli.segue_sources import find_sources

MODULES = "infra/segue/"  # a project's copy of Segue's Terraform modules
SUFFIX = ".template"
HIDDEN = {"gitignore": ".gitignore", "gcloudignore": ".gcloudignore", "github": ".github"}
LOCK = "locks/pipelines.txt"
# Of infra/container; the other files there build Segue's own image.
CONTAINER = ("cloudbuild.yaml", "launch.py", "metadata.json", "warm.py")


def read_job() -> dict[str, str]:
    """Return the files of a first job: by path, their texts."""
    return dict(_read_templates("job"))


def read_shipped(graph: str) -> dict[str, str]:
    """Return the files of a project that begins with a graph that ships with Segue."""
    with open(find_shipped(graph), encoding="utf-8") as file:
        return {"jobs.yaml": file.read(), **dict(_read_templates("graph"))}


def find_shipped(graph: str) -> str:
    """Return the path of a graph that ships with Segue, by its name."""
    shipped = list_shipped_graphs()
    if graph not in shipped:
        raise ConfigurationError(
            f"--graph is {graph!r}, which is no graph that ships with Segue; "
            f"{suggest(graph, shipped)}"
        )
    return shipped[graph]


def read_deployment(path: str | None) -> dict[str, str]:
    """Return the files that deploy a project, Segue's Terraform modules among them.

    ``path`` is that of its graph; without one, it has no models.
    """
    deployed = find_sources().deployed
    versions = _read_versions(os.path.join(deployed, LOCK))
    graph = None if path is None else read_graph(path, os.environ)
    values = {
        "SEGUE": DISTRIBUTION,
        "VERSION": find_version(),
        "EXTRAS": ",".join(["models", "pipelines"] if has_models(graph) else ["pipelines"]),
        "BEAM": _find_beam(versions),
    }
    files = {name: _fill(text, values) for name, text in _read_templates("project")}
    constraints = "# Versions that Segue was tested with.\n" + "".join(versions)
    copies = dict(_read_modules(os.path.join(deployed, "infra")))
    return {**files, **copies, f"{MODULES}constraints.txt": constraints}


def has_models(graph: Graph | None) -> bool:
    """Return whether any job of a graph names a model."""
    return graph is not None and any(True for _ in graph.find_models(graph.jobs))


def _read_templates(folder: str) -> Iterator[tuple[str, str]]:
    return _walk(resources.files("segue_cli") / "templates" / folder)


def _walk(place: Traversable, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield each file's path in a project, and its text."""
    for entry in sorted(place.iterdir(), key=lambda e: e.name):
        name = entry.name.removesuffix(SUFFIX)
        path = above + HIDDEN.get(name, name)
        if entry.is_dir():
            yield from _walk(entry, f"{path}/")
        elif entry.name.endswith(SUFFIX):
            yield path, entry.read_text("utf-8")


def _read_modules(infra: str) -> Iterator[tuple[str, str]]:
    """Yield what a project's root module calls; it has providers, environments and tests itself."""
    names = [name for name in os.listdir(infra) if name.endswith(".tf") and name != "providers.tf"]
    names += [f"container/{name}" for name in CONTAINER]
    for module in os.listdir(os.path.join(infra, "modules")):
        folder = os.path.join(infra, "modules", module)
        names += [f"modules/{module}/{n}" for n in os.listdir(folder) if n.endswith(".tf")]
    for name in sorted(names):
        with open(os.path.join(infra, name), encoding="utf-8") as file:
            yield MODULES + name, file.read()


def _read_versions(lock: str) -> list[str]:
    """Return the lines of a lock without hashes, with which pip would accept no other package."""
    with open(lock, encoding="utf-8") as file:
        return [line.rstrip(" \\\n") + "\n" for line in file if "==" in line.partition(";")[0]]


def _find_beam(versions: list[str]) -> str:
    (line,) = [line for line in versions if line.startswith("apache-beam")]
    return line.partition("==")[2].split()[0]


def _fill(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"@([A-Z]+)@", lambda name: values[name[1]], text)
