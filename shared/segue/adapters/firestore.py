"""The ledger in Firestore: one document a file, changed optimistically and in batches."""

from __future__ import annotations

import random
import re
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from segue.adapters import firestore_queries as queries
from segue.adapters.firestore_rpc import FirestoreRpc
from segue.adapters.firestore_values import decode
from segue.adapters.firestore_writes import Batch, snapshots
from segue.errors import ConfigurationError, Contended, Unavailable
from segue.model.ledger import Change, Changed, Counts, Query, Snapshot
from segue.model.media_file import file_id
from segue.model.record import Record, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")
Found = TypeVar("Found")

URL = re.compile(r"firestore://([^/]+)(?:/([^/]+))?/?")
READ_BATCH, WRITE_BATCH = 300, 500  # documents a call
CALL_S = 60.0  # after which the server gives up, too
COUNTS_AT_ONCE = 8
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 5.0


class FirestoreLedger:
    """The ledger in the cloud.

    Parameters
    ----------
    url : str
        ``firestore://project`` or ``firestore://project/database``.
    deadline_s : float
        How long a call goes on trying before it raises ``Unavailable`` or ``Contended``.
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
        self._lock = threading.Lock()
        self._connection: FirestoreRpc | None = None

    @property
    def _rpc(self) -> FirestoreRpc:
        """The connection, made at the first use."""
        with self._lock:
            if self._connection is None:
                self._connection = FirestoreRpc(self._project, self._database)
            return self._connection

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Read many records; 300 a call."""
        ids = [file_id(uri) for uri in uris]
        found: dict[str, Snapshot] = {}
        for some in _batches(list(dict.fromkeys(ids)), READ_BATCH):
            found |= self._until_deadline(partial(snapshots, self._rpc, some))
        return [found[i] for i in ids]

    def change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        """Apply each transition; undisturbed, a known record costs a write or a read, not both."""
        by_id = {file_id(c.uri): c for c in changes}
        if len(by_id) < len(changes):
            raise ConfigurationError("a file is changed twice in one call; make two calls of it")
        done: dict[str, Changed[T]] = {}
        for some in _batches(list(by_id), WRITE_BATCH):
            batch = Batch({i: by_id[i] for i in some})
            self._make(batch)
            done |= batch.done
        return [done[i] for i in by_id]

    def _make(self, batch: Batch[T]) -> None:
        error: Unavailable | None = None
        for left_s in self._rounds():
            try:
                error = None
                batch.round(self._rpc, left_s)
            except Unavailable as raised:
                error = raised
            if not batch.left:
                return
        if error is not None:
            raise error
        raise Contended(
            f"the record of {batch.left[0]} and {len(batch.left) - 1} more were changed by others "
            f"for {self._deadline_s:g} s; try again later"
        )

    def count(self, accepted: Mapping[str, Iterable[str]]) -> Counts:
        """Count files and entries on the server.

        Five queries a job and one for each thirty accepted fingerprints, eight at once. A thousand
        entries counted cost one read; the server gives up on a query after 60 s.
        """
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(COUNTS_AT_ONCE)
        try:
            files, deleted = (
                pool.submit(self._count, queries.files(deleted=d)) for d in (False, True)
            )
            states = {
                job: {s: pool.submit(self._count, queries.in_state(job, s)) for s in State}
                for job in accepted
            }
            good = {
                job: [
                    pool.submit(self._count, queries.done_by(job, some))
                    for some in _batches(sorted(set(fingerprints)), queries.IN_VALUES)
                ]
                for job, fingerprints in accepted.items()
            }
            jobs: dict[str, dict[str, int]] = {}
            for job in accepted:
                jobs[job] = {str(state): n.result() for state, n in states[job].items()}
                done = sum(n.result() for n in good[job])
                # They are of different moments: what was done meanwhile must not make one negative.
                jobs[job] |= {"stale": max(0, jobs[job]["done"] - done), "done": done}
            return Counts(files=files.result(), deleted=deleted.result(), jobs=jobs)
        finally:  # where one fails, the others are not waited for, one deadline after another
            pool.shutdown(cancel_futures=True)

    def _count(self, query: Mapping[str, Any]) -> int:
        return self._until_deadline(partial(self._rpc.count, query))

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        """List records by URI.

        It needs the composite indexes of ``firestore_indexes.indexes``: (deleted, uri), for what is
        owed (deleted, owed, uri), and for a job (deleted, jobs.<job>.state, uri); whoever asks for
        files and tombstones alike, or for a job in any state, asks for all values, and needs no
        other.
        """
        structured = queries.matching(query, after=after, limit=limit)
        return self._until_deadline(partial(self._find, structured))

    def _find(self, query: Mapping[str, Any], timeout_s: float) -> list[Record]:
        return [decode(d.name, d.fields) for d in self._rpc.query(query, timeout_s)]

    def close(self) -> None:
        """Close the connection; a later call makes another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _until_deadline(self, call: Callable[[float], Found]) -> Found:
        """Call again, with pauses, for as long as the server is unavailable."""
        error: Unavailable | None = None
        for left_s in self._rounds():
            try:
                return call(left_s)
            except Unavailable as raised:
                error = raised
        raise error or Unavailable(f"{self._project}: no time was left; give a longer deadline")

    def _rounds(self) -> Iterator[float]:
        """Yield how long the next call may take, with growing pauses, until the deadline."""
        end = time.monotonic() + self._deadline_s
        pause_s = FIRST_PAUSE_S
        while (left_s := end - time.monotonic()) > 0:
            yield min(left_s, CALL_S)
            chance = random.random()  # noqa: S311 - it spreads retries, and guards nothing
            time.sleep(max(0.0, min(pause_s * chance, end - time.monotonic())))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _batches(values: Sequence[Found], size: int) -> Iterator[Sequence[Found]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
