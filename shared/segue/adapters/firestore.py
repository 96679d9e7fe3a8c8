"""The ledger in Firestore: one document per file, changed optimistically and in batches.

A document has the fields of a record by their names: jobs a map, times native timestamps. Each is
written on the condition that nobody else wrote first: the time at which it was last updated, which
is a snapshot's revision, is still the same. The server reports for each document whether that held.
Its times have microseconds, and it rejects a condition with more, so a ``datetime`` is exact.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from segue.adapters import firestore_queries as queries
from segue.adapters.firestore_connection import REMEDIES, FirestoreConnection, call_once
from segue.adapters.firestore_indexes import COLLECTION, DELETED, EXPIRES_AT, PENDING
from segue.backoff import Backoff, retry
from segue.errors import ConfigurationError, Contended, DamagedRecord, Unavailable
from segue.model.ledger import Change, Changed, DamageReport, LedgerCounts, Query, Snapshot
from segue.model.media_file import uri_to_file_id
from segue.model.record import Record, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from google.cloud.firestore import DocumentSnapshot
    from google.cloud.firestore import Query as FirestoreQuery

T = TypeVar("T")
Found = TypeVar("Found")

URL = re.compile(r"firestore://([^/]+)(?:/([^/]+))?/?")
READ_BATCH, WRITE_BATCH = 300, 500  # documents per call
CALL_BYTES = 3 << 20  # of the 10 MiB that a call may have; the emulator accepts 4
DOCUMENT_BYTES = 1_000_000  # of the 1 MiB that a document may have, measured slightly differently
COUNTS_AT_ONCE = 8
BACKOFF = Backoff(0.02, 5.0, jitter=1.0)
# The statuses of a document that others wrote first, or that the server did not try to write.
NOT_WRITTEN = {
    *("ALREADY_EXISTS", "FAILED_PRECONDITION", "NOT_FOUND"),
    *("ABORTED", "RESOURCE_EXHAUSTED"),
}
# The arrival event of a deleted file can be late: it is redelivered for hours, and kept for a week.
TOMBSTONE_TTL = timedelta(days=90)


class FirestoreLedger:
    """The ledger in the cloud.

    Parameters
    ----------
    url : str
        ``firestore://project`` or ``firestore://project/database``.
    deadline_s : float
        How long a call is retried before it raises ``Unavailable`` or ``Contended``.
    """

    def __init__(self, url: str, *, deadline_s: float = 60.0) -> None:
        match = URL.fullmatch(url)
        if match is None:
            raise ConfigurationError(
                f"{url!r} is not a Firestore ledger; write firestore://project or "
                "firestore://project/database"
            )
        self._project, self._database = match[1], match[2] or "(default)"
        self._deadline_s = deadline_s
        self.damage = DamageReport()
        self._lock = threading.Lock()
        self._opened: FirestoreConnection | None = None

    @property
    def _connection(self) -> FirestoreConnection:
        """The connection, opened at the first use."""
        with self._lock:
            if self._opened is None:
                self._opened = FirestoreConnection(self._project, self._database)
            return self._opened

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
            self._opened = None

    def sync(self) -> None:
        """Do nothing: the server has stored what it has confirmed."""

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Read many records, 300 per call."""
        by_id = {uri_to_file_id(uri): uri for uri in uris}
        found: dict[str, Snapshot] = {}
        for batch_ids in _split(list(by_id), READ_BATCH):
            batch = {i: by_id[i] for i in batch_ids}
            found |= self._retry_until_deadline(partial(self._read, batch))
        return [found[uri_to_file_id(uri)] for uri in uris]

    def _read(self, uris: Mapping[str, str], timeout_s: float) -> dict[str, Snapshot]:
        """Read the records of some URIs, which are given by id."""
        client = self._connection.client
        found = dict.fromkeys(uris, Snapshot(record=None))
        wanted = [client.document(COLLECTION, i) for i in uris]
        for d in client.get_all(wanted, **call_once(timeout_s)) if wanted else ():
            if d.exists:
                found[d.id] = self._to_snapshot(uris[d.id], d)
        return found

    def change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        """Apply each transition; without contention, a known record costs one write or one read."""
        by_id = {uri_to_file_id(c.uri): c for c in changes}
        if len(by_id) < len(changes):
            raise ConfigurationError("one call changes a file twice; make two calls")
        done: dict[str, Changed[T]] = {}
        damaged: dict[str, str] = {}
        for batch_ids in _split(list(by_id), WRITE_BATCH):
            unfinished = {i: _OpenChange(i, by_id[i], by_id[i].known) for i in batch_ids}
            self._retry_until_deadline(partial(self._run_round, unfinished, done, damaged))
        if damaged:
            raise DamagedRecord(next(iter(damaged.values())), damaged)
        return [done[i] for i in by_id]

    def _run_round(
        self,
        unfinished: dict[str, _OpenChange[T]],
        done: dict[str, Changed[T]],
        damaged: dict[str, str],
        timeout_s: float,
    ) -> None:
        """Apply the transitions to known or newly read records, and write those that changed."""
        # If a known record needs no write, only a read shows whether it is still the newest.
        unread = [i for i, c in unfinished.items() if c.snapshot is None or not c.apply(c.snapshot)]
        uris = {i: unfinished[i].change.uri for i in unread}
        for key, snapshot in self._read(uris, timeout_s).items():
            if snapshot.damage is not None:
                damaged[unfinished.pop(key).change.uri] = snapshot.damage
            elif not unfinished[key].apply(snapshot):
                done[key] = Changed(snapshot=snapshot, answer=unfinished.pop(key).answer)
        for group in list(_group_by_size(unfinished.values())):
            for change, snapshot in self._write(group, timeout_s):
                done[change.id] = Changed(snapshot=snapshot, answer=change.answer)
                del unfinished[change.id]
        if unfinished:
            uri = next(iter(unfinished.values())).change.uri
            raise Contended(
                f"the record of {uri} and {len(unfinished) - 1} more were changed by others for "
                f"{self._deadline_s:g} s; try again later"
            )

    def _write(
        self, group: Sequence[_OpenChange[T]], timeout_s: float
    ) -> Iterator[tuple[_OpenChange[T], Snapshot]]:
        """Write the records of a group in one call, and yield those that were written.

        The others are read again before the next attempt.
        """
        from google.api_core.exceptions import from_grpc_status
        from google.cloud.firestore_v1.bulk_batch import BulkWriteBatch
        from google.rpc.code_pb2 import Code

        client = self._connection.client
        batch = BulkWriteBatch(client)
        for change in group:
            batch.set(client.document(COLLECTION, change.id), encode(change.record))
            revision = None if change.snapshot is None else change.snapshot.revision
            if revision is None:  # the file is unknown, or the record is not from this ledger
                condition = client.write_option(exists=False)
            else:
                condition = client.write_option(last_update_time=revision)
            condition.modify_write(batch._write_pbs[-1])  # noqa: SLF001 - ``set`` takes none
            change.snapshot = None
            change.uncertain.append((change.record, change.answer))
        response = batch.commit(**call_once(timeout_s))
        for change, status, result in zip(
            group, response.status, response.write_results, strict=True
        ):
            match Code.Name(status.code):
                case "OK":
                    yield change, Snapshot(record=change.record, revision=result.update_time)
                case code if code in NOT_WRITTEN:
                    change.uncertain.pop()
                case code if code in REMEDIES:
                    raise from_grpc_status(status.code, status.message)  # type: ignore[no-untyped-call]

    def count(self, accepted: Mapping[str, Iterable[str]]) -> LedgerCounts:
        """Count files and entries on the server.

        It makes five queries per job and one for each thirty accepted fingerprints, eight at once.
        Counting a thousand entries costs one read; the server gives up on a query after 60 s.
        """
        client = self._connection.client
        wanted = {("", "files"): Query(deleted=False), ("", "deleted"): Query(deleted=True)}
        for job in accepted:
            wanted |= {(job, s): Query(job=job, state=s, deleted=False) for s in State}
        selected = [(key, queries.select_matching(client, q)) for key, q in wanted.items()]
        selected += [
            ((job, "current"), queries.select_done_by(client, job, some))
            for job, fingerprints in accepted.items()
            for some in _split(sorted(set(fingerprints)), queries.IN_VALUES)
        ]
        counts: Counter[tuple[str, str]] = Counter()
        with ThreadPoolExecutor(COUNTS_AT_ONCE) as pool:  # if one fails, the rest is cancelled
            counted = pool.map(self._count, [query for _, query in selected])
            for (key, _), number in zip(selected, counted, strict=True):
                counts[key] += number
        jobs: dict[str, dict[str, int]] = {}
        for job in accepted:
            jobs[job] = {str(state): counts[job, state] for state in State}
            current = counts[job, "current"]
            # They are of different moments: what was done meanwhile must not make one negative.
            jobs[job] |= {"stale": max(0, jobs[job]["done"] - current), "done": current}
        return LedgerCounts(files=counts["", "files"], deleted=counts["", "deleted"], jobs=jobs)

    def _count(self, selected: FirestoreQuery) -> int:
        query: Any = selected.count()
        return self._retry_until_deadline(
            lambda left_s: int(query.get(**call_once(left_s))[0][0].value)
        )

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        """List records by URI.

        It needs the composite indexes of ``firestore_indexes.build_indexes``: (deleted, uri); for
        pending targets (deleted, pending, uri); for a job (deleted, jobs.<job>.state, uri). A query
        for files and tombstones alike, or for a job in any state, lists all values, and needs no
        other index.
        """
        found: list[Record] = []
        left = limit
        while left:  # more than once only if some records are damaged
            selected = queries.select_matching(
                self._connection.client, query, after=after, limit=left
            )
            documents = self._retry_until_deadline(
                lambda left_s, selected=selected: list(selected.stream(**call_once(left_s)))  # type: ignore[misc]
            )
            for document in documents:
                after = str(document.get("uri"))
                record = self._to_snapshot(after, document).record
                found += [] if record is None else [record]
            left = limit - len(found) if len(documents) == left else 0
        return found

    def _to_snapshot(self, uri: str, document: DocumentSnapshot[Any]) -> Snapshot:
        try:
            record = msgspec.convert(
                msgspec.to_builtins(document.to_dict(), enc_hook=_to_builtin), Record
            )
        except (msgspec.ValidationError, TypeError) as error:
            reason = str(error)
        else:
            if record.uri == uri:
                return Snapshot(record=record, revision=document.update_time)
            reason = "it is of another file"
        where = f"the document {self._connection.name}/documents/{document.reference.path}"
        damage = self.damage.add(uri, where, reason)
        return Snapshot(record=None, revision=document.update_time, damage=damage)

    def _retry_until_deadline(self, call: Callable[[float], Found]) -> Found:
        """Call with the time that is left; retry while the server is away or others write first."""
        end_s = time.monotonic() + self._deadline_s

        def attempt() -> Found:
            with self._connection.translate_errors():
                return call(end_s - time.monotonic())

        return retry(
            attempt,
            backoff=BACKOFF,
            should_retry=lambda error: isinstance(error, Unavailable | Contended),
            end_s=end_s,
        )


@dataclass(slots=True)
class _OpenChange(Generic[T]):
    """A change that has not been made yet, and the write that would make it."""

    id: str
    change: Change[T]
    snapshot: Snapshot | None  # perhaps stale; None: it must be read
    record: Record = field(init=False)  # to be written
    answer: T = field(init=False)
    # Writes that the server may have applied although it did not confirm them.
    uncertain: list[tuple[Record, T]] = field(default_factory=list)

    def apply(self, snapshot: Snapshot) -> bool:
        """Apply the transition to a snapshot; return whether there is something to write."""
        for record, answer in self.uncertain:
            if record == snapshot.record:  # the server applied that write after all
                self.answer = answer
                return False
        new, self.answer = self.change.transition(snapshot.record)
        if new is None or new is snapshot.record:
            return False
        self.snapshot, self.record = snapshot, new
        return True


def encode(record: Record) -> dict[str, Any]:
    """Return a record as the fields of a document."""
    fields: dict[str, Any] = msgspec.to_builtins(record, builtin_types=(datetime,))
    fields |= {DELETED: record.deleted_at is not None, PENDING: record.has_pending_targets}
    if record.deleted_at is not None:
        fields[EXPIRES_AT] = record.deleted_at + TOMBSTONE_TTL
    return fields


def _to_builtin(value: object) -> str | None:
    """Format a time of the client's own class; no other value of a record is new to msgspec."""
    return value.isoformat() if isinstance(value, datetime) else None


def _group_by_size(changes: Iterable[_OpenChange[T]]) -> Iterator[list[_OpenChange[T]]]:
    """Group writes so that each group fits into one call; check that each fits a document."""
    group: list[_OpenChange[T]] = []
    group_bytes = 0
    for change in changes:
        size = len(msgspec.json.encode(change.record))  # at least about its size as a document
        if size > DOCUMENT_BYTES:
            raise ConfigurationError(
                f"the record of {change.record.uri} is {size} bytes, and a Firestore document "
                "holds 1 MiB; shorten what is stored with each job, or split the graph"
            )
        if group and group_bytes + size > CALL_BYTES:
            yield group
            group, group_bytes = [], 0
        group.append(change)
        group_bytes += size
    if group:
        yield group


def _split(values: Sequence[Found], size: int) -> Iterator[Sequence[Found]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
