"""Runs the jobs of one file: loads inputs, writes each artifact, and passes it to the jobs below.

A job below gets a value exactly as it would be read back from the store; the source is fetched and
decoded once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from segue.clock import utc_now
from segue.codec import Encoded, decode, encode, find_extension
from segue.errors import (
    BadOutput,
    Contended,
    DamagedInput,
    MissingInput,
    NotAccepted,
    Superseded,
)
from segue.media.content_type import describe_types, find_content_types, find_declared_types
from segue.media.decode import LocalMedia
from segue.model.artifact import (
    Lineage,
    build_artifact_name,
    build_suffix,
    compute_checksum,
    find_version,
    split_output,
)
from segue.model.graph import SOURCE, Graph, Job
from segue.model.job_code import build
from segue.model.ledger import Change, Ledger
from segue.model.media_file import find_bucket_location, split_uri
from segue.model.object_store import ObjectStore
from segue.model.return_type import NULL
from segue.model.transitions import extend_leases
from segue.worker.failure import shorten
from segue.worker.model_paths import find_model_paths
from segue.worker.protocol import Task
from segue.worker.result_file import ResultFiles, is_file
from segue.worker.secrets import find_leak, load_secrets

JSON = "application/json"
ATTEMPTS = 10  # to write an artifact while others write one of the same name
CLAIM_S = 300.0  # at least so long is left of a claim that was renewed
_UNREAD: Any = object()


@dataclass(slots=True, kw_only=True)
class LoadedJob:
    """A job that is ready to be called in this process."""

    spec: Job
    fingerprint: str
    outputs: tuple[tuple[str, str, str], ...]  # name, content type, suffix of the artifact's name
    needs: tuple[tuple[str, str, str], ...]  # input, what it refers to, the content type of that
    reads_source: bool
    below: frozenset[str]
    call: Callable[[Mapping[str, Any]], Any]
    batch: Callable[[Sequence[Mapping[str, Any]]], Any] | None
    batch_size: int
    may_return_null: bool
    cold: bool = True  # it has not been called yet


def load_job(graph: Graph, name: str) -> LoadedJob:
    """Import a job, construct it and run its setup; errors of its code propagate."""
    spec = graph.jobs[name]
    runner = build(spec, find_model_paths(graph, name), load_secrets(graph, name))
    if runner.setup is not None:
        runner.setup()
    return LoadedJob(
        spec=spec,
        fingerprint=graph.fingerprints[name],
        outputs=tuple(
            (output, content_type, build_suffix(output, find_extension(content_type)))
            for output, content_type in spec.outputs.items()
        ),
        needs=tuple(
            (name, needed, "" if needed == SOURCE else graph.find_content_type(needed))
            for name, needed in spec.needs.items()
        ),
        reads_source=spec.reads_source,
        below=graph.find_descendants(name),
        call=runner.call,
        batch=runner.batch,
        batch_size=runner.batch_size,
        may_return_null=runner.may_return_null,
    )


@dataclass(slots=True)
class Stores:
    """The object stores of a process, each opened when it is first needed."""

    connect: Callable[[str], ObjectStore]
    artifacts_location: str
    _by_location: dict[str, ObjectStore] = field(default_factory=dict)

    @property
    def artifacts(self) -> ObjectStore:
        """The store to which results are written."""
        return self._open_store(self.artifacts_location)

    def open_for(self, uri: str) -> ObjectStore:
        """Return the store of a URI's bucket or folder, in which the URI's path is the name."""
        return self._open_store(find_bucket_location(uri))

    def close(self) -> None:
        """Close all stores."""
        while self._by_location:
            self._by_location.popitem()[1].close()

    def _open_store(self, location: str) -> ObjectStore:
        store = self._by_location.get(location)
        if store is None:
            store = self._by_location[location] = self.connect(location)
        return store


@dataclass(slots=True)
class Claims:
    """The claims of tasks in the ledger, which is opened when it is first needed."""

    connect: Callable[[], Ledger] | None = None  # None: nobody else writes the same artifacts
    _ledger: Ledger | None = None

    def renew(self, task: Task, job: str) -> bool:
        """Extend the claim on a job of a task; return whether it was still held."""
        if self.connect is None:
            return True
        if self._ledger is None:
            self._ledger = self.connect()
        transition = partial(
            extend_leases,
            owner=task.owner,
            jobs=(job,),
            expires_at=utc_now() + timedelta(seconds=CLAIM_S),
        )
        [changed] = self._ledger.change([Change(uri=task.media.uri, transition=transition)])
        return changed.answer


@dataclass(slots=True)
class _Artifact:
    """A parent's result: its bytes, and their decoded value once a job has asked for it."""

    content_type: str
    data: bytes
    value: Any = _UNREAD

    def copy_value(self) -> Any:
        """Return the value for one more job, which must not see what other jobs do to theirs."""
        value = decode(self.content_type, self.data) if self.value is _UNREAD else self.value
        if self.content_type == JSON:
            self.value = _UNREAD
            return value
        self.value, self.data = value, b""
        return value.copy() if isinstance(value, dict | list) else value  # arrays are read-only


class LineRun:
    """Runs the jobs of one task."""

    __slots__ = (
        *("folder", "here", "remaining", "task"),
        *(
            "_artifacts",
            "_claims",
            "_file_name",
            "_files",
            "_media",
            "_names",
            "_source_store",
            "_stores",
            "_types",
        ),
    )

    def __init__(self, task: Task, stores: Stores, folder: str, claims: Claims) -> None:
        self.task = task
        self.folder = folder  # used by no other file until this one is finished
        self.here = frozenset(task.here or task.run)  # the jobs that run in this process
        self.remaining = dict.fromkeys(task.run)  # jobs without a reported result
        self._stores = stores
        self._claims = claims
        self._file_name = split_uri(task.media.uri)[1]
        self._files = ResultFiles(os.path.dirname(folder))
        self._names = dict(task.inputs)  # of the artifacts, by job or job.output
        self._artifacts: dict[str, _Artifact] = {}
        self._media: LocalMedia | None = None
        self._types: frozenset[str] | None = None  # of the source, once they are known
        self._source_store: ObjectStore | None = None

    def load_inputs(self, job: LoadedJob) -> dict[str, Any]:
        """Return the arguments to call a job with; raise NotAccepted if it is not for the file."""
        if job.spec.accepts:
            self._check_type(job.spec)
        return {
            name: self._open_source()
            if needed == SOURCE
            else self._load_parent(needed, content_type)
            for name, needed, content_type in job.needs
        }

    def write(self, job: LoadedJob, value: Any) -> dict[str, str]:
        """Write a job's artifacts; return their names and checksums.

        Nothing is written unless each output can be.
        """
        spec, version = job.spec, self.task.media.version
        values = _split_value(job, value)
        try:
            encoded = [
                self._encode(content_type, each)
                for (_, content_type, _), each in zip(job.outputs, values, strict=True)
            ]
            _check_secrets(job, encoded)
        except BadOutput:
            if hasattr(value, "close"):
                value.close()  # a coroutine warns if it is never awaited
            raise
        self.check_source(job)
        written = {}
        for (output, content_type, suffix), each in zip(job.outputs, encoded, strict=True):
            name = build_artifact_name(spec.name, job.fingerprint, self._file_name, version, suffix)
            self._put(job, name, each.data, content_type)
            written[name] = compute_checksum(each.data)
            reference = f"{spec.name}.{output}" if output else spec.name
            self._names[reference] = name
            if not job.below.isdisjoint(self.here):
                self._artifacts[reference] = _Artifact(content_type, each.data, each.value)
        self._files.remove()
        return written

    def _encode(self, content_type: str, value: Any) -> Encoded:
        if is_file(value):
            source = None if self._media is None else self._media.path
            value = self._files.read(value, content_type, source)
        return encode(content_type, value)

    def _put(self, job: LoadedJob, name: str, data: bytes, content_type: str) -> None:
        """Create an object, or replace it while the claim on the job is held.

        The object is replaced even if its bytes are the same: whoever lost the claim, and is about
        to replace the generation that he saw, then fails.
        """
        store = self._stores.artifacts
        create = partial(
            store.create,
            name,
            data,
            content_type=content_type,
            metadata=self._build_lineage(job),
        )
        for _ in range(ATTEMPTS):
            if create():
                return
            try:
                generation = store.stat(name).generation
            except MissingInput:  # deleted since
                continue
            if not self._claims.renew(self.task, job.spec.name):
                raise Superseded(
                    f"another process has taken over {job.spec.name!r} of {self.task.media.uri}; "
                    "this result is discarded"
                )
            if create(replace=True, generation=generation):
                return
        raise Contended(f"others keep writing {store.uri(name)}; try again later")

    def check_source(self, job: LoadedJob) -> None:
        """Raise Superseded if a job used the source in place, and it has changed since."""
        store = self._source_store
        if job.reads_source and store is not None and not self.task.media.bucket:
            self._fetch_source(store)

    def finish(self) -> None:
        """Remove the local copy of the source, and all decoded values."""
        self._files.remove()
        self._artifacts.clear()
        self._media = None
        if self._source_store is not None:
            _empty_folder(self.folder)

    def _open_source(self) -> LocalMedia:
        if self._media is None:
            media = self.task.media
            self._source_store = self._stores.open_for(media.uri)
            path = self._fetch_source(self._source_store)
            self._media = LocalMedia(
                uri=media.uri, version=media.version, path=path, folder=self.folder
            )
        return self._media

    def _check_type(self, job: Job) -> None:
        """Raise NotAccepted if the file is of a type that a job does not accept.

        Where its bytes prove nothing, it is what it is declared to be: if that is what the job
        accepts, the file is damaged, which is for the job to find out.
        """
        path = self._open_source().path
        if self._types is None:
            declared = find_declared_types(self._file_name, self.task.media.content_type)
            self._types = find_content_types(path) or declared
        if self._types and not job.is_accepted(self._types):
            found = describe_types(self._types)
            message = f"the file is {found}, and the job accepts {', '.join(job.accepts)}"
            raise NotAccepted(message, self._types)

    def _fetch_source(self, store: ObjectStore) -> str:
        """Return the path of the source; a file in a folder may come back, or be readable again."""
        media = self.task.media
        try:
            return store.fetch(
                self._file_name, version=media.version, stat=media.stat, folder=self.folder
            )
        except MissingInput as error:
            is_forbidden = isinstance(error.__cause__, PermissionError)
            if media.bucket or (is_forbidden and self._media is None):
                raise
            raise Superseded(f"{error}; it is processed once it is there") from error

    def _load_parent(self, reference: str, content_type: str) -> Any:
        known = self._artifacts.get(reference)
        if known is None:
            if reference not in self._names:
                raise MissingInput(f"the task has no artifact of {reference!r}; plan it again")
            data = self._read_parent(reference)
            known = self._artifacts[reference] = _Artifact(content_type, data)
        return known.copy_value()

    def _read_parent(self, reference: str) -> bytes:
        """Read a parent's artifact, and compare it with the ledger's checksum."""
        name, checksum = self._names[reference], self.task.checksums.get(reference)
        parent, _ = split_output(reference)
        if "://" in name:
            return self._read_foreign_parent(parent, name, checksum)
        try:
            data = self._stores.artifacts.read(name)
        except MissingInput as error:
            raise DamagedInput(f"{error}; {parent!r} is computed again", parent) from error
        if checksum is not None and compute_checksum(data) != checksum:
            raise DamagedInput(
                f"{self._stores.artifacts.uri(name)} has changed since {parent!r} wrote it: its "
                f"checksum is not that in the ledger; {parent!r} is computed again",
                parent,
            )
        return data

    def _read_foreign_parent(self, parent: str, uri: str, checksum: str | None) -> bytes:
        """Read the artifact of another namespace's job, which only its team can compute again."""
        remedy = "have it computed again in its own namespace, then run 'segue retry' here"
        try:
            data = self._stores.open_for(uri).read(split_uri(uri)[1])
        except MissingInput as error:
            raise MissingInput(f"{error}; it is the result of {parent!r}: {remedy}") from error
        if checksum is not None and compute_checksum(data) != checksum:
            raise MissingInput(
                f"{uri} has changed since {parent!r} wrote it: its checksum is not that in the "
                f"ledger; {remedy}"
            )
        return data

    def _build_lineage(self, job: LoadedJob) -> dict[str, str]:
        return Lineage(
            job=job.spec.name,
            fingerprint=job.fingerprint,
            uri=self.task.media.uri,
            version=self.task.media.version,
            parents={needed: self._names[needed] for _, needed, _ in job.needs if needed != SOURCE},
            segue=find_version(),
        ).to_metadata()


def _split_value(job: LoadedJob, value: Any) -> list[Any]:
    """Return the value of each output; a job with several returns a dict of them."""
    names = [output for output, _, _ in job.outputs]
    if names == [""]:
        if value is None and job.spec.writes == JSON and not job.may_return_null:
            raise BadOutput(f"the job returned nothing: return a value; {NULL}")
        return [value]
    if not isinstance(value, Mapping) or set(value) != set(names):
        found = type(value).__name__
        if isinstance(value, Mapping):
            found = f"dict with the keys {', '.join(map(repr, value)) or '(none)'}"
        raise BadOutput(
            f"the job returned {shorten(found, 200)}; it writes several outputs, so return a dict "
            f"with the keys {', '.join(map(repr, names))}"
        )
    return [value[name] for name in names]


def _check_secrets(job: LoadedJob, encoded: Sequence[Encoded]) -> None:
    for each in encoded if job.spec.secrets else ():
        if (parameter := find_leak(job.spec.name, each.data)) is not None:
            raise BadOutput(
                f"the result contains the secret {parameter!r}, and others read artifacts: leave "
                "it out"
            )


def _empty_folder(folder: str) -> None:
    """Empty a folder; creating a new one for each file would take longer than everything else."""
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
