"""The configuration of ``segue up``, and the programs that it runs: the streaming pipelines."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from segue.errors import ConfigurationError
from segue.model.graph import NO_GPU
from segue.model.job_code import check_code
from segue.model.media_file import parse_location
from segue.model.settings import DEFAULT_GRAPH, SETTINGS, Settings
from segue.model.shipped_graphs import DEFAULT_PATH
from segue.worker.pool import count_cores

if TYPE_CHECKING:
    from segue.model.graph import Graph

SEGUE = "import sys; from segue_cli.main import main; sys.exit(main())"


def find_catalogue_folder(graph: Graph) -> str | None:
    """Return the folder to watch; a bucket is refused, since it sends its own events.

    None: files arrive in another namespace, or the graph names no catalogue, and no job needs the
    file itself when it arrives.
    """
    if graph.source_namespace is not None:
        return None
    if graph.catalogue is None:
        if not any(graph.jobs[job].needs_source for job in graph.select_on_arrival(graph.jobs)):
            return None
        raise ConfigurationError(
            "no folder is named; write 'segue up FOLDER', or name one with SEGUE_CATALOGUE"
        )
    location = parse_location(graph.catalogue)
    if not location.startswith("file://"):
        raise ConfigurationError(
            f"{graph.catalogue!r} is not a folder; a bucket's events come through Eventarc: "
            "deploy with infra/, or name a folder"
        )
    folder = location.removeprefix("file://")
    if not os.path.isdir(folder):
        raise ConfigurationError(f"there is no folder {folder!r}; create it, or name another")
    return folder


def check_code_alone(graph: Graph) -> tuple[str, ...]:
    """Check the jobs' code against the graph, and forget what was imported from its folder.

    The code of another graph may have modules of the same names. Returns the files of the modules
    that were imported from there.
    """
    folders, known = list(sys.path), set(sys.modules)
    try:
        check_code(graph)
    finally:
        added = [folder for folder in sys.path if folder not in folders]
        sys.path[:] = folders
        own = {name for name in set(sys.modules) - known if _is_directly_in(added, name)}
        files = [
            getattr(sys.modules.pop(name), "__file__", None)
            for name in [name for name in sys.modules if name.partition(".")[0] in own]
        ]
    return tuple(file for file in files if file is not None)


def _is_directly_in(folders: Collection[str], name: str) -> bool:
    """Whether a module or package was found in one of some folders."""
    spec = getattr(sys.modules[name], "__spec__", None)
    if spec is None or "." in name:
        return False
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    return any(os.path.dirname(place) in folders for place in places)


def build_variables(settings: Settings) -> dict[str, str]:
    """Return the environment variables from which functions and pipelines read these settings."""
    graph = settings.graph or (DEFAULT_GRAPH if os.path.exists(DEFAULT_GRAPH) else DEFAULT_PATH)
    variables = {"SEGUE_GRAPH": os.path.abspath(graph)}
    for name in ("catalogue", "artifacts", "ledger", "queue", "on_deletion"):
        if (value := getattr(settings, name)) is not None:
            variables[SETTINGS[name].variable] = value
    return variables


@contextlib.contextmanager
def export_settings(settings: Settings) -> Iterator[None]:
    """Set the environment for a while, from which functions read their settings."""
    before = dict(os.environ)
    os.environ.update(build_variables(settings))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def group_pipelines(graph: Graph) -> list[list[str]]:
    """Return the streaming pipelines of a graph by the program that runs them.

    Each has one of its own, but those with GPUs share one: only within a process is it known what
    is on a GPU.
    """
    on_gpus = [
        name
        for name, jobs in graph.pipelines.items()
        if any(graph.jobs[job].resources.gpu != NO_GPU for job in jobs)
    ]
    groups = [[name] for name in graph.pipelines if name not in on_gpus]
    return [*groups, on_gpus] if on_gpus else groups


def build_commands(graph: Graph, *, processes: int) -> dict[str, list[str]]:
    """Return the programs that run the streaming pipelines of a graph: name → command."""
    # -P: a file in the current folder must not be imported in place of a module of Segue.
    stream = [sys.executable, "-P", "-c", SEGUE, "stream", f"--processes={processes}"]
    return {
        f"stream {' '.join(group)}": [*stream, *(f"--pipeline={name}" for name in group)]
        for group in group_pipelines(graph)
    }


def share_cores(graphs: Iterable[Graph]) -> int:
    """Return how many child processes each of the programs of some graphs gets.

    One alone gets a child for each core; several share twice as many, since they are rarely all
    busy at once.
    """
    cores, programs = count_cores(), sum(len(group_pipelines(graph)) for graph in graphs)
    return min(cores, max(1, 2 * cores // programs))
