"""Locks a graph to what other namespaces publish now, until it is locked again.

A graph without a lock never sees a change of its parents: their new versions count from the moment
at which their fingerprints are in ``segue.lock``, and then exactly the jobs below them are stale.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from segue.errors import ConfigurationError, suggest
from segue.model.graph import SOURCE, find_lock, read_lock, read_references
from segue.model.manifest import (
    Lock,
    Manifest,
    encode_manifest,
    find_published,
    split_reference,
)
from segue.model.object_store import ObjectStore
from segue.registry.publication import load_manifests


@dataclass(frozen=True, slots=True, kw_only=True)
class LockChange:
    """A job of another namespace whose fingerprint a lock changes; None: it is not in it."""

    reference: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockComparison:
    """The lock that a graph should have, and how the present one differs."""

    path: str
    lock: Lock
    is_current: bool
    changes: tuple[LockChange, ...]  # of fingerprints; addresses may differ, too

    def write(self) -> None:
        """Replace the lock; remove it if the graph needs nothing of others."""
        if not self.lock.namespaces:
            if os.path.exists(self.path):
                os.remove(self.path)
            return
        unfinished = f"{self.path}.unfinished"
        with open(unfinished, "wb") as file:
            file.write(encode_manifest(self.lock))
        os.replace(unfinished, self.path)


def compare_lock(path: str, registry: ObjectStore | None) -> LockComparison:
    """Look up what a graph needs of others, and compare it with the graph's lock.

    Parameters
    ----------
    path : str
        The graph file.
    registry : ObjectStore or None
        Where manifests are published; None if no registry is set.

    Raises
    ------
    ConfigurationError
        If a job that the graph needs is not published.
    """
    references = read_references(path)
    manifests: Mapping[str, Manifest] = {}
    if references:
        if registry is None:
            raise ConfigurationError(
                f"{path} needs {references[0]}, and no registry is set; write 'registry:' in it, "
                "or set SEGUE_REGISTRY"
            )
        manifests = load_manifests(registry)
    lock = build_lock(references, manifests)
    before = read_lock(path) or Lock(namespaces={})
    return LockComparison(
        path=find_lock(path),
        lock=lock,
        is_current=lock == before,
        changes=tuple(_compare(before, lock)),
    )


def build_lock(references: Iterable[str], manifests: Mapping[str, Manifest]) -> Lock:
    """Return the lock for some jobs, each ``namespace/job``."""
    used: dict[str, list[str]] = {}
    for reference in sorted(references):
        namespace, job = split_reference(reference)
        is_source = job == SOURCE and namespace in manifests
        if not is_source and find_published(manifests, reference) is None:
            raise ConfigurationError(_explain_absence(reference, manifests))
        used.setdefault(namespace, []).extend([] if is_source else [job])
    return Lock(
        namespaces={
            namespace: msgspec.structs.replace(
                manifests[namespace],
                jobs={job: manifests[namespace].jobs[job] for job in jobs},
                pins={},
                source_namespace=None,
            )
            for namespace, jobs in used.items()
        }
    )


def _explain_absence(reference: str, manifests: Mapping[str, Manifest]) -> str:
    namespace, job = split_reference(reference)
    manifest = manifests.get(namespace)
    if manifest is None:
        known = suggest(namespace, sorted(manifests)) if manifests else "nobody has published yet"
        return f"no namespace {namespace!r} is in the registry; {known}"
    remedy = f"ask {manifest.contact or 'that team'} to publish it"
    if manifest.jobs:
        hint = suggest(job, sorted(manifest.jobs))
        remedy = f"{hint} If not, {remedy}" if hint.endswith("?") else f"{hint}, or {remedy}"
    return f"{namespace!r} does not publish a job {job!r}; {remedy}"


def _compare(before: Lock, after: Lock) -> list[LockChange]:
    old, new = _list_fingerprints(before), _list_fingerprints(after)
    return [
        LockChange(reference=r, before=old.get(r), after=new.get(r))
        for r in sorted({*old, *new})
        if old.get(r) != new.get(r)
    ]


def _list_fingerprints(lock: Lock) -> dict[str, str]:
    return {
        f"{namespace}/{name}": job.fingerprint
        for namespace, manifest in lock.namespaces.items()
        for name, job in manifest.jobs.items()
    }
