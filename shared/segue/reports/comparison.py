"""How a new version of a job differs from an old one, on a sample of the files that have results.

The new results are computed in real workers, from the files themselves and with all jobs above, and
are recorded nowhere: neither the ledger nor the artifacts change.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from segue.adapters.connect import connect_store
from segue.codec import decode
from segue.errors import ConfigurationError, MissingInput
from segue.execution.trial_run import run_files, subgraph_for
from segue.model.artifact import build_references, compute_checksum, split_output
from segue.model.graph import Graph
from segue.model.ledger import Ledger, Query, find_records
from segue.model.object_store import ObjectStore
from segue.model.record import Record, State
from segue.reports.results import BYTES, CONTENT_TYPES
from segue.reports.value_differences import (
    Difference,
    FieldDifferences,
    compare_values,
    sum_fields,
)

MAX_SCANNED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDifference:
    """What differs for one file."""

    uri: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a job's results differ between two of its versions."""

    job: str
    old: str  # fingerprint
    new: str
    scanned: int  # records that were looked at
    available: int  # of these, files with a result of the old version
    files: tuple[FileDifference, ...]  # that were compared
    failed: dict[str, str]  # by URI, why the new version has no result
    unreadable: dict[str, str]  # by URI, why the old result cannot be read
    left_out: dict[str, str]  # by URI, what of other namespaces the new version lacks
    fields: tuple[FieldDifferences, ...]
    old_cpu_s: float | None  # per file: the mean of the files that were compared
    new_cpu_s: float | None

    @property
    def changed(self) -> int:
        """How many files have any difference."""
        return sum(any(d.is_changed for d in file.differences) for file in self.files)


def list_fingerprints(graph: Graph, job: str, version: str) -> list[str]:
    """Return what a version may mean: fingerprints, or beginnings of some, the likeliest first.

    A whole number is the ``version`` of the job in ``jobs.yaml``, with everything else as it is
    now, or else the beginning of a fingerprint, as anything else is.
    """
    if not version.isdecimal():
        return [version]
    jobs = {**graph.jobs, job: replace(graph.jobs[job], version=int(version))}
    return [replace(graph, jobs=jobs).fingerprints[job], version]


def compare_versions(
    graph: Graph,
    ledger: Ledger,
    job: str,
    *,
    version: str | None,
    sample: int,
    prefix: str = "",
    processes: int | None = None,
    note: Callable[[int, int], None] = lambda _done, _total: None,
) -> Comparison:
    """Compute a job anew for a sample of files, and compare it with results of an old version.

    Parameters
    ----------
    version : str, optional
        The old one: a fingerprint, its beginning, or the number of a version. By default the one
        that most of the files have whose results are not of the present version.
    sample : int > 0
        How many files to compare at most: the same ones each time, as the hash of their URIs
        chooses them.
    note : callable, optional
        Told how many files are done, of how many.

    Raises
    ------
    ConfigurationError
        If no file has a result of that version, or it is the present one, or all files lack a
        result of another namespace.
    """
    new = graph.fingerprints[job]
    wanted = list_fingerprints(graph, job, version) if version is not None else [""]
    if wanted[0] == new:
        raise ConfigurationError(
            f"{version} is the present version of {job!r}; change the job, or name an older one"
        )
    found = _find_sample(ledger, job, wanted, new, sample, prefix)
    if not found.records:
        raise ConfigurationError(_explain_none(job, version, found))
    return _compare(graph, job, found, processes, note)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    fingerprint: str
    records: list[Record]
    scanned: int
    available: int
    others: Counter[str]  # files, by the fingerprints that they have results of


def _find_sample(
    ledger: Ledger, job: str, wanted: Sequence[str], new: str, sample: int, prefix: str
) -> _Sample:
    """Choose files by the hash of their URIs, for each old fingerprint that is met."""
    chosen: dict[str, list[tuple[int, str, Record]]] = {}
    counts: Counter[str] = Counter()
    scanned = 0
    for record in find_records(ledger, Query(prefix=prefix, deleted=False)):
        scanned += 1
        key = -int.from_bytes(hashlib.blake2b(record.uri.encode(), digest_size=8).digest())
        for fingerprint in _list_old(record, job, new):
            counts[fingerprint] += 1
            heap = chosen.setdefault(fingerprint, [])
            heapq.heappush(heap, (key, record.uri, record))
            if len(heap) > sample:
                heapq.heappop(heap)
        if scanned == MAX_SCANNED:
            break
    fitting: list[str] = []
    for start in wanted:
        fitting = fitting or [f for f, _ in counts.most_common() if f.startswith(start)]
    if wanted != [""] and len(fitting) > 1:
        raise ConfigurationError(
            f"{wanted[-1]!r} is the beginning of several fingerprints: {', '.join(fitting)}; "
            "write more of it"
        )
    fingerprint = fitting[0] if fitting else ""
    return _Sample(
        fingerprint=fingerprint,
        records=[record for *_, record in sorted(chosen.get(fingerprint, ()), key=_order)],
        scanned=scanned,
        available=counts[fingerprint],
        others=counts,
    )


def _order(item: tuple[int, str, Record]) -> str:
    return item[1]


def _list_old(record: Record, job: str, new: str) -> Iterator[str]:
    for fingerprint, entry in record.results.items():
        is_done = entry.state is State.DONE and entry.order == record.order
        if entry.job == job and fingerprint != new and is_done:
            yield fingerprint


def _explain_none(job: str, version: str | None, found: _Sample) -> str:
    what = f"of version {version}" if version is not None else "of an older version"
    known = ", ".join(f"{name} ({count} files)" for name, count in found.others.most_common(5))
    hint = f"name one of {known}" if known else "there is nothing to compare with"
    return f"no file has a result of {job!r} {what}; {hint}"


def _compare(
    graph: Graph,
    job: str,
    sample: _Sample,
    processes: int | None,
    note: Callable[[int, int], None],
) -> Comparison:
    records = {record.uri: record for record in sample.records}
    files: list[FileDifference] = []
    failed: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    left_out: dict[str, str] = {}
    old_cpu: list[float | None] = []
    new_cpu: list[float | None] = []
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="segue-compare-"))
        location = os.path.join(folder, "artifacts")
        stores = [
            opened.enter_context(contextlib.closing(connect_store(at)))
            for at in (graph.artifacts, location)
        ]
        part = subgraph_for(graph, job, {})
        media = [record.media for record in sample.records]
        done = run_files(
            part,
            location,
            media,
            processes,
            leave_out=lambda one, reason: left_out.update({one.uri: reason}),
        )
        for number, (one, results) in enumerate(done, 1):
            note(number, len(media) - len(left_out))
            unfinished = next((r for r in results.values() if r.state is not State.DONE), None)
            if unfinished is not None:
                error = unfinished.error
                failed[one.uri] = f"{unfinished.job}: {error.message if error else 'not computed'}"
                continue
            record, entry = records[one.uri], records[one.uri].results[sample.fingerprint]
            names = {
                record.name_artifact(sample.fingerprint, s): c for s, c in entry.checksums.items()
            }
            try:
                old = _read(stores[0], job, names)
            except MissingInput as error:
                unreadable[one.uri] = str(error)
                continue
            new = _read(stores[1], job, results[job].artifacts)
            files.append(FileDifference(uri=one.uri, differences=tuple(_differ(old, new))))
            old_cpu.append(entry.cpu_seconds)
            new_cpu.append(results[job].cpu_seconds)
    if len(left_out) == len(records):
        raise ConfigurationError(
            f"no file can be compared: {next(iter(left_out.values()))}; it has to be computed in "
            "its own namespace first"
        )
    files.sort(key=lambda file: file.uri)
    return Comparison(
        job=job,
        old=sample.fingerprint,
        new=graph.fingerprints[job],
        scanned=sample.scanned,
        available=sample.available,
        files=tuple(files),
        failed=failed,
        unreadable=unreadable,
        left_out=left_out,
        fields=tuple(sum_fields([d for file in files for d in file.differences])),
        old_cpu_s=_find_mean(old_cpu),
        new_cpu_s=_find_mean(new_cpu),
    )


def _read(store: ObjectStore, job: str, artifacts: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    """Return the content type and the value of each output of a job."""
    values = {}
    for reference, name, checksum in build_references(job, artifacts):
        data = store.read(name)
        if compute_checksum(data) != checksum:
            raise MissingInput(f"{store.uri(name)} is not what {job!r} wrote")
        content_type = CONTENT_TYPES.get(name.rpartition(".")[2], BYTES)
        values[split_output(reference)[1]] = content_type, decode(content_type, data)
    return values


def _differ(
    old: Mapping[str, tuple[str, Any]], new: Mapping[str, tuple[str, Any]]
) -> Iterator[Difference]:
    for output in {**new, **old}:
        (old_type, before), (new_type, after) = (v.get(output, ("", None)) for v in (old, new))
        if old_type != new_type:
            found: Iterable[Difference] = (
                Difference(
                    field="(type)", old=old_type or "none", new=new_type or "none",
                    amount=None, is_changed=True,
                ),
            )  # fmt: skip
        else:
            found = compare_values(new_type, before, after)
        for difference in found:
            field = f"{output}.{difference.field}" if output else difference.field
            yield replace(difference, field=field)


def _find_mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
