"""The programs that ``segue up`` runs, and what they and the watcher are told."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
from dataclasses import dataclass

from segue.errors import ConfigurationError
from segue.ingest.arrivals import Intake
from segue.model.graph import Graph
from segue.model.location import location_of
from segue.model.settings import DEFAULT_GRAPH, SETTINGS, Settings
from segue.stack import SHIPPED
from segue_cli.local.supervisor import Program

FUNCTIONS = "functions"
HOST = "127.0.0.1"
SEGUE = "import sys; from segue_cli.main import main; sys.exit(main())"
SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """What is to run."""

    settings: Settings
    processes: int | None = None  # child processes a pipeline; None: one a core
    separate: bool = False  # a pipeline for each job, instead of one for all
    port: int = 0  # of the functions; 0: any that is free


def catalogue_folder(graph: Graph) -> str:
    """The folder to watch; a bucket tells of its events itself."""
    if graph.catalogue is None:
        raise ConfigurationError(
            "no folder is named; write 'segue up FOLDER', or name one with SEGUE_CATALOGUE"
        )
    location = location_of(graph.catalogue)
    if not location.startswith("file://"):
        raise ConfigurationError(
            f"{graph.catalogue!r} is not a folder; a bucket's events come through Eventarc: "
            "deploy with infra/, or name a folder"
        )
    folder = location.removeprefix("file://")
    if not os.path.isdir(folder):
        raise ConfigurationError(f"there is no folder {folder!r}; make it, or name another")
    return folder


def check_installed() -> None:
    """See that the functions can be served here; they are an extra of their own."""
    if importlib.util.find_spec("functions_framework") is None:
        raise ConfigurationError(
            "functions-framework is not installed, which serves the functions; install segue with "
            "its extra 'functions'"
        )


def intake_of(graph: Graph, settings: Settings) -> Intake:
    """What is media of the catalogue: nothing that Segue itself writes, as the functions see it."""
    intake = Intake.of(
        graph,
        catalogue=location_of(graph.catalogue or ""),
        ours=(location_of(graph.artifacts), location_of(".segue")),
    )
    databases = tuple(
        location_of(url.removeprefix(SQLITE))
        for url in (settings.ledger, settings.queue)
        if url.startswith(SQLITE)
    )
    return dataclasses.replace(intake, not_below=(*intake.not_below, *databases))


def programs(up: Up, graph: Graph, folder: str) -> tuple[Program, ...]:
    """The programs to run, with the same settings for each."""
    environ = _environ(up.settings, graph, folder)
    options = [] if up.processes is None else [f"--processes={up.processes}"]
    # Nothing in the folder that this runs in may be taken for a part of Segue.
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


def _environ(settings: Settings, graph: Graph, folder: str) -> dict[str, str]:
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    named = settings.graph or (DEFAULT_GRAPH if os.path.exists(DEFAULT_GRAPH) else SHIPPED)
    chosen = {
        "graph": os.path.abspath(named),
        "catalogue": folder,
        "artifacts": graph.artifacts,
        "ledger": settings.ledger,
        "queue": settings.queue,
        "on_deletion": settings.on_deletion,
    }
    return environ | {SETTINGS[name].variable: value for name, value in chosen.items()}
