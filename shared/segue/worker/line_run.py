"""One file on its line: its inputs at hand, each job's value written, and handed to the jobs below.

A value comes to a job below exactly as it would be read back from the store; the source is fetched
and decoded once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from segue.codec import decode, encode
from segue.errors import BadOutput, Contended, MissingInput, Superseded
from segue.media.decode import LocalMedia
from segue.model.artifact import Lineage, artifact_name, checksum, segue_version
from segue.model.graph import SOURCE
from segue.model.media_file import bucket_location, split_uri
from segue.model.object_store import ObjectStore
from segue.worker.loaded_job import Step
from segue.worker.protocol import Order

JSON = "application/json"
_UNREAD: Any = object()


@dataclass(slots=True)
class Stores:
    """The object stores of a process, opened when they are first needed."""

    connect: Callable[[str], ObjectStore]
    artifacts_at: str
    _open: dict[str, ObjectStore] = field(default_factory=dict)

    @property
    def artifacts(self) -> ObjectStore:
        """Where results are written."""
        return self._at(self.artifacts_at)

    def of(self, uri: str) -> ObjectStore:
        """The store in which a URI's name is the whole name in its bucket."""
        return self._at(bucket_location(uri))

    def read(self, uri: str) -> bytes:
        """Read an artifact by its URI, wherever it was written."""
        inside = f"{self.artifacts.location}/"
        if uri.startswith(inside):
            return self.artifacts.read(uri.removeprefix(inside))
        return self.of(uri).read(split_uri(uri)[1])

    def close(self) -> None:
        """Let go of connections."""
        while self._open:
            self._open.popitem()[1].close()

    def _at(self, location: str) -> ObjectStore:
        store = self._open.get(location)
        if store is None:
            store = self._open[location] = self.connect(location)
        return store


@dataclass(slots=True)
class _Artifact:
    """A parent's result: its bytes, and the value that they hold once somebody has asked."""

    content_type: str
    data: bytes
    value: Any = _UNREAD

    def hand(self) -> Any:
        """The value for one more job; what one job does to it, the next must not see."""
        value = decode(self.content_type, self.data) if self.value is _UNREAD else self.value
        if self.content_type == JSON:
            self.value = _UNREAD
            return value
        self.value, self.data = value, b""
        return value.copy() if isinstance(value, dict | list) else value  # arrays are read-only


class LineRun:
    """The jobs of one order, for one file."""

    __slots__ = (
        *("folder", "left", "order"),
        *("_artifacts", "_file_name", "_home", "_media", "_stores", "_uris"),
    )

    def __init__(self, order: Order, stores: Stores, folder: str) -> None:
        self.order = order
        self.folder = folder  # for this file alone, until it is finished
        self.left = dict.fromkeys(order.run)  # the jobs of which nothing is told yet
        self._stores = stores
        self._file_name = split_uri(order.uri)[1]
        self._uris = dict(order.inputs)
        self._artifacts: dict[str, _Artifact] = {}
        self._media: LocalMedia | None = None
        self._home: ObjectStore | None = None

    def inputs(self, step: Step) -> dict[str, Any]:
        """What a job is called with."""
        return {
            name: self._source() if parent == SOURCE else self._value(parent, content_type)
            for name, parent, content_type in step.needs
        }

    def write(self, step: Step, value: Any) -> tuple[str, str]:
        """Write a job's artifact; return its URI and checksum. One that is there already counts."""
        content_type, order, store = step.job.writes, self.order, self._stores.artifacts
        try:
            encoded = encode(content_type, value)
        except BadOutput:
            if hasattr(value, "close"):
                value.close()  # a coroutine complains if nobody awaits it
            raise
        if step.reads_source:
            self._check_source()
        name = artifact_name(
            step.name, step.fingerprint, self._file_name, order.generation, step.extension
        )
        written = _Artifact(content_type, encoded.data, encoded.value)
        if not store.create(
            name,
            encoded.data,
            content_type=content_type,
            metadata=self._lineage(step),
            replace=step.name in order.force,
        ):
            existing = _existing(store, name)
            if existing != encoded.data:
                written = _Artifact(content_type, existing)
        uri = self._uris[step.name] = store.uri(name)
        fingerprint = checksum(written.data)
        if not step.below.isdisjoint(self.left):
            self._artifacts[step.name] = written
        return uri, fingerprint

    def finish(self) -> None:
        """Remove the local copy of the source, and what was decoded of it."""
        self._artifacts.clear()
        self._media = None
        if self._home is not None:
            _empty(self.folder)

    def _source(self) -> LocalMedia:
        if self._media is None:
            uri, generation = self.order.uri, self.order.generation
            self._home = self._stores.of(uri)
            path = self._home.local(self._file_name, generation=generation, folder=self.folder)
            self._media = LocalMedia(uri=uri, generation=generation, path=path, folder=self.folder)
        return self._media

    def _check_source(self) -> None:
        """See that a source that was not copied is still what it was when the job began."""
        if self._home is None or not self._home.location.startswith("file://"):
            return
        try:
            self._home.local(self._file_name, generation=self.order.generation, folder=self.folder)
        except MissingInput as error:
            raise Superseded(
                f"{self.order.uri} was deleted while it was worked on; its result is not kept"
            ) from error

    def _value(self, parent: str, content_type: str) -> Any:
        known = self._artifacts.get(parent)
        if known is None:
            if parent not in self._uris:
                raise MissingInput(f"nobody said where the artifact of {parent!r} is; plan it anew")
            data = self._stores.read(self._uris[parent])
            known = self._artifacts[parent] = _Artifact(content_type, data)
        return known.hand()

    def _lineage(self, step: Step) -> dict[str, str]:
        return Lineage(
            job=step.name,
            fingerprint=step.fingerprint,
            uri=self.order.uri,
            generation=self.order.generation,
            parents={p: self._uris[p] for p in step.parents},
            segue=segue_version(),
        ).to_metadata()


def _existing(store: ObjectStore, name: str) -> bytes:
    try:
        return store.read(name)
    except MissingInput as error:  # deleted since it stood in our way
        raise Contended(f"{store.uri(name)} came and went; it is written again") from error


def _empty(folder: str) -> None:
    """Remove what is in a folder; to make a new one for each file would cost more than all else."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:  # a job has removed it
        os.makedirs(folder, exist_ok=True)
        return
    for name in names:
        path = os.path.join(folder, name)
        try:
            os.unlink(path)
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
