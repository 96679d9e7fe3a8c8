"""The graphs that ship with Segue; ``--graph`` and ``SEGUE_GRAPH`` may name them by a word.

The default one is used where there is no other. Each of the others has what needs models, or more
time, and a namespace of its own: its results are beside those of other graphs, and never in their
way.
"""

from __future__ import annotations

import json
import os

FEATURES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "features")
DEFAULT = "default"
DEFAULT_PATH = os.path.join(FEATURES, "jobs.yaml")
SUFFIX = ".yaml"
COSTS = "costs.json"


def list_shipped_graphs() -> dict[str, str]:
    """Return the paths of the graphs that ship with Segue by name, the default one first."""
    folder = os.path.join(FEATURES, "graphs")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    others = {
        name.removesuffix(SUFFIX): os.path.join(folder, name)
        for name in names
        if name.endswith(SUFFIX)
    }
    return {DEFAULT: DEFAULT_PATH, **others}


def read_costs() -> dict[str, float]:
    """Return the CPU seconds on one core that a minute of sound or film costs each shipped job.

    ``python -m bench.jobs --write`` measured them, with all that a job does to its result. Decoding
    sound is not included: it is done once for all jobs that a worker runs on a file. Jobs on films
    decode themselves; a film has a key frame every 5 s there.
    """
    try:
        with open(os.path.join(FEATURES, COSTS), encoding="utf-8") as file:
            costs: dict[str, float] = json.load(file)
    except FileNotFoundError:
        return {}
    return costs


def locate_graph(graph: str) -> str:
    """Return the path of a graph that is named by its path, or by a shipped graph's name.

    A file of that name takes precedence.
    """
    if os.path.isfile(graph):
        return graph
    return list_shipped_graphs().get(graph, graph)
