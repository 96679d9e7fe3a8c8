"""The ledger in Firestore: one document per file, changed optimistically and in batches.

A document has the record as JSON, and the fields by which queries find it. Each is written on the
condition that nobody else wrote first: the time at which it was last updated, which is a snapshot's
revision, is still the same. The server reports for each document whether that held.

One more document says which format and namespace the ledger has. It is read when a connection is
first used, and created then in an empty ledger. Another one says what is paused and cancelled.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from segue.adapters import firestore_queries as queries
from segue.adapters.firestore_connection import REMEDIES, FirestoreConnection, call_once
from segue.adapters.firestore_document import (
    document_to_snapshot,
    fit_record,
    format_revision,
    measure,
    parse_revision,
)
from segue.adapters.firestore_indexes import COLLECTION, URI
from segue.adapters.ledger_format import check_namespace
from segue.backoff import Backoff, retry
from segue.errors import ConfigurationError, Contended, DamagedRecord, Unavailable
from segue.model.controls import (
    NO_CONTROLS,
    ControlChange,
    Controls,
    decode_controls,
    encode_controls,
)
from segue.model.graph import DEFAULT_NAMESPACE
from segue.model.ledger import Change, Changed, DamageReport, LedgerCounts, Query, Snapshot
from segue.model.media_file import uri_to_file_id
from segue.model.record import FORMAT, Record, State, format_done_term, format_term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from google.cloud.firestore import Client, DocumentSnapshot
    from google.cloud.firestore import Query as FirestoreQuery

T = TypeVar("T")
Found = TypeVar("Found")

ABOUT = ("segue", "ledger")  # the document with the ledger's format and namespace
CONTROLS = ("segue", "controls")  # the one with what is paused and cancelled
URL = re.compile(r"firestore://([^/]+)(?:/([^/]+))?/?")
READ_BATCH, WRITE_BATCH = 300, 500  # documents per call
CALL_BYTES = 3 << 20  # of the 10 MiB that a call may have; the emulator accepts 4
COUNTS_AT_ONCE = 8
COUNTED_PER_READ = 1000  # index entries, as Firestore bills them
BACKOFF = Backoff(0.02, 5.0, jitter=1.0)
CURRENT = "current"  # done under an accepted fingerprint
OTHER_STATES = tuple(state for state in State if state is not State.DONE)
# The statuses of a document that others wrote first, or that the server did not try to write.
NOT_WRITTEN = {
    *("ALREADY_EXISTS", "FAILED_PRECONDITION", "NOT_FOUND"),
    *("ABORTED", "RESOURCE_EXHAUSTED"),
}


class FirestoreLedger:
    """The ledger in the cloud.

    Parameters
    ----------
    url : str
        ``firestore://project`` or ``firestore://project/database``.
    namespace : str
        The namespace of the graph; the ledger of another one is refused.
    create : bool
        Whether an empty ledger gets its document about format and namespace; else it stays empty
        until somebody else writes to it.
    deadline_s : float
        How long a call is retried before it raises ``Unavailable`` or ``Contended``.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        create: bool = True,
        deadline_s: float = 60.0,
    ) -> None:
        match = URL.fullmatch(url)
        if match is None:
            raise ConfigurationError(
                f"{url!r} is not a Firestore ledger; write firestore://project or "
                "firestore://project/database"
            )
        self._url, self._project, self._database = url, match[1], match[2] or "(default)"
        self._namespace = namespace
        self._create = create
        self._deadline_s = deadline_s
        self.damage = DamageReport()
        self._lock = threading.Lock()
        self._opened: FirestoreConnection | None = None
        self._closing = threading.Event()  # replaced when it is set
        self._about_lock = threading.Lock()
        self._is_known = False  # that its format and namespace are ours

    @property
    def _connection(self) -> FirestoreConnection:
        """The connection, opened at the first use."""
        with self._lock:
            if self._opened is None:
                self._opened = FirestoreConnection(self._project, self._database)
            return self._opened

    def _check_about(self, timeout_s: float) -> None:
        """Raise an error, at the first use, if the ledger has another format or namespace."""
        with self._about_lock:
            if not self._is_known:
                self._is_known = self._read_about(self._connection.client, timeout_s)

    def _read_about(self, client: Client, timeout_s: float) -> bool:
        """Check the document about the ledger; return whether there is one."""
        from google.api_core.exceptions import AlreadyExists

        options = call_once(timeout_s)
        document = client.document(*ABOUT)
        found = document.get(**options)
        if not found.exists:
            if client.collection(COLLECTION).limit(1).get(**options):
                raise ConfigurationError(self._describe_other_format("an earlier format"))
            if not self._create:
                return False
            try:
                document.create({"format": FORMAT, "namespace": self._namespace}, **options)
            except AlreadyExists:  # another process was faster
                found = document.get(**options)
            else:
                return True
        about = found.to_dict() or {}
        if about.get("format") != FORMAT:
            raise ConfigurationError(self._describe_other_format(f"format {about.get('format')}"))
        check_namespace(self._url, str(about.get("namespace")), self._namespace)
        return True

    def _describe_other_format(self, found: str) -> str:
        name = "segue" if self._database == "(default)" else self._database
        another = f"{name}-{FORMAT}"
        return (
            f"the ledger {self._url} has {found}, this version of Segue reads format {FORMAT}; use "
            "the Segue that wrote it, or start a new one: create the database with "
            f"'ledger = {{ database = \"{another}\" }}' in the variables of Terraform, set "
            f"SEGUE_LEDGER=firestore://{self._project}/{another}, then run 'segue backfill'"
        )

    def close(self) -> None:
        """Close the connection, and give up calls under way; a later call opens a new one."""
        with self._lock:
            self._closing.set()
            self._closing = threading.Event()
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
            unfinished = {i: _OpenChange(i, by_id[i]) for i in batch_ids}
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
            batch.set(client.document(COLLECTION, change.id), change.fields)
            revision = None if change.snapshot is None else change.snapshot.revision
            if revision is None:  # the file is unknown, or the record is not from this ledger
                condition = client.write_option(exists=False)
            else:
                condition = client.write_option(last_update_time=parse_revision(revision))
            condition.modify_write(batch._write_pbs[-1])  # noqa: SLF001 - ``set`` takes none
            change.snapshot = None
            change.uncertain.append((change.record, change.answer))
        response = batch.commit(**call_once(timeout_s))
        for change, status, result in zip(
            group, response.status, response.write_results, strict=True
        ):
            match Code.Name(status.code):
                case "OK":
                    revision = format_revision(result.update_time)
                    yield change, Snapshot(record=change.record, revision=revision)
                case code if code in NOT_WRITTEN:
                    change.uncertain.pop()
                case code if code in REMEDIES:
                    raise from_grpc_status(status.code, status.message)  # type: ignore[no-untyped-call]

    def count(self, accepted: Mapping[str, Sequence[str]]) -> LedgerCounts:
        """Count files and results on the server.

        It makes six queries per job and one for each thirty accepted fingerprints, eight at once.
        Counting a thousand files costs one read; the server gives up on a query after 60 s. A file
        with results under several of more than thirty fingerprints may be counted for each, but
        never are more done than have any result of the job.
        """
        selected = list(_select_counts(self._connection.client, accepted))
        counts: Counter[tuple[str, str]] = Counter()
        reads = 0
        with ThreadPoolExecutor(COUNTS_AT_ONCE) as pool:  # if one fails, the rest is cancelled
            counted = pool.map(self._count, [query for _, query in selected])
            for (key, _), number in zip(selected, counted, strict=True):
                counts[key] += number
                reads += max(math.ceil(number / COUNTED_PER_READ), 1)
        jobs: dict[str, dict[str, int]] = {}
        for job in accepted:
            jobs[job] = {str(state): counts[job, state] for state in State}
            # They are of different moments: what was done meanwhile must not make one negative.
            done = min(counts[job, CURRENT], jobs[job]["done"])
            jobs[job] |= {"stale": jobs[job]["done"] - done, "done": done}
        return LedgerCounts(
            files=counts["", "files"], deleted=counts["", "deleted"], jobs=jobs, reads=reads
        )

    def _count(self, selected: FirestoreQuery) -> int:
        query: Any = selected.count()
        return self._retry_until_deadline(
            lambda left_s: int(query.get(**call_once(left_s))[0][0].value)
        )

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        """List records by URI, with one query."""
        if query.open is not None and query.deleted:  # tombstones have no terms
            return []
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
                after = str(document.get(URI))
                record = self._to_snapshot(after, document).record
                found += [] if record is None else [record]
            left = limit - len(found) if len(documents) == left else 0
        return found

    def read_controls(self) -> Controls:
        """Read the document about what is paused and cancelled: one read."""
        return self._retry_until_deadline(lambda left_s: self._read_controls(left_s)[0])

    def change_controls(self, change: ControlChange) -> Controls:
        """Change that document, on the condition that nobody else wrote first."""
        return self._retry_until_deadline(partial(self._change_controls, change))

    def _read_controls(self, timeout_s: float) -> tuple[Controls, Any]:
        """Return the controls, and when they were written; None: never."""
        document = self._connection.client.document(*CONTROLS)
        found = document.get(**call_once(timeout_s))
        if not found.exists:
            return NO_CONTROLS, None
        where = f"the ledger {self._url}"
        return decode_controls(str(found.get("value")), where), found.update_time

    def _change_controls(self, change: ControlChange, timeout_s: float) -> Controls:
        from google.api_core.exceptions import AlreadyExists, FailedPrecondition, NotFound

        client = self._connection.client
        found, written_at = self._read_controls(timeout_s)
        changed = change(found)
        if changed == found:
            return found
        document, value = client.document(*CONTROLS), {"value": encode_controls(changed).decode()}
        try:
            if written_at is None:
                document.create(value, **call_once(timeout_s))
            else:
                same = client.write_option(last_update_time=written_at)
                document.update(value, option=same, **call_once(timeout_s))
        except (AlreadyExists, FailedPrecondition, NotFound) as error:
            raise Contended(
                f"the controls of the ledger {self._url} were changed by others; try again"
            ) from error
        return changed

    def _to_snapshot(self, uri: str, document: DocumentSnapshot[Any]) -> Snapshot:
        database = self._connection.name
        return document_to_snapshot(uri, document, database=database, damage=self.damage)

    def _retry_until_deadline(self, call: Callable[[float], Found]) -> Found:
        """Call with the time that is left; retry while the server is away or others write first."""
        end_s = time.monotonic() + self._deadline_s
        closing = self._closing

        def attempt() -> Found:
            if closing.is_set():
                raise Unavailable(f"{self._url} was closed meanwhile; try again later")
            with self._connection.translate_errors():
                self._check_about(end_s - time.monotonic())
                return call(end_s - time.monotonic())

        return retry(
            attempt,
            backoff=BACKOFF,
            should_retry=lambda error: (
                isinstance(error, Unavailable | Contended) and not closing.is_set()
            ),
            end_s=end_s,
            pause=closing.wait,
        )


@dataclass(slots=True)
class _OpenChange(Generic[T]):
    """A change that has not been made yet, and the write that would make it."""

    id: str
    change: Change[T]
    snapshot: Snapshot | None = field(init=False)  # perhaps stale; None: it must be read
    record: Record = field(init=False)  # to be written
    fields: dict[str, Any] = field(init=False)  # of its document
    answer: T = field(init=False)
    # Writes that the server may have applied although it did not confirm them.
    uncertain: list[tuple[Record, T]] = field(default_factory=list)

    def __post_init__(self) -> None:
        known = self.change.known
        revision = known.revision if known is not None else None
        is_foreign = revision is not None and parse_revision(revision) is None
        self.snapshot = None if is_foreign else known

    def apply(self, snapshot: Snapshot) -> bool:
        """Apply the transition to a snapshot; return whether there is something to write."""
        for record, answer in self.uncertain:
            if record == snapshot.record:  # the server applied that write after all
                self.answer = answer
                return False
        new, self.answer = self.change.transition(snapshot.record)
        if new is None or new is snapshot.record:
            return False
        self.snapshot = snapshot
        self.record, self.fields = fit_record(new)
        return True


def _select_counts(
    client: Client, accepted: Mapping[str, Sequence[str]]
) -> Iterator[tuple[tuple[str, str], FirestoreQuery]]:
    """Yield what to count: job, and a state or ``CURRENT``; without a job, kinds of files."""
    yield ("", "files"), queries.select_matching(client, Query(deleted=False))
    yield ("", "deleted"), queries.select_matching(client, Query(deleted=True))
    for job, fingerprints in accepted.items():
        yield (job, State.DONE), queries.select_done(client, [format_done_term(job)])
        current = [format_done_term(job, each) for each in dict.fromkeys(fingerprints)]
        for some in _split(current, queries.ANY_VALUES):
            yield (job, CURRENT), queries.select_done(client, some)
        for state in OTHER_STATES:
            term = format_term(job, fingerprints[0], state)
            if state is State.NOT_APPLICABLE:
                yield (job, state), queries.select_done(client, [term])
            else:
                yield (job, state), queries.select_matching(client, Query(open=term))


def _group_by_size(changes: Iterable[_OpenChange[T]]) -> Iterator[list[_OpenChange[T]]]:
    """Group writes so that each group fits into one call."""
    group: list[_OpenChange[T]] = []
    group_bytes = 0
    for change in changes:
        size = measure(change.fields)
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
