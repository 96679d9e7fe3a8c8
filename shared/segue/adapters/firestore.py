"""The ledger in Firestore: one document per file, changed optimistically and in batches."""

from __future__ import annotations

import re
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from segue.adapters import firestore_queries as queries
from segue.adapters.firestore_rpc import FirestoreRpc
from segue.adapters.firestore_values import decode
from segue.adapters.firestore_writes import Batch, read_snapshots
from segue.backoff import Backoff, retry
from segue.errors import ConfigurationError, Contended, Unavailable
from segue.model.ledger import Change, Changed, LedgerCounts, Query, Snapshot
from segue.model.media_file import uri_to_file_id
from segue.model.record import Record, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

T = TypeVar("T")
Found = TypeVar("Found")

URL = re.compile(r"firestore://([^/]+)(?:/([^/]+))?/?")
READ_BATCH, WRITE_BATCH = 300, 500  # documents per call
CALL_S = 60.0  # the server gives up then, too
COUNTS_AT_ONCE = 8
BACKOFF = Backoff(0.02, 5.0, jitter=1.0)


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
        self._lock = threading.Lock()
        self._connection: FirestoreRpc | None = None

    @property
    def _rpc(self) -> FirestoreRpc:
        """The connection, opened at the first use."""
        with self._lock:
            if self._connection is None:
                self._connection = FirestoreRpc(self._project, self._database)
            return self._connection

    def read(self, uris: Sequence[str]) -> list[Snapshot]:
        """Read many records, 300 per call."""
        ids = [uri_to_file_id(uri) for uri in uris]
        found: dict[str, Snapshot] = {}
        for batch_ids in _split(list(dict.fromkeys(ids)), READ_BATCH):
            found |= self._retry_until_deadline(partial(read_snapshots, self._rpc, batch_ids))
        return [found[i] for i in ids]

    def change(self, changes: Sequence[Change[T]]) -> list[Changed[T]]:
        """Apply each transition; without contention, a known record costs one write or one read."""
        by_id = {uri_to_file_id(c.uri): c for c in changes}
        if len(by_id) < len(changes):
            raise ConfigurationError("one call changes a file twice; make two calls")
        done: dict[str, Changed[T]] = {}
        for batch_ids in _split(list(by_id), WRITE_BATCH):
            batch = Batch({i: by_id[i] for i in batch_ids})
            self._retry_until_deadline(partial(self._write, batch))
            done |= batch.done
        return [done[i] for i in by_id]

    def _write(self, batch: Batch[T], left_s: float) -> None:
        batch.run_round(self._rpc, left_s)
        if uris := batch.open_uris:
            raise Contended(
                f"the record of {uris[0]} and {len(uris) - 1} more were changed by others for "
                f"{self._deadline_s:g} s; try again later"
            )

    def count(self, accepted: Mapping[str, Iterable[str]]) -> LedgerCounts:
        """Count files and entries on the server.

        It makes five queries per job and one for each thirty accepted fingerprints, eight at once.
        Counting a thousand entries costs one read; the server gives up on a query after 60 s.
        """
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(COUNTS_AT_ONCE)
        try:
            files, deleted = (
                pool.submit(self._count, queries.select_files(deleted=d)) for d in (False, True)
            )
            states = {
                job: {s: pool.submit(self._count, queries.select_in_state(job, s)) for s in State}
                for job in accepted
            }
            current = {
                job: [
                    pool.submit(self._count, queries.select_done_by(job, batch_ids))
                    for batch_ids in _split(sorted(set(fingerprints)), queries.IN_VALUES)
                ]
                for job, fingerprints in accepted.items()
            }
            jobs: dict[str, dict[str, int]] = {}
            for job in accepted:
                jobs[job] = {str(state): n.result() for state, n in states[job].items()}
                done = sum(n.result() for n in current[job])
                # They are of different moments: what was done meanwhile must not make one negative.
                jobs[job] |= {"stale": max(0, jobs[job]["done"] - done), "done": done}
            return LedgerCounts(files=files.result(), deleted=deleted.result(), jobs=jobs)
        finally:  # if one fails, do not wait for the others, one deadline after another
            pool.shutdown(cancel_futures=True)

    def _count(self, query: Mapping[str, Any]) -> int:
        return self._retry_until_deadline(partial(self._rpc.count, query))

    def find(self, query: Query, *, after: str = "", limit: int = 500) -> list[Record]:
        """List records by URI.

        It needs the composite indexes of ``firestore_indexes.build_indexes``: (deleted, uri); for
        pending targets (deleted, pending, uri); for a job (deleted, jobs.<job>.state, uri). A query
        for files and tombstones alike, or for a job in any state, lists all values, and needs no
        other index.
        """
        structured = queries.select_matching(query, after=after, limit=limit)
        return self._retry_until_deadline(partial(self._find, structured))

    def _find(self, query: Mapping[str, Any], timeout_s: float) -> list[Record]:
        return [decode(d.name, d.fields) for d in self._rpc.query(query, timeout_s)]

    def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _retry_until_deadline(self, call: Callable[[float], Found]) -> Found:
        """Call with the time that is left; retry while the server is away or others write first."""
        end_s = time.monotonic() + self._deadline_s
        return retry(
            lambda: call(max(0.0, min(CALL_S, end_s - time.monotonic()))),
            backoff=BACKOFF,
            should_retry=lambda error: isinstance(error, Unavailable | Contended),
            end_s=end_s,
        )


def _split(values: Sequence[Found], size: int) -> Iterator[Sequence[Found]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
