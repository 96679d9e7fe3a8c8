"""The settings: each is an environment variable and an option, with a default for a laptop."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields, replace

from segue.errors import ConfigurationError
from segue.model.graph import Graph, find_folder, find_namespace, read_graph
from segue.model.shipped_graphs import locate_graph

DEFAULT_GRAPH = "jobs.yaml"
LEDGER = "sqlite:///.segue/ledger.db"
QUEUE = "sqlite:///.segue/queue.db"
ARTIFACTS = ".segue/artifacts"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting's variable, default and meaning, as the help shows them."""

    variable: str
    default: str
    meaning: str


IN_NAMESPACE = "in .segue/NAMESPACE/ if the graph has one"
SETTINGS = {
    "graph": Setting(
        "SEGUE_GRAPH",
        "./jobs.yaml, else the graph that ships with Segue",
        "the file that declares the jobs, or the name of a graph that ships with Segue",
    ),
    "catalogue": Setting(
        "SEGUE_CATALOGUE", "as set in the graph", "the source media: gs://bucket/prefix or a folder"
    ),
    "artifacts": Setting(
        "SEGUE_ARTIFACTS",
        f"as set in the graph, else {ARTIFACTS}; {IN_NAMESPACE}",
        "where results are written: gs://bucket/prefix or a folder",
    ),
    "ledger": Setting(
        "SEGUE_LEDGER",
        f"{LEDGER}; {IN_NAMESPACE}",
        "the ledger: firestore://project/database or sqlite:///path",
    ),
    "queue": Setting(
        "SEGUE_QUEUE",
        f"{QUEUE}; {IN_NAMESPACE}",
        "the queue: pubsub://project or sqlite:///path",
    ),
    "registry": Setting(
        "SEGUE_REGISTRY",
        "as set in the graph",
        "where the teams' manifests are published: gs://bucket/prefix or a folder",
    ),
    "models": Setting(
        "SEGUE_MODELS",
        "segue/models in this user's folder for caches",
        "where models are kept: a folder, or gs://bucket/prefix, from which each machine copies "
        "those that it needs to this user's folder",
    ),
    "on_deletion": Setting(
        "SEGUE_ON_DELETION",
        "keep",
        "what happens to a deleted file's artifacts: keep (until 'segue gc') or remove; those of a "
        "file in a folder, which may come back, are always kept",
    ),
    "price": Setting(
        "SEGUE_PRICE_PER_VCPU_HOUR",
        "0.056",
        "what a vCPU-hour costs, in your currency, for estimates",
    ),
    "vcpus": Setting("SEGUE_VCPUS", "this machine's", "how many vCPUs an estimate of time assumes"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values of the settings; None where none is set."""

    graph: str | None = None
    catalogue: str | None = None
    artifacts: str | None = None
    registry: str | None = None
    models: str | None = None
    ledger: str = LEDGER
    queue: str = QUEUE
    on_deletion: str = "keep"
    price: float = 0.056
    vcpus: int | None = None

    @classmethod
    def load(cls, **options: str | float | None) -> Settings:
        """Return the settings from the options, else the environment, else the defaults."""
        found: dict[str, str | float] = {}
        for field in fields(cls):
            value = options.get(field.name)
            if value is None:
                value = os.environ.get(SETTINGS[field.name].variable) or None
            if value is not None:
                found[field.name] = value
        if "graph" in found:
            found["graph"] = locate_graph(str(found["graph"]))
        if "ledger" not in found or "queue" not in found:
            folder = find_folder(find_namespace(str(found.get("graph", DEFAULT_GRAPH))))
            found.setdefault("ledger", f"sqlite:///{folder}/ledger.db")
            found.setdefault("queue", f"sqlite:///{folder}/queue.db")
        for name, kind in (("price", float), ("vcpus", int)):
            if name in found:
                found[name] = _parse_number(name, found[name], kind)
        if found.get("on_deletion", "keep") not in {"keep", "remove"}:
            raise ConfigurationError(
                f"{SETTINGS['on_deletion'].variable} is {found['on_deletion']!r}; write keep or "
                "remove"
            )
        return cls(**found)  # type: ignore[arg-type]

    def load_graph(self, shipped: str | None = None) -> Graph:
        """Load the named graph, else the one in this folder, else the one that ships with Segue.

        The settings' catalogue and artifacts take precedence over the graph's.
        """
        path = self.graph
        if path is None:
            path = DEFAULT_GRAPH if os.path.exists(DEFAULT_GRAPH) else shipped
        if path is None:
            raise ConfigurationError(
                "there is no jobs.yaml here; "
                "write one with 'segue init', or name one with SEGUE_GRAPH"
            )
        environ = dict(os.environ)
        for name in ("catalogue", "artifacts", "registry"):
            if value := getattr(self, name):
                environ[SETTINGS[name].variable] = value
        graph = read_graph(path, environ)
        return replace(
            graph,
            catalogue=self.catalogue or graph.catalogue,
            artifacts=self.artifacts or graph.artifacts,
            registry=self.registry or graph.registry,
        )


def _parse_number(name: str, value: object, kind: type[float]) -> float:
    noun = "a whole number" if kind is int else "a number"
    variable, meaning = SETTINGS[name].variable, SETTINGS[name].meaning
    try:
        number = kind(str(value))
    except ValueError as error:
        raise ConfigurationError(
            f"{variable} is {value!r}, which is not {noun}; it is {meaning}"
        ) from error
    if not 0 < number < math.inf:
        raise ConfigurationError(f"{variable} is {value!r}; it must be finite and above 0")
    return number
