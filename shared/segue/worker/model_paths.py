"""Finds the models that jobs name, on the machine that runs them."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterable, Mapping

from segue.adapters.connect import open_models
from segue.model.graph import Graph, find_model_params
from segue.model.settings import DEFAULT_GRAPH, SETTINGS, Settings
from segue.model.shipped_graphs import list_shipped_graphs, locate_graph
from segue.models.library import build_missing_error


def find_model_paths(graph: Graph, job: str) -> Mapping[str, str]:
    """Return the path of the model that each of a job's parameters names, if it names one.

    A model that is in the bucket of ``SEGUE_MODELS`` is copied first.

    Raises
    ------
    ConfigurationError
        If a model is missing, with the command that gets it.
    """
    named = find_model_params(graph.jobs[job])
    if not named:
        return {}
    with contextlib.closing(open_models(Settings.load().models)) as library:
        return {name: library.require(graph.find_model(model)) for name, model in named.items()}


def check_models(graph: Graph, jobs: Iterable[str]) -> None:
    """Check that all models are available that some jobs name: those that are about to run.

    Raises
    ------
    ConfigurationError
        If not; it names all that are missing, and the command that gets them.
    """
    models = graph.find_models(jobs)
    if not models:
        return
    with contextlib.closing(open_models(Settings.load().models)) as library:
        missing = [entry.reference for entry in models if not library.is_available(entry)]
    if missing:
        raise build_missing_error(missing, _find_options(graph))


def _find_options(graph: Graph) -> str:
    """Return the option with which a command finds a graph that it would not find by itself."""
    named = locate_graph(os.environ.get(SETTINGS["graph"].variable) or DEFAULT_GRAPH)
    if graph.path is None or os.path.abspath(graph.path) == os.path.abspath(named):
        return ""
    shipped = {path: name for name, path in list_shipped_graphs().items()}
    return f" --graph {shlex.quote(shipped.get(graph.path, graph.path))}"
