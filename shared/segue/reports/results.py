"""The current results of jobs, file by file, and what opens them as values.

Current is what ``segue status`` counts as done: of the file's present version, and of the job as
the graph now defines it, or of an earlier version that the graph accepts in its place.
"""

from __future__ import annotations

import os
import shlex
import threading
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from segue.adapters.connect import connect_store
from segue.codec import CODECS, decode
from segue.errors import ConfigurationError, MissingInput, suggest
from segue.execution.foreign import ForeignLedgers, find_foreign_entry, open_foreign_ledgers
from segue.model.artifact import build_artifact_name, compute_checksum, split_output
from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query, find_pages
from segue.model.manifest import split_reference
from segue.model.media_file import parse_location, split_uri
from segue.model.object_store import ObjectStore
from segue.model.record import Entry, Record
from segue.model.transitions import find_current

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from segue.media.audio import Audio

AUDIO = ("audio/flac", "audio/wav")
ARRAYS = ("application/x-npz",)
IMAGES = ("image/png", "image/jpeg")
BYTES = "application/octet-stream"
CONTENT_TYPES = {codec.extension: content_type for content_type, codec in CODECS.items()}


class ArtifactReader:
    """Reads artifacts below a location.

    It connects when it first reads, and can be sent to other processes, which connect themselves.
    """

    def __init__(self, location: str) -> None:
        self.location = parse_location(location)
        self._store: ObjectStore | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[ArtifactReader], tuple[str]]:
        """Pickle the location."""
        return ArtifactReader, (self.location,)

    @property
    def store(self) -> ObjectStore:
        """The store, which is closed once nobody refers to the reader."""
        with self._lock:
            if self._store is None:
                self._store = connect_store(self.location)
                weakref.finalize(self, self._store.close)
            return self._store


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """The current result of a job for one file.

    Each access reads the artifact anew, and compares it with the ledger's checksum; nothing is
    kept, so that a loop over millions of results needs the memory of one.
    """

    uri: str  # of the media file
    version: str  # of its content; in a bucket, the generation
    job: str  # of another namespace: namespace/job
    output: str  # of a job with several; "" of others
    fingerprint: str  # of the job's version that computed it
    finished_at: datetime | None  # aware, in UTC
    content_type: str
    checksum: str
    name: str  # of the artifact, relative to the artifacts' location
    reader: ArtifactReader = field(repr=False, compare=False)

    @property
    def artifact(self) -> str:
        """The URI of the artifact."""
        return f"{self.reader.location.rstrip('/')}/{self.name}"

    @property
    def value(self) -> Any:
        """What the job returned, as a job that needs it gets it.

        JSON is what it holds; a table a pyarrow.Table; sound an Audio; an image an array of uint8
        [shape=(height, width) or (height, width, 3 or 4)]; arrays a dict of them by name; MIDI and
        others bytes. Arrays are read-only.

        Raises
        ------
        MissingInput
            If the artifact is missing, or is not what the job wrote.
        Unavailable
            If the bucket cannot be reached.
        """
        return decode(self.content_type, self.read())

    def read(self) -> bytes:
        """Return the bytes of the artifact; errors as of `value`."""
        try:
            data = self.reader.store.read(self.name)
        except MissingInput as error:
            raise MissingInput(f"{error}; {self._remedy}") from error
        if compute_checksum(data) != self.checksum:
            raise MissingInput(
                f"{self.artifact} has changed since {self.job!r} wrote it: its checksum is not "
                f"that in the ledger; {self._remedy}"
            )
        return data

    def audio(self) -> Audio:
        """Return sound: ``y`` is float32 [shape=(n,) or (channels, n)], ``sr`` its rate in Hz."""
        self._check_type("sound", AUDIO)
        return cast("Audio", self.value)

    def array(self, name: str | None = None) -> NDArray[Any]:
        """Return an array of an ``application/x-npz``; without a name, the only one.

        Raises
        ------
        ConfigurationError
            If the job writes something else, or there is no such array, or not only one.
        """
        self._check_type("arrays", ARRAYS)
        arrays: dict[str, NDArray[Any]] = self.value
        chosen = [name] if name is not None else [*arrays]
        if len(chosen) != 1 or chosen[0] not in arrays:
            what = "array() without a name" if name is None else f"the array {name!r}"
            raise ConfigurationError(
                f"{what} is not in {self.artifact}; name one of {', '.join(arrays) or '(none)'}"
            )
        return arrays[chosen[0]]

    def image(self) -> NDArray[np.uint8]:
        """Return pixels, uint8 [shape=(height, width) or (height, width, 3 or 4)]."""
        self._check_type("image", IMAGES)
        return cast("NDArray[np.uint8]", self.value)

    def path(self, folder: str | os.PathLike[str] | None = None) -> Path:
        """Return a local file with the artifact's bytes.

        Without a folder it is the artifact itself, which must not be changed, and which must not be
        in a bucket. With one, it is a copy below it, under the artifact's name; one that is there
        already and has the right bytes stays.

        Raises
        ------
        ConfigurationError
            If the artifact is in a bucket and no folder is given.
        """
        if folder is None:
            if not self.artifact.startswith("file://"):
                raise ConfigurationError(
                    f"{self.artifact} is in a bucket and has no path; name a folder to copy it to, "
                    "as in path('results')"
                )
            path = Path(self.artifact.removeprefix("file://"))
            if not path.exists():
                raise MissingInput(f"{self.artifact} does not exist; {self._remedy}")
            return path
        path = Path(folder) / self.name
        if not path.exists() or compute_checksum(path.read_bytes()) != self.checksum:
            data = self.read()
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
            unfinished.write_bytes(data)
            unfinished.replace(path)
        return path

    def _check_type(self, what: str, content_types: Collection[str]) -> None:
        if self.content_type not in content_types:
            raise ConfigurationError(
                f"{self.job!r} writes {self.content_type}, which holds no {what}; use "
                ".value or .path()"
            )

    @property
    def _remedy(self) -> str:
        namespace, _, job = self.job.rpartition("/")
        where = f", with the graph of {namespace!r}" if namespace else ""
        return (
            f"have it computed again{where}: segue backfill --force "
            f"--job {job} --prefix {shlex.quote(self.uri)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileResults:
    """The current results of some jobs for one file."""

    uri: str
    version: str
    results: Mapping[str, FileResult]  # by reference: job or job.output; none where none is current


def check_reference(graph: Graph, reference: str) -> str:
    """Return a reference to a job or, if it has several, to one of its outputs.

    A job of another namespace that the graph needs is ``namespace/job``.

    Raises
    ------
    ConfigurationError
        If the graph has no such job or output, or the job has several and none is named.
    """
    job, output = split_output(reference)
    if "/" not in job:
        graph.select([job])
    elif job not in graph.foreign:
        hint = suggest(job, graph.foreign, otherwise="use the graph of that namespace (--graph)")
        raise ConfigurationError(
            f"{job!r} is not a job of another namespace that this graph needs; {hint}"
        )
    outputs = graph.find_outputs(job)
    if output in outputs:
        return reference
    known = ", ".join(f"{job}.{name}" if name else job for name in outputs)
    what = "has no output of that name" if output else "has several outputs"
    raise ConfigurationError(f"{reference!r} {what}; write one of {known}")


def list_references(graph: Graph) -> list[str]:
    """Return the references to all results: jobs or, of those with several outputs, outputs."""
    return [
        f"{job.name}.{output}" if output else job.name
        for job in graph.jobs.values()
        for output in job.outputs
    ]


def find_results(
    ledger: Ledger,
    graph: Graph,
    references: Sequence[str],
    reader: ArtifactReader,
    prefix: str = "",
) -> Iterator[FileResults]:
    """Stream all files that exist, in the order of their URIs, with their current results.

    Results of other namespaces are those of the same version of the file that the graph is locked
    to. One call for each page and namespace reads the files' records there.
    """
    with ExitStack() as opened:
        finder = ResultFinder(graph, references, reader, opened)
        for page in find_pages(ledger, Query(prefix=prefix, deleted=False)):
            yield from finder.find(page)


def select_results(
    graph: Graph, record: Record, references: Sequence[str], reader: ArtifactReader
) -> FileResults:
    """Return the current results of a file, of those jobs and outputs that have one."""
    with ExitStack() as opened:
        (found,) = ResultFinder(graph, references, reader, opened).find([record])
        return found


class ResultFinder:
    """Finds the current results of some jobs in records.

    It opens the ledgers of other namespaces if it needs them, and closes them with ``opened``.
    """

    def __init__(
        self, graph: Graph, references: Sequence[str], reader: ArtifactReader, opened: ExitStack
    ) -> None:
        self._graph, self._references, self._reader = graph, references, reader
        self._foreign: ForeignLedgers | None = None
        self._readers: dict[str, ArtifactReader] = {}  # by namespace
        others = {split_reference(r)[0] for r in references if "/" in r}
        if others:
            self._foreign = open_foreign_ledgers(graph, opened)
            self._readers = {
                name: ArtifactReader(graph.imports[name].artifacts) for name in sorted(others)
            }

    def find(self, records: Sequence[Record]) -> Iterator[FileResults]:
        """Yield the results of each file, in the order of the records."""
        foreign: dict[str, list[Record | None]] = {}
        if self._foreign is not None:
            files = [record.media for record in records]
            foreign = {name: self._foreign.read_records(name, files) for name in self._readers}
        for number, record in enumerate(records):
            theirs = {name: found[number] for name, found in foreign.items()}
            found = {name: self._find(record, theirs, name) for name in self._references}
            yield FileResults(
                uri=record.uri,
                version=record.version,
                results={name: result for name, result in found.items() if result is not None},
            )

    def _find(
        self, record: Record, theirs: Mapping[str, Record | None], reference: str
    ) -> FileResult | None:
        job, output = split_output(reference)
        if job in self._graph.jobs:
            fingerprint = find_current(self._graph, record, job)
            if fingerprint is None:
                return None
            entry = record.results[fingerprint]
            return _build_result(record, job, output, fingerprint, entry, self._reader)
        namespace = split_reference(job)[0]
        found = find_foreign_entry(self._graph.foreign[job], theirs[namespace], record.media)
        if found is None:
            return None
        return _build_result(record, job, output, *found, self._readers[namespace])


def _build_result(
    record: Record, job: str, output: str, fingerprint: str, entry: Entry, reader: ArtifactReader
) -> FileResult | None:
    for suffix, checksum in entry.checksums.items():
        name, _, extension = suffix.rpartition(".")
        if name == output:
            return FileResult(
                uri=record.uri,
                version=record.version,
                job=job,
                output=output,
                fingerprint=fingerprint,
                finished_at=entry.finished_at,
                content_type=CONTENT_TYPES.get(extension, BYTES),
                checksum=checksum,
                name=build_artifact_name(
                    entry.job, fingerprint, split_uri(record.uri)[1], record.version, suffix
                ),
                reader=reader,
            )
    return None  # an accepted earlier version of the job had other outputs
