"""The configuration of ``segue up``, and the programs that it runs: the streaming pipelines."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from segue.errors import ConfigurationError
from segue.model.media_file import parse_location
from segue.model.settings import DEFAULT_GRAPH, SETTINGS, Settings
from segue.stack import SHIPPED_GRAPH

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
    jobs: Iterable[str], *, processes: int | None, separate: bool
) -> dict[str, list[str]]:
    """Return the pipelines to run, one for all jobs or one for each: name → command."""
    # -P: a file in the current folder must not be imported in place of a module of Segue.
    stream = [sys.executable, "-P", "-c", SEGUE, "stream"]
    if processes is not None:
        stream.append(f"--processes={processes}")
    if separate:
        return {f"stream {job}": [*stream, "--job", job] for job in jobs}
    return {"stream": [*stream, "--all"]}
