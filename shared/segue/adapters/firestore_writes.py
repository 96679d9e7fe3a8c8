"""Batches of changes to Firestore, each written on the condition that nobody else wrote first.

The condition is the time at which the document was last updated, which is a snapshot's revision.
BatchWrite reports for each document whether the condition held.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from segue.adapters.firestore_rpc import FirestoreRpc, RawMessage, StatusCode
from segue.adapters.firestore_values import decode, encode
from segue.errors import ConfigurationError, Unavailable
from segue.model.ledger import Change, Changed, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from segue.model.record import Record

T = TypeVar("T")

CALL_BYTES = 3 << 20  # of the 10 MiB that a call may have; the emulator accepts 4
DOCUMENT_BYTES = 1_000_000  # of the 1 MiB that a document may have, measured slightly differently

NOT_APPLIED = {StatusCode.RESOURCE_EXHAUSTED, StatusCode.ABORTED}
CONFLICTS = {StatusCode.ALREADY_EXISTS, StatusCode.FAILED_PRECONDITION, StatusCode.NOT_FOUND}
UNKNOWN_OUTCOME = {
    StatusCode.CANCELLED,
    StatusCode.UNKNOWN,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.INTERNAL,
    StatusCode.UNAVAILABLE,
}


def read_snapshots(rpc: FirestoreRpc, ids: Sequence[str], timeout_s: float) -> dict[str, Snapshot]:
    """Read documents in one call."""
    found = dict.fromkeys(ids, Snapshot(record=None))
    for document in rpc.get(ids, timeout_s) if ids else ():
        name = document.name
        found[name.rpartition("/")[2]] = Snapshot(
            record=decode(name, document.fields), revision=_to_nanoseconds(document.update_time)
        )
    return found


@dataclass(slots=True)
class _OpenChange(Generic[T]):
    """A change that has not been made yet."""

    change: Change[T]
    snapshot: Snapshot | None  # the known snapshot, perhaps stale; None: it must be read
    # Writes that the server may have applied although it did not confirm them.
    uncertain: list[tuple[Record, T]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Write(Generic[T]):
    """A write that makes a change."""

    id: str
    known: Snapshot
    record: Record
    answer: T
    message: RawMessage
    size_bytes: int


class Batch(Generic[T]):
    """Changes by the ids of their documents; ``done`` holds those that have been made."""

    def __init__(self, changes: Mapping[str, Change[T]]) -> None:
        self._open = {i: _OpenChange(c, _use_if_current(c.known)) for i, c in changes.items()}
        self.done: dict[str, Changed[T]] = {}

    @property
    def open_uris(self) -> list[str]:
        """The URIs whose changes have not been made yet."""
        return [p.change.uri for p in self._open.values()]

    def run_round(self, rpc: FirestoreRpc, timeout_s: float) -> None:
        """Apply the transitions to known or newly read records, and write those that changed."""
        writes: list[_Write[T]] = []
        unread: list[str] = []
        for key, item in self._open.items():
            write = self._apply(rpc, key, item.snapshot)[0] if item.snapshot else None
            if write is not None:
                writes.append(write)
            else:  # if there is nothing to write, only a read shows whether that is still true
                unread.append(key)
        for key, snapshot in read_snapshots(rpc, unread, timeout_s).items():
            write, answer = self._apply(rpc, key, snapshot)
            if write is not None:
                writes.append(write)
            else:
                self._finish(key, snapshot, answer)
        for some in _group_by_size(writes):
            self._send(rpc, some, timeout_s)

    def _apply(self, rpc: FirestoreRpc, key: str, snapshot: Snapshot) -> tuple[_Write[T] | None, T]:
        """Return the write that is needed, if any, and the transition's answer."""
        item = self._open[key]
        for record, answer in item.uncertain:
            if record == snapshot.record:  # the server applied that write after all
                return None, answer
        new, answer = item.change.transition(snapshot.record)
        if new is None or new is snapshot.record:
            return None, answer
        message = _build_write(rpc, key, new, snapshot)
        return _Write(key, snapshot, new, answer, message, _check_size(new, message)), answer

    def _send(self, rpc: FirestoreRpc, writes: Sequence[_Write[T]], timeout_s: float) -> None:
        for write in writes:
            self._open[write.id].snapshot = None
        try:
            results = rpc.write([w.message for w in writes], timeout_s)
        except Unavailable:
            for write in writes:
                self._open[write.id].uncertain.append((write.record, write.answer))
            raise
        for write, (status, updated) in zip(writes, results, strict=True):
            if status.code == StatusCode.OK:
                snapshot = Snapshot(record=write.record, revision=_to_nanoseconds(updated))
                self._finish(write.id, snapshot, write.answer)
            elif status.code in NOT_APPLIED:
                self._open[write.id].snapshot = write.known
            elif status.code in UNKNOWN_OUTCOME:
                self._open[write.id].uncertain.append((write.record, write.answer))
            elif status.code not in CONFLICTS:
                raise rpc.error(status.code, status.message)

    def _finish(self, key: str, snapshot: Snapshot, answer: T) -> None:
        self.done[key] = Changed(snapshot=snapshot, answer=answer)
        del self._open[key]


def _use_if_current(known: Snapshot | None) -> Snapshot | None:
    """Return a known snapshot, unless it is from another ledger and has no revision to compare."""
    if known is not None and (known.record is None or known.revision is not None):
        return known
    return None


def _build_write(rpc: FirestoreRpc, key: str, record: Record, snapshot: Snapshot) -> RawMessage:
    """Build the write of one document, with its condition."""
    write = rpc.new_write()
    write.update.name = rpc.name(key)
    encode(record, write.update.fields)
    if snapshot.record is None:
        write.current_document.exists = False
    else:
        seconds, nanos = divmod(snapshot.revision, 10**9)
        write.current_document.update_time.seconds = seconds
        write.current_document.update_time.nanos = nanos
    return write


def _check_size(record: Record, message: RawMessage) -> int:
    if (size := int(message.ByteSize())) > DOCUMENT_BYTES:
        raise ConfigurationError(
            f"the record of {record.uri} is {size} bytes, and a Firestore document holds 1 MiB; "
            "shorten what is stored with each job, or split the graph"
        )
    return size


def _to_nanoseconds(stamp: RawMessage) -> int:
    return int(stamp.seconds * 10**9 + stamp.nanos)


def _group_by_size(writes: Sequence[_Write[T]]) -> Iterator[list[_Write[T]]]:
    """Group writes so that each group fits into one call."""
    some: list[_Write[T]] = []
    size = 0
    for write in writes:
        if some and size + write.size_bytes > CALL_BYTES:
            yield some
            some, size = [], 0
        some.append(write)
        size += write.size_bytes
    if some:
        yield some
