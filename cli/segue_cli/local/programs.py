"""The configuration of ``segue up``, and the programs that it runs: the streaming pipelines."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from segue.errors import ConfigurationError
from segue.model.media_file import parse_location
from segue.model.settings import DEFAULT_GRAPH, SETTINGS, Settings
from segue.stack import SHIPPED_GRAPH
from segue.worker.pool import count_cores

if TYPE_CHECKING:
    from segue.model.graph import Graph

SEGUE = "import sys; from segue_cli.main import main; sys.exit(main())"


def find_catalogue_folder(graph: Graph) -> str:
    """Return the folder to watch; a bucket is refused, since it sends its own events."""
    if graph.catalogue is None:
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


@contextlib.contextmanager
def export_settings(settings: Settings) -> Iterator[None]:
    """Set the environment for a while, from which functions and pipelines read their settings."""
    graph = settings.graph or (DEFAULT_GRAPH if os.path.exists(DEFAULT_GRAPH) else SHIPPED_GRAPH)
    before = dict(os.environ)
    os.environ["SEGUE_GRAPH"] = os.path.abspath(graph)
    for name in ("catalogue", "artifacts", "ledger", "queue", "on_deletion"):
        if (value := getattr(settings, name)) is not None:
            os.environ[SETTINGS[name].variable] = value
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def build_commands(
    pipelines: Collection[str], *, processes: int | None = None
) -> dict[str, list[str]]:
    """Return the programs that run the streaming pipelines, one each: name → command."""
    processes = processes or share_cores(len(pipelines))
    # -P: a file in the current folder must not be imported in place of a module of Segue.
    stream = [sys.executable, "-P", "-c", SEGUE, "stream", f"--processes={processes}"]
    return {f"stream {name}": [*stream, f"--pipeline={name}"] for name in pipelines}


def share_cores(pipelines: int) -> int:
    """Return how many child processes each of some pipelines gets.

    One alone gets a child for each core; several share twice as many, since they are rarely all
    busy at once.
    """
    cores = count_cores()
    return min(cores, max(1, 2 * cores // pipelines))
