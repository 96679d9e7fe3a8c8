"""What other namespaces have of a file: what a graph reads of them, and what these read of others.

What a graph reads, and where, its lock says. What these namespaces are locked to in turn is in
their manifests in the registry; without one, only the first level is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from segue.adapters.connect import ledger_exists, open_ledger_to_read
from segue.errors import SegueError
from segue.execution.foreign import NO_RESULTS, ForeignResult, find_foreign_result
from segue.model.graph import Graph
from segue.model.manifest import Manifest, PublishedJob, split_reference
from segue.model.media_file import MediaFile
from segue.model.object_store import ObjectStore
from segue.model.record import Record
from segue.registry.publication import load_manifest, open_registry

MISSING, UNKNOWN = "missing", "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamJob:
    """A job of another namespace, in the version that somebody is locked to."""

    job: str
    fingerprint: str
    state: str  # of its result, or "missing"; "unknown" if the ledger cannot be read
    artifacts: tuple[str, ...]  # URIs
    needed_by: tuple[str, ...]  # the namespaces that are locked to it


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamNamespace:
    """A namespace above a graph, with the jobs that are read of it."""

    namespace: str
    contact: str
    ledger: str | None  # URL; None: its manifest could not be read
    is_source: bool = False  # whether the graph reads the files of its catalogue
    jobs: tuple[UpstreamJob, ...]
    note: str  # how the file in its ledger differs; empty if it does not
    problem: str  # why its ledger or its manifest cannot be read; empty if they can


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The namespaces above a graph, nearest first, and what they have of one file."""

    registry: str | None = None
    problem: str = ""  # why the registry cannot be read; empty if it can
    namespaces: tuple[UpstreamNamespace, ...] = ()
    results: Mapping[str, ForeignResult] = field(default_factory=lambda: NO_RESULTS)  # of the graph


def read_upstream(graph: Graph, media: MediaFile) -> Upstream:
    """Read what all namespaces above a graph have of a file; each ledger is read once.

    What cannot be read is described, and raises no error.
    """
    if not graph.locked_references:
        return Upstream(registry=graph.registry)
    with ExitStack() as opened:
        registry: ObjectStore | None = None
        problem = ""
        if graph.registry is not None:
            try:
                registry = opened.enter_context(closing(open_registry(graph.registry)))
            except (SegueError, OSError) as error:
                problem = str(error)
        return _UpstreamReader(graph, media, registry).read(problem)


class _UpstreamReader:
    """Follows the pins from one namespace to the next."""

    def __init__(self, graph: Graph, media: MediaFile, registry: ObjectStore | None) -> None:
        self._graph = graph
        self._media = media
        self._registry = registry
        self._published: dict[str, Manifest] = {}  # as the registry has them
        self._problems: dict[str, str] = {}
        self._results: dict[str, ForeignResult] = {}

    def read(self, problem: str) -> Upstream:
        needed = self._follow_pins()
        return Upstream(
            registry=self._graph.registry,
            problem=problem,
            namespaces=tuple(self._read_namespace(name, jobs) for name, jobs in needed.items()),
            results=self._results,
        )

    def _follow_pins(self) -> dict[str, dict[tuple[str, str], list[str]]]:
        """Return, by namespace, job and fingerprint, which namespaces are locked to it."""
        own = self._graph.namespace
        source = self._graph.source_namespace
        needed: dict[str, dict[tuple[str, str], list[str]]] = {}
        left = deque([(own, self._graph.pins)])
        if source is not None:
            needed[source] = {}
            left.append((source, self._load_pins(source)))
        while left:
            user, pins = left.popleft()
            for reference, fingerprint in sorted(pins.items()):
                namespace, job = split_reference(reference)
                if namespace == own:  # whose jobs are explained by themselves
                    continue
                if namespace not in needed:
                    needed[namespace] = {}
                    left.append((namespace, self._load_pins(namespace)))
                needed[namespace].setdefault((job, fingerprint), []).append(user)
        return needed

    def _load_pins(self, namespace: str) -> dict[str, str]:
        """Return what a namespace is locked to; nothing if its manifest cannot be read."""
        if self._registry is None:
            return {}
        try:
            manifest = load_manifest(self._registry, namespace)
        except (SegueError, OSError) as error:
            self._problems[namespace] = f"its manifest cannot be read: {error}"
            return {}
        if manifest is None:
            self._problems[namespace] = f"it is not in the registry {self._graph.registry}"
            return {}
        self._published[namespace] = manifest
        return manifest.pins

    def _read_namespace(
        self, namespace: str, needed: Mapping[tuple[str, str], list[str]]
    ) -> UpstreamNamespace:
        manifest = self._graph.imports.get(namespace) or self._published.get(namespace)
        problems = [self._problems[namespace]] if namespace in self._problems else []
        record: Record | None = None
        is_read = False
        if manifest is not None:
            try:
                record, is_read = self._read_record(manifest), True
            except (SegueError, OSError) as error:
                problems.append(f"its ledger cannot be read: {error}")
        return UpstreamNamespace(
            namespace=namespace,
            contact=manifest.contact if manifest is not None else "",
            ledger=manifest.ledger if manifest is not None else None,
            is_source=namespace == self._graph.source_namespace,
            jobs=tuple(
                self._build_job(
                    f"{namespace}/{job}", fingerprint, users, manifest if is_read else None, record
                )
                for (job, fingerprint), users in needed.items()
            ),
            note=self._describe(record) if is_read else "",
            problem="; ".join(problems),
        )

    def _read_record(self, manifest: Manifest) -> Record | None:
        if not ledger_exists(manifest.ledger):
            raise SegueError(f"there is no {manifest.ledger}, or its folder is not accessible")
        with closing(open_ledger_to_read(manifest.ledger, manifest.namespace)) as ledger:
            snapshot = ledger.read([self._media.uri])[0]
        if snapshot.damage is not None:
            raise SegueError(snapshot.damage)
        return snapshot.record

    def _describe(self, record: Record | None) -> str:
        if record is None:
            return "the file is not in its ledger yet"
        if record.deleted_at is not None:
            return "the file is deleted in its ledger"
        if record.version != self._media.version:
            return f"its ledger has version {record.version} of the file"
        return ""

    def _build_job(
        self,
        reference: str,
        fingerprint: str,
        users: list[str],
        manifest: Manifest | None,
        record: Record | None,
    ) -> UpstreamJob:
        _, job = split_reference(reference)
        result: ForeignResult | None = None
        if manifest is not None:
            published = manifest.jobs.get(job)
            if published is None or published.fingerprint != fingerprint:
                published = PublishedJob(fingerprint=fingerprint, writes="", pipeline="")
            result = find_foreign_result(manifest, published, record, self._media)
        if result is not None and self._graph.namespace in users:
            self._results[reference] = result
        absent = MISSING if manifest is not None else UNKNOWN
        return UpstreamJob(
            job=job,
            fingerprint=fingerprint,
            state=str(result.state) if result is not None else absent,
            artifacts=tuple(result.artifacts) if result is not None else (),
            needed_by=tuple(users),
        )
