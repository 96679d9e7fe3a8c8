"""The places that the settings name, and the machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial

from segue.adapters.connect import connect_ledger, connect_queue, connect_store
from segue.errors import ConfigurationError
from segue.model.graph import Graph
from segue.model.job_code import check
from segue.model.ledger import Query
from segue.model.location import location_of
from segue.model.settings import ARTIFACTS, Settings
from segue.stack import load_graph
from segue.worker.pool import available_cores
from segue_cli.health_checks.check import Look, Seen, Status

LITTLE_ROOM_BYTES = 2 * 2**30
EMBEDDED = "sqlite:///"


def places(settings: Settings) -> Iterator[Look]:
    """Look at each of them."""
    group = "places"
    artifacts = location_of(settings.artifacts or ARTIFACTS)
    try:
        graph = load_graph(settings)
    except ConfigurationError as error:
        fault = Seen(Status.FAULT, str(error))
        yield Look(group, "graph", lambda: fault)
    else:
        artifacts = location_of(graph.artifacts)
        yield Look(group, "graph", partial(_graph, graph))
        yield Look(group, "catalogue", partial(_catalogue, graph.catalogue))
        yield Look(group, "artifacts", partial(_artifacts, artifacts))
    yield Look(group, "ledger", partial(_ledger, settings.ledger))
    yield Look(group, "queue", partial(_queue, settings.queue))
    yield Look(
        "machine", "processors", lambda: Seen(Status.OK, f"{available_cores()} to work with")
    )
    folders = {"temporary files": tempfile.gettempdir()}
    if artifacts.startswith("file://"):
        folders["artifacts"] = artifacts.removeprefix("file://")
    for use, folder in folders.items():
        yield Look("machine", f"room for {use}", partial(_room, folder))


def _graph(graph: Graph) -> Seen:
    check(graph)
    jobs = len(graph.jobs)
    return Seen(Status.OK, f"{graph.path}: {jobs} jobs, and their code fits")


def _catalogue(catalogue: str | None) -> Seen:
    if catalogue is None:
        return Seen(Status.NOTE, "none is set", "set SEGUE_CATALOGUE, or name files with --prefix")
    location = location_of(catalogue)
    if _is_folder(location) and not os.path.isdir(location.removeprefix("file://")):
        return Seen(Status.FAULT, f"{location} does not exist", "set SEGUE_CATALOGUE to a folder")
    return Seen(Status.OK, f"{location}, {_contents(location)}")


def _artifacts(location: str) -> Seen:
    if _is_folder(location):
        return _writable(location, location.removeprefix("file://"))
    return Seen(Status.OK, f"{location}, {_contents(location)}")


def _ledger(url: str) -> Seen:
    path = os.path.abspath(os.path.expanduser(url.removeprefix(EMBEDDED)))
    if url.startswith(EMBEDDED) and not os.path.exists(path):
        return _writable(url, path)
    with contextlib.closing(connect_ledger(url)) as ledger:
        found = ledger.find(Query(), limit=1)
    return Seen(Status.OK, f"{url}, {'in use' if found else 'empty'}")


def _queue(url: str) -> Seen:
    path = os.path.abspath(os.path.expanduser(url.removeprefix(EMBEDDED)))
    if url.startswith(EMBEDDED) and not os.path.exists(path):
        return _writable(url, path)
    with contextlib.closing(connect_queue(url)) as queue:
        depth = queue.depth(())  # opens it
    if depth is None:
        return Seen(Status.OK, url, "whether its topics are there, --cloud tells")
    return Seen(Status.OK, f"{url}, in use")


def _contents(location: str) -> str:
    with contextlib.closing(connect_store(location)) as store:
        return "with objects in it" if next(iter(store.list()), None) else "empty"


def _writable(place: str, path: str) -> Seen:
    """Whether something may be made at a path, by the rights of the nearest folder that exists."""
    nearest = path
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    if not os.path.isdir(nearest):
        return Seen(Status.FAULT, f"{place}: {nearest} is no folder", "name another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        remedy = "give this user the right to it, or name another place"
        return Seen(Status.FAULT, f"{place}: {nearest} may not be written", remedy)
    return Seen(Status.OK, place if nearest == path else f"{place}, made when it is needed")


def _is_folder(location: str) -> bool:
    return location.startswith("file://")


def _room(folder: str) -> Seen:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    detail = f"{free / 2**30:.1f} GiB free at {folder}"
    if free < LITTLE_ROOM_BYTES:
        return Seen(Status.FAULT, detail, "free some, or set TMPDIR or SEGUE_ARTIFACTS elsewhere")
    return Seen(Status.OK, detail)
