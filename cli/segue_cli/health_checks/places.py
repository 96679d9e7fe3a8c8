"""Checks the places that the settings name, and the machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial

from segue.adapters.connect import (
    connect_queue,
    connect_store,
    ledger_exists,
    open_ledger_to_read,
    open_models,
)
from segue.errors import ConfigurationError
from segue.model.graph import Graph
from segue.model.job_code import check_code
from segue.model.ledger import Query
from segue.model.manifest import LOCK_FILE, Manifest
from segue.model.media_file import parse_location
from segue.model.model_entry import ModelEntry
from segue.model.settings import ARTIFACTS, Settings
from segue.registry.locking import compare_lock
from segue.registry.publication import load_manifest, open_registry
from segue.stack import load_graph
from segue.text import format_count
from segue.worker.pool import count_cores
from segue.worker.secrets import resolve_secrets
from segue_cli.health_checks.check import Check, CheckFault, CheckNote, CheckResult

LOW_SPACE_BYTES = 2 * 2**30
EMBEDDED = "sqlite:///"


def list_place_checks(settings: Settings) -> Iterator[Check]:
    """Yield one check per place, and those of the machine."""
    group = "places"
    artifacts = parse_location(settings.artifacts or ARTIFACTS)
    namespace = None
    try:
        graph = load_graph(settings)
    except ConfigurationError as error:
        fault = CheckFault(str(error))
        yield Check(group, "graph", lambda: fault)
    else:
        artifacts = parse_location(graph.artifacts)
        namespace = graph.namespace
        yield Check(group, "graph", partial(_check_graph, graph))
        yield Check(group, "catalogue", partial(_check_catalogue, graph.catalogue))
        yield Check(group, "artifacts", partial(_check_artifacts, artifacts))
        if models := graph.find_models(graph.jobs):
            yield Check(group, "models", partial(_check_models, models, settings.models))
        if any(job.secrets for job in graph.jobs.values()):
            yield Check(group, "secrets", partial(_check_secrets, graph))
        if graph.registry is not None:
            yield Check(group, "registry", partial(_check_registry, graph))
        for parent in graph.imports.values():
            name = f"ledger of {parent.namespace}"
            yield Check(group, name, partial(_check_parent_ledger, parent))
    yield Check(group, "ledger", partial(_check_ledger, settings.ledger, namespace))
    yield Check(group, "queue", partial(_check_queue, settings.queue))
    yield Check(
        "machine",
        "processors",
        lambda: CheckResult(f"{count_cores()} to work with"),
    )
    folders = {"temporary files": tempfile.gettempdir()}
    if artifacts.startswith("file://"):
        folders["artifacts"] = artifacts.removeprefix("file://")
    for use, folder in folders.items():
        yield Check("machine", f"disk space for {use}", partial(_check_disk_space, folder))


def _check_graph(graph: Graph) -> CheckResult:
    check_code(graph)
    jobs = format_count(len(graph.jobs), "job")
    return CheckResult(f"{graph.path}: {jobs}, and their code matches")


def _check_models(models: Sequence[ModelEntry], location: str | None) -> CheckResult:
    with contextlib.closing(open_models(location)) as library:
        missing = [entry.reference for entry in models if not library.is_available(entry)]
        if missing:
            hint = f"segue models get {' '.join(missing)}"
            return CheckFault(f"{', '.join(missing)}: missing, or not complete", hint)
        return CheckResult(f"{format_count(len(models), 'model')} in {library.folder}")


def _check_secrets(graph: Graph) -> CheckResult:
    count = sum(map(len, resolve_secrets(graph, graph.jobs).values()))
    return CheckResult(f"{format_count(count, 'secret')} can be read")


def _check_catalogue(catalogue: str | None) -> CheckResult:
    if catalogue is None:
        return CheckNote("none is set", "set SEGUE_CATALOGUE, or name files with --prefix")
    location = parse_location(catalogue)
    if _is_folder(location) and not os.path.isdir(location.removeprefix("file://")):
        return CheckFault(f"{location} does not exist", "set SEGUE_CATALOGUE to a folder")
    return CheckResult(f"{location}, {_describe_contents(location)}")


def _check_artifacts(location: str) -> CheckResult:
    if _is_folder(location):
        return _check_writable(location, location.removeprefix("file://"))
    return CheckResult(f"{location}, {_describe_contents(location)}")


def _check_ledger(url: str, namespace: str | None) -> CheckResult:
    path = os.path.abspath(os.path.expanduser(url.removeprefix(EMBEDDED)))
    if url.startswith(EMBEDDED) and not os.path.exists(path):
        return _check_writable(url, path)
    if namespace is None:
        return CheckResult(f"{url} exists; it is not opened without a graph")
    with contextlib.closing(open_ledger_to_read(url, namespace)) as ledger:
        found = ledger.find(Query(), limit=1)
    return CheckResult(f"{url}, {'in use' if found else 'empty'}")


def _check_registry(graph: Graph) -> CheckResult:
    assert graph.registry is not None
    assert graph.path is not None
    with contextlib.closing(open_registry(graph.registry)) as registry:
        location = registry.location.removesuffix("/")
        comparison = compare_lock(graph.path, registry)
        published = load_manifest(registry, graph.namespace)
    if not comparison.is_current:
        hint = "run 'segue lock' when you want what is published now"
        return CheckNote(f"{location} has something else than {LOCK_FILE}", hint)
    if graph.foreign and (published is None or published.pins != graph.pins):
        hint = "run 'segue publish', so that nobody takes away what this graph uses"
        return CheckNote(f"{location} does not know what {LOCK_FILE} is locked to", hint)
    return CheckResult(location)


def _check_parent_ledger(parent: Manifest) -> CheckResult:
    if not ledger_exists(parent.ledger):
        hint = f"nothing was computed there yet, or ask {parent.contact or 'its team'} where it is"
        return CheckNote(f"{parent.ledger} does not exist", hint)
    return _check_ledger(parent.ledger, parent.namespace)


def _check_queue(url: str) -> CheckResult:
    path = os.path.abspath(os.path.expanduser(url.removeprefix(EMBEDDED)))
    if url.startswith(EMBEDDED) and not os.path.exists(path):
        return _check_writable(url, path)
    with contextlib.closing(connect_queue(url)) as queue:
        depth = queue.measure_depth(())  # opens it
    if depth is None:
        return CheckResult(url, "--cloud checks its topics")
    return CheckResult(f"{url}, in use")


def _describe_contents(location: str) -> str:
    with contextlib.closing(connect_store(location)) as store:
        return "with objects in it" if next(iter(store.list()), None) else "empty"


def _check_writable(place: str, path: str) -> CheckResult:
    """Check that a path may be created, by the permissions of its nearest existing parent."""
    nearest = path
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    if not os.path.isdir(nearest):
        return CheckFault(f"{place}: {nearest} is not a folder", "name another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        hint = "grant this user write permission, or name another place"
        return CheckFault(f"{place}: {nearest} is not writable", hint)
    return CheckResult(place if nearest == path else f"{place}, will be created when needed")


def _is_folder(location: str) -> bool:
    return location.startswith("file://")


def _check_disk_space(folder: str) -> CheckResult:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    detail = f"{free / 2**30:.1f} GiB free at {folder}"
    if free < LOW_SPACE_BYTES:
        return CheckFault(detail, "free some space, or set TMPDIR or SEGUE_ARTIFACTS elsewhere")
    return CheckResult(detail)
