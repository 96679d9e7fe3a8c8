"""Publishes a namespace's manifest, and refuses to take away what others are locked to.

A manifest is one object, ``<registry>/<namespace>/manifest.json``. Each namespace writes its own;
its precondition is the generation that was compared, so of two publications at a time one fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from segue.adapters.connect import connect_store
from segue.adapters.urls import make_url_absolute
from segue.errors import ConfigurationError, Contended, MissingInput
from segue.model.graph import NAMESPACE, Graph
from segue.model.manifest import (
    Manifest,
    PublishedJob,
    decode_manifest,
    encode_manifest,
    split_reference,
)
from segue.model.media_file import parse_location
from segue.model.object_store import ObjectStore
from segue.model.settings import Settings

NAME = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenPin:
    """A namespace that is locked to what a job is not, or no longer."""

    namespace: str
    contact: str
    job: str
    fingerprint: str  # that it is locked to


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What a publication changes."""

    manifest: Manifest
    previous: Manifest | None
    broken: tuple[BrokenPin, ...]

    @property
    def is_changed(self) -> bool:
        """Whether the registry has another manifest, or none."""
        return self.manifest != self.previous


def open_registry(location: str) -> ObjectStore:
    """Open a registry: ``gs://bucket/prefix`` or a folder."""
    if "://" in location and not location.startswith(("gs://", "file:///")):
        raise ConfigurationError(
            f"{location!r} is not a registry that Segue supports; write gs://bucket/prefix or a "
            "folder"
        )
    return connect_store(parse_location(location))


def build_manifest(graph: Graph, settings: Settings) -> Manifest:
    """Return the manifest of a graph: its published jobs, where they are, and what it pins."""
    jobs = {
        job.name: PublishedJob(
            fingerprint=graph.fingerprints[job.name],
            equivalents=graph.accepted[job.name][1:],
            writes=job.writes if isinstance(job.writes, str) else dict(job.writes),
            pipeline=graph.pipeline_of[job.name],
            on_arrival=job.on_arrival,
            owner=job.owner,
            description=job.description,
        )
        for job in graph.jobs.values()
        if job.publish
    }
    return Manifest(
        namespace=graph.namespace,
        contact=graph.contact,
        requests_per_minute=graph.requests_per_minute,
        catalogue=parse_location(graph.catalogue) if graph.catalogue else None,
        include=graph.include,
        exclude=graph.exclude,
        ledger=make_url_absolute(settings.ledger),
        queue=make_url_absolute(settings.queue),
        artifacts=parse_location(graph.artifacts),
        jobs=jobs,
        pins=graph.pins,
        source_namespace=graph.source_namespace,
    )


def format_manifest_name(namespace: str) -> str:
    """Return the name of a namespace's manifest in the registry."""
    if not NAMESPACE.fullmatch(namespace):
        raise ConfigurationError(f"{namespace!r} is not a namespace's name")
    return f"{namespace}/{NAME}"


def load_manifest(registry: ObjectStore, namespace: str) -> Manifest | None:
    """Load the manifest of a namespace, or return None if it has not published any."""
    return _load(registry, namespace)[0]


def _load(registry: ObjectStore, namespace: str) -> tuple[Manifest | None, int | None]:
    """Load a manifest, and the generation that it has or, if overwritten meanwhile, had."""
    name = format_manifest_name(namespace)
    try:
        generation = registry.stat(name).generation
        manifest = decode_manifest(registry.read(name), registry.uri(name))
    except MissingInput:
        return None, None
    if manifest.namespace != namespace:
        raise ConfigurationError(
            f"{registry.uri(name)} is the manifest of {manifest.namespace!r}; publish "
            f"{namespace!r} again"
        )
    return manifest, generation


def load_manifests(registry: ObjectStore) -> dict[str, Manifest]:
    """Load the manifests of all namespaces, by namespace."""
    manifests = {}
    for found in registry.list():
        namespace, _, name = found.name.partition("/")
        if name == NAME and NAMESPACE.fullmatch(namespace):
            manifest = load_manifest(registry, namespace)
            if manifest is not None:
                manifests[namespace] = manifest
    return manifests


def find_pins(registry: str | None, namespace: str) -> frozenset[str]:
    """Return the fingerprints of a namespace that others are locked to; None: no registry."""
    if registry is None:
        return frozenset()
    with closing(open_registry(registry)) as store:
        return frozenset(
            fingerprint
            for manifest in load_manifests(store).values()
            for reference, fingerprint in manifest.pins.items()
            if split_reference(reference)[0] == namespace
        )


def compare_publication(registry: ObjectStore, manifest: Manifest) -> Publication:
    """Return what publishing a manifest would change."""
    manifests = load_manifests(registry)
    return Publication(
        manifest=manifest,
        previous=manifests.get(manifest.namespace),
        broken=tuple(_find_broken_pins(manifest, manifests)),
    )


def _find_broken_pins(manifest: Manifest, manifests: Mapping[str, Manifest]) -> list[BrokenPin]:
    broken = []
    for other in manifests.values():
        for reference, fingerprint in other.pins.items():
            namespace, name = split_reference(reference)
            if namespace != manifest.namespace or other.namespace == namespace:
                continue
            job = manifest.jobs.get(name)
            if job is None or fingerprint not in job.accepted:
                broken.append(
                    BrokenPin(
                        namespace=other.namespace,
                        contact=other.contact,
                        job=name,
                        fingerprint=fingerprint,
                    )
                )
    return broken


def publish(registry: ObjectStore, manifest: Manifest, *, break_pins: bool = False) -> Publication:
    """Publish a manifest; one that is there already is not written again.

    Raises
    ------
    ConfigurationError
        If other namespaces are locked to results that this manifest no longer makes, unless
        ``break_pins`` is set.
    Contended
        If somebody else publishes the same namespace at this moment.
    """
    _, generation = _load(registry, manifest.namespace)
    publication = compare_publication(registry, manifest)
    if publication.broken and not break_pins:
        pins = "; ".join(
            f"{p.namespace} is locked to {manifest.namespace}/{p.job} {p.fingerprint}"
            + (f" (contact {p.contact})" if p.contact else "")
            for p in publication.broken
        )
        raise ConfigurationError(
            f"this would take away what others use: {pins}. Publish the new job beside the old "
            "one, under another name, until they have locked to it; or list the old fingerprint "
            "under 'equivalents' if its results are as good; or use --break, and tell them"
        )
    if publication.is_changed:
        name = format_manifest_name(manifest.namespace)
        written = registry.create(
            name,
            encode_manifest(manifest),
            content_type="application/json",
            metadata={},
            replace=generation is not None,
            generation=generation,
        )
        if not written:
            raise Contended(f"somebody else has just published {registry.uri(name)}; try again")
        registry.sync()
    return publication
