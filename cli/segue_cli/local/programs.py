"""The programs that ``segue up`` runs, and the configuration of them and of the watcher."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from segue.errors import ConfigurationError
from segue.model.graph import Graph
from segue.model.location import parse_location
from segue.model.settings import DEFAULT_GRAPH, SETTINGS, Settings
from segue.stack import SHIPPED_GRAPH
from segue_cli.local.supervisor import Program

FUNCTIONS = "functions"
HOST = "127.0.0.1"
SEGUE = "import sys; from segue_cli.main import main; sys.exit(main())"


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemConfig:
    """The configuration of one ``segue up``."""

    settings: Settings
    processes: int | None = None  # child processes per pipeline; None: one per core
    separate: bool = False  # one pipeline per job, instead of one for all
    port: int = 0  # of the functions; 0: any free port


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


def build_programs(up: SystemConfig, graph: Graph, folder: str) -> tuple[Program, ...]:
    """Return the programs to run, all with the same settings."""
    environ = _build_environ(up.settings, graph, folder)
    options = [] if up.processes is None else [f"--processes={up.processes}"]
    # -P: a file in the current folder must not be imported in place of a module of Segue.
    python = (sys.executable, "-P")
    chosen: list[tuple[str, tuple[str, ...]]] = [("stream", ("--all",))]
    if up.separate:
        chosen = [(f"stream {job}", ("--job", job)) for job in graph.jobs]
    return (
        Program(
            name=FUNCTIONS,
            command=(
                *python,
                "-m",
                "segue_functions.server",
                f"--host={HOST}",
                f"--port={up.port}",
            ),
            environ=environ,
        ),
        *(
            Program(
                name=name,
                command=(*python, "-c", SEGUE, "stream", *jobs, *options),
                environ=environ,
            )
            for name, jobs in chosen
        ),
    )


def _build_environ(settings: Settings, graph: Graph, folder: str) -> dict[str, str]:
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    named = settings.graph or (DEFAULT_GRAPH if os.path.exists(DEFAULT_GRAPH) else SHIPPED_GRAPH)
    chosen = {
        "graph": os.path.abspath(named),
        "catalogue": folder,
        "artifacts": graph.artifacts,
        "ledger": settings.ledger,
        "queue": settings.queue,
        "on_deletion": settings.on_deletion,
    }
    return environ | {SETTINGS[name].variable: value for name, value in chosen.items()}
