"""The manifest of a namespace, by which other teams use its jobs without having their code.

``segue publish`` writes it to the registry. ``segue lock`` copies what a graph uses of others'
manifests to ``segue.lock``, beside its ``jobs.yaml``: what runs reads only that file, so nothing
changes below a parent until its children lock again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from segue.errors import ConfigurationError

FORMAT: Literal[1] = 1
LOCK_FILE = "segue.lock"


def split_reference(reference: str) -> tuple[str, str]:
    """Return the namespace and the job that ``namespace/job`` refers to.

    What names an output as well, ``namespace/job.output``, keeps it.
    """
    namespace, _, job = reference.partition("/")
    return namespace, job


class PublishedJob(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job that other namespaces may depend on."""

    fingerprint: str
    equivalents: tuple[str, ...] = ()  # older fingerprints that its results stand for
    writes: str | dict[str, str]  # a content type, or by output
    pipeline: str  # whose inbox takes requests for it
    on_arrival: bool = True
    owner: str = ""
    description: str = ""

    @property
    def accepted(self) -> tuple[str, ...]:
        """The fingerprints that count as current."""
        return (self.fingerprint, *self.equivalents)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a namespace publishes, where its results are, and what it uses of others."""

    format: Literal[1] = FORMAT
    namespace: str
    contact: str = ""
    catalogue: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    ledger: str  # URL
    queue: str  # URL
    artifacts: str  # location
    jobs: dict[str, PublishedJob]
    requests_per_minute: int | None = None  # of each other namespace; None: no limit
    pins: dict[str, str] = {}  # by namespace/job: the fingerprint that its graph is locked to
    source_namespace: str | None = None  # whose files its jobs read; None: its own


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of others' manifests that a graph uses."""

    format: Literal[1] = FORMAT
    namespaces: dict[str, Manifest]  # without pins, and with the jobs that are used


def encode_manifest(document: Manifest | Lock) -> bytes:
    """Return a manifest or a lock as JSON, in an order that does not depend on anything else."""
    return (
        msgspec.json.format(
            msgspec.json.encode({"format": FORMAT, **msgspec.to_builtins(document)}, order="sorted")
        )
        + b"\n"
    )


_decode_manifest = msgspec.json.Decoder(Manifest).decode


def decode_manifest(data: bytes, place: str) -> Manifest:
    """Parse a manifest; ``place`` is where it was read."""
    try:
        return _decode_manifest(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"{place} is not a manifest of format {FORMAT} ({error}); publish it again with "
            "'segue publish'"
        ) from error


_decode_lock = msgspec.json.Decoder(Lock).decode


def decode_lock(data: bytes, place: str) -> Lock:
    """Parse a lock; ``place`` is where it was read."""
    try:
        return _decode_lock(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"{place} is not a lock of format {FORMAT} ({error}); write it again with 'segue lock'"
        ) from error


def find_published(manifests: Mapping[str, Manifest], reference: str) -> PublishedJob | None:
    """Return the job that ``namespace/job`` refers to, or None if it is not published."""
    namespace, job = split_reference(reference)
    manifest = manifests.get(namespace)
    return manifest.jobs.get(job) if manifest is not None else None
