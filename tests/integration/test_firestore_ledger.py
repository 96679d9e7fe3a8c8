"""What the Firestore ledger costs in calls and documents, and what it makes of a bad network.

The emulator does not tell a missing database, a missing right or a missing index, and never asks to
slow down: those answers come from the proxy before it.
"""

from __future__ import annotations

import pickle
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from google.cloud import firestore
from google.cloud.firestore_v1 import types

from segue.adapters.firestore import TOMBSTONE_TTL, FirestoreLedger
from segue.adapters.firestore_indexes import EXPIRES_AT, Index, build_indexes, list_exempt_fields
from segue.errors import ConfigurationError, Contended, Unavailable
from segue.model import transitions
from segue.model.graph import parse_graph
from segue.model.ledger import Change, Query, Snapshot
from segue.model.media_file import MediaFile, uri_to_file_id
from segue.model.record import Entry, Lease, Ping, Record, State, evolve
from segue.model.transitions import Result
from segue_support import emulators
from segue_support.grpc_proxy import GrpcProxy, RpcFault

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.xdist_group("firestore")

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
GRAPH = parse_graph(
    """
    jobs:
      beats: {run: "features:beats", needs: {media: source}, writes: application/json}
      energy: {run: "features:energy", needs: {beats: beats}, writes: application/json}
    """
)


@pytest.fixture
def proxy(firestore_emulator, firestore_url, monkeypatch) -> Iterator[GrpcProxy]:
    with GrpcProxy(firestore_emulator) as proxy:
        monkeypatch.setenv(emulators.FIRESTORE.variable, proxy.address)
        yield proxy


@pytest.fixture
def ledger(proxy, firestore_url) -> Iterator[FirestoreLedger]:
    ledger = FirestoreLedger(firestore_url)
    yield ledger
    ledger.close()


def uri(number: int) -> str:
    return f"gs://acme-audio/masters/{number:05d}.flac"


def record(number: int, **changes) -> Record:
    return Record(uri=uri(number), generation=1, arrived_at=NOW, **changes)


def put(ledger, *records: Record):
    changes = [Change(uri=r.uri, transition=lambda _, r=r: (r, None)) for r in records]
    return [c.snapshot for c in ledger.change(changes)]


def grow(r: Record) -> tuple[Record, int]:
    return evolve(r, size_bytes=r.size_bytes + 1), r.size_bytes


def growth(known) -> list[Change[int]]:
    return [Change(uri=s.record.uri, transition=grow, known=s) for s in known]


def documents(proxy: GrpcProxy) -> tuple[list[int], list[int]]:
    """How many documents each call read, and how many each wrote."""
    reads = proxy.requests.get("BatchGetDocuments", [])
    writes = proxy.requests.get("BatchWrite", [])
    return (
        [len(types.BatchGetDocumentsRequest.deserialize(r).documents) for r in reads],
        [len(types.BatchWriteRequest.deserialize(w).writes) for w in writes],
    )


class TestCost:
    def test_a_known_record_is_changed_by_one_write_and_no_read(self, proxy, ledger):
        known = put(ledger, record(1))
        proxy.reset()
        ledger.change(growth(known))
        assert dict(proxy.calls) == {"BatchWrite": 1}
        assert documents(proxy) == ([], [1])

    def test_a_known_record_of_another_process_is_changed_without_a_read(self, proxy, ledger):
        put(ledger, record(1))
        known = pickle.loads(pickle.dumps(ledger.read([uri(1)])))
        proxy.reset()
        ledger.change(growth(known))
        assert documents(proxy) == ([], [1])

    def test_a_known_record_without_a_revision_overwrites_nothing(self, proxy, ledger):
        put(ledger, record(1, size_bytes=5))
        known = Snapshot(record=record(1))
        assert [c.answer for c in ledger.change(growth([known]))] == [5]

    def test_a_backfilled_file_costs_one_read_and_two_writes(self, proxy, ledger):
        put(ledger, record(1))
        proxy.reset()
        (snapshot,) = ledger.read([uri(1)])
        lease = {"owner": "w", "now": NOW, "lease_s": 60}
        claim = lambda r: (transitions.claim(r, GRAPH, ["beats", "energy"], **lease), None)  # noqa: E731
        results = [Result(job=job, state=State.DONE) for job in GRAPH.jobs]
        settle = lambda r: transitions.settle(r, generation=1, owner="w", results=results)  # noqa: E731
        for transition in (claim, settle):
            changed = ledger.change([Change(uri=uri(1), transition=transition, known=snapshot)])
            snapshot = changed[0].snapshot
        assert documents(proxy) == ([1], [1, 1])

    def test_an_unknown_record_is_read_once(self, proxy, ledger):
        put(ledger, record(1))
        assert documents(proxy) == ([1], [1])

    def test_no_change_of_a_known_record_costs_a_read(self, proxy, ledger):
        (known,) = put(ledger, record(1))
        proxy.reset()
        ledger.change([Change(uri=uri(1), transition=lambda r: (r, None), known=known)])
        assert documents(proxy) == ([1], [])

    def test_hundreds_of_documents_share_a_call(self, proxy, ledger):
        known = put(ledger, *(record(i) for i in range(1200)))
        proxy.reset()
        ledger.read([s.record.uri for s in known])
        ledger.change(growth(known))
        assert documents(proxy) == ([300] * 4, [500, 500, 200])

    def test_large_documents_are_spread_over_calls(self, proxy, ledger):
        put(ledger, *(record(i, checksum="x" * 900_000) for i in range(8)))
        assert documents(proxy) == ([8], [3, 3, 2])

    def test_only_what_was_stale_is_read_and_written_again(self, proxy, ledger):
        known = put(ledger, *(record(i) for i in range(10)))
        put(ledger, *(record(i, size_bytes=5) for i in (2, 3, 7)))
        proxy.reset()
        answers = [c.answer for c in ledger.change(growth(known))]
        assert answers == [5 if i in (2, 3, 7) else 0 for i in range(10)]
        assert documents(proxy) == ([3], [10, 3])

    def test_counting_costs_a_few_queries_whatever_the_catalogue(self, proxy, ledger):
        thirty = [f"{i:012x}" for i in range(30)]
        ledger.count({"beats": thirty, "energy": [*thirty, "f" * 12]})
        files, states, fingerprints = 2, 2 * 5, 1 + 2
        assert dict(proxy.calls) == {"RunAggregationQuery": files + states + fingerprints}

    def test_a_page_costs_one_query(self, proxy, ledger):
        ledger.find(Query(prefix="gs://acme-audio/", job="beats", state=State.FAILED))
        assert dict(proxy.calls) == {"RunQuery": 1}

    def test_opening_and_closing_costs_nothing(self, proxy, firestore_url):
        FirestoreLedger(firestore_url).close()
        assert not proxy.calls


def written_by(proxy: GrpcProxy) -> int:
    return sum(documents(proxy)[1])


class TestBadNetwork:
    @pytest.fixture
    def claimed(self, ledger):
        """A record whose beats are held, with energy as a pending target."""
        lease = Lease(owner="w", expires_at=NOW)
        beats = Entry(
            state=State.RUNNING,
            fingerprint=GRAPH.fingerprints["beats"],
            generation=1,
            lease=lease,
            pending_targets=("energy",),
        )
        (snapshot,) = put(ledger, record(1, jobs={"beats": beats}))
        return snapshot

    def settled(self, ledger, claimed):
        results = [Result(job="beats", state=State.DONE, artifact="gs://acme-artifacts/1")]
        settle = lambda r: transitions.settle(r, generation=1, owner="w", results=results)  # noqa: E731
        return ledger.change([Change(uri=uri(1), transition=settle, known=claimed)])[0]

    @pytest.mark.parametrize("status", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"])
    def test_a_write_whose_reply_was_lost_is_recognised(self, proxy, ledger, claimed, status):
        proxy.reset()
        proxy.fail("BatchWrite", RpcFault(status, lost="reply"))
        changed = self.settled(ledger, claimed)
        assert changed.answer.pending_targets == {
            "beats": ("energy",)
        }  # not lost: it was this very write
        assert not changed.answer.lost
        assert ledger.read([uri(1)]) == [changed.snapshot]
        assert written_by(proxy) == 1

    def test_a_write_that_never_came_is_made_again(self, proxy, ledger, claimed):
        proxy.fail("BatchWrite", RpcFault(), RpcFault("RESOURCE_EXHAUSTED"), RpcFault("ABORTED"))
        assert self.settled(ledger, claimed).answer.pending_targets == {"beats": ("energy",)}
        assert ledger.read([uri(1)])[0].record.jobs["beats"].state is State.DONE

    @pytest.mark.parametrize("status", ["ABORTED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"])
    def test_a_document_that_was_not_confirmed_is_read_and_sent_again(
        self, proxy, ledger, claimed, status
    ):
        proxy.reset()
        proxy.fail("BatchWrite", RpcFault(instead=statuses(status)))
        assert self.settled(ledger, claimed).answer.pending_targets == {"beats": ("energy",)}
        assert proxy.calls == {"BatchWrite": 2, "BatchGetDocuments": 1}

    @pytest.mark.parametrize("status", ["ABORTED", "RESOURCE_EXHAUSTED"])
    def test_a_document_that_was_not_written_is_not_taken_for_an_equal_one_of_others(
        self, proxy, ledger, status
    ):
        unknown = ledger.read([uri(1)])[0]
        put(ledger, record(1))
        proxy.fail("BatchWrite", RpcFault(instead=statuses(status)))
        arrive = lambda r: (record(1), "new") if r is None else (r, "known")  # noqa: E731
        changed = ledger.change([Change(uri=uri(1), transition=arrive, known=unknown)])
        assert changed[0].answer == "known"

    def test_a_document_that_is_refused_is_a_matter_of_configuration(self, proxy, ledger, claimed):
        proxy.fail("BatchWrite", RpcFault(instead=statuses("PERMISSION_DENIED")))
        with pytest.raises(ConfigurationError, match="roles/datastore"):
            self.settled(ledger, claimed)

    @pytest.mark.parametrize("method", ["BatchGetDocuments", "RunQuery", "RunAggregationQuery"])
    @pytest.mark.parametrize("lost", ["request", "reply", "end"])
    def test_a_read_is_tried_again(self, proxy, ledger, method, lost):
        put(ledger, record(1))
        proxy.fail(method, RpcFault(lost=lost))
        assert ledger.read([uri(1)])[0].record == record(1)
        assert ledger.find(Query()) == [record(1)]
        assert ledger.count({}).files == 1

    @pytest.mark.parametrize(
        ("status", "remedy"),
        [
            ("PERMISSION_DENIED", "roles/datastore.user"),
            ("UNAUTHENTICATED", "roles/datastore.user"),
            ("NOT_FOUND", "gcloud firestore databases create"),
            ("FAILED_PRECONDITION", "Terraform"),
            ("INVALID_ARGUMENT", "SEGUE_LEDGER"),
        ],
    )
    def test_what_only_a_person_can_mend_says_how(self, proxy, ledger, status, remedy):
        for method in ("BatchGetDocuments", "RunQuery", "RunAggregationQuery"):
            proxy.fail(method, *[RpcFault(status)] * 2)
        with pytest.raises(ConfigurationError, match=remedy):
            ledger.read([uri(1)])
        with pytest.raises(ConfigurationError, match=remedy):
            ledger.find(Query())
        with pytest.raises(ConfigurationError, match=remedy):
            ledger.count({})
        assert proxy.calls["BatchGetDocuments"] == 1  # and is not tried again

    def test_a_server_that_is_away_is_unavailable(self, firestore_url, monkeypatch):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # nobody listens, and nobody else gets the port
            monkeypatch.setenv(emulators.FIRESTORE.variable, f"127.0.0.1:{unused.getsockname()[1]}")
            self.assert_unavailable(FirestoreLedger(firestore_url, deadline_s=0.3))

    def test_a_server_that_never_answers_is_unavailable(self, firestore_url, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            monkeypatch.setenv(emulators.FIRESTORE.variable, f"127.0.0.1:{silent.getsockname()[1]}")
            self.assert_unavailable(FirestoreLedger(firestore_url, deadline_s=0.3))

    def assert_unavailable(self, ledger):
        with pytest.raises(Unavailable, match="try again later"):
            ledger.read([uri(1)])
        with pytest.raises(Unavailable, match="try again later"):
            put(ledger, record(1))
        with pytest.raises(Unavailable, match="try again later"):
            ledger.find(Query())
        with pytest.raises(Unavailable, match="try again later"):
            ledger.count({f"job{i}": ["0" * 12] for i in range(100)})  # not a deadline for each
        ledger.close()

    def test_a_record_that_others_change_without_end_is_contended(self, ledger, firestore_url):
        known = put(ledger, record(1))
        hasty = FirestoreLedger(firestore_url, deadline_s=2.0)

        def overtaken(r):
            put(ledger, evolve(r, size_bytes=r.size_bytes + 1))
            return evolve(r, checksum="mine"), None

        with pytest.raises(Contended, match=r"00001\.flac"):
            hasty.change([Change(uri=uri(1), transition=overtaken, known=known[0])])
        hasty.close()

    def test_a_closed_ledger_opens_again_when_it_is_used(self, ledger):
        put(ledger, record(1))
        ledger.close()
        assert ledger.read([uri(1)])[0].record == record(1)


def statuses(*names: str) -> bytes:
    """A reply of BatchWrite with one status a document."""
    import grpc

    codes = [grpc.StatusCode[name].value[0] for name in names]
    raw = types.BatchWriteResponse.pb()(
        write_results=[{} for _ in codes], status=[{"code": c, "message": "made up"} for c in codes]
    )
    return raw.SerializeToString()


class TestDocuments:
    @pytest.fixture
    def files(self, ledger, project):
        """The collection, seen with Google's own client."""
        client = firestore.Client(project=project)
        yield client.collection("files")
        client.close()

    def test_they_are_readable_with_any_client(self, ledger, files):
        lease = Lease(owner="w", expires_at=NOW + timedelta(seconds=60))
        beats = Entry(
            state=State.RUNNING,
            fingerprint="0" * 12,
            generation=1,
            lease=lease,
            pending_targets=("energy",),
        )
        put(ledger, record(1, size_bytes=3, jobs={"beats": beats}))
        assert files.document(uri_to_file_id(uri(1))).get().to_dict() == {
            "uri": uri(1),
            "generation": 1,
            "size_bytes": 3,
            "arrived_at": NOW,
            "deleted": False,
            "owed": True,
            "jobs": {
                "beats": {
                    "state": "running",
                    "fingerprint": "0" * 12,
                    "generation": 1,
                    "lease": {"owner": "w", "expires_at": lease.expires_at},
                    "wanted": ["energy"],
                }
            },
        }

    def test_a_tombstone_says_when_it_expires_and_a_living_record_never_does(self, ledger, files):
        (snapshot,) = put(ledger, record(1))
        document = files.document(uri_to_file_id(uri(1)))
        assert EXPIRES_AT not in document.get().to_dict()
        media = snapshot.record.media
        ledger.change([Change(uri=uri(1), transition=lambda r: transitions.delete(r, media, NOW))])
        assert document.get().to_dict()[EXPIRES_AT] == NOW + TOMBSTONE_TTL
        newer = MediaFile(uri=uri(1), generation=2)
        ledger.change([Change(uri=uri(1), transition=lambda r: transitions.arrive(r, newer, NOW))])
        assert EXPIRES_AT not in document.get().to_dict()

    def test_one_that_is_no_record_is_named(self, ledger, files):
        files.document(uri_to_file_id(uri(1))).set({"uri": uri(1), "generation": "one"})
        (snapshot,) = ledger.read([uri(1)])
        assert snapshot.record is None
        assert f"files/{uri_to_file_id(uri(1))} is damaged" in snapshot.damage

    def test_one_field_more_does_not_matter_until_the_record_is_written(self, ledger, files):
        put(ledger, record(1))
        document = files.document(uri_to_file_id(uri(1)))
        more = {"note": "checked by ear", "seen": None, "where": firestore.GeoPoint(52.5, 13.4)}
        document.update(more)
        known = ledger.read([uri(1)])
        assert known[0].record == record(1)
        assert ledger.find(Query()) == [record(1)]
        ledger.change(growth(known))
        assert set(document.get().to_dict()).isdisjoint(more)

    def test_one_that_is_too_large_is_refused_before_anything_is_written(self, proxy, ledger):
        large = record(2, checksum="x" * (1 << 20))
        with pytest.raises(ConfigurationError, match=r"00002\.flac is \d+ bytes.* 1 MiB"):
            put(ledger, record(1), large)
        assert written_by(proxy) == 0

    def test_every_field_is_exempted_from_single_field_indexes(self, ledger, files):
        full = {"content_type": "audio/flac", "checksum": "crc32c:0", "size_bytes": 1}
        beats = Entry(state=State.QUEUED, fingerprint="0" * 12, generation=1)
        pings = {"beats": Ping(request="r1", at=NOW)}
        put(ledger, record(1, **full, deleted_at=NOW, jobs={"beats": beats}, pings=pings))
        stored = files.document(uri_to_file_id(uri(1))).get().to_dict()
        assert set(stored) == set(list_exempt_fields())


PENDING = Index(("deleted", "owed", "uri"))


class TestIndexes:
    """The emulator needs no composite index, so the queries are held against the list here."""

    def needed(self, query: types.StructuredQuery) -> Index:
        """The index that serves a query: equalities first, then what it is ordered by."""
        filters = [f.field_filter for f in query.where.composite_filter.filters]
        ops = types.StructuredQuery.FieldFilter.Operator
        equal = [f.field.field_path for f in filters if f.op in (ops.EQUAL, ops.IN)]
        ranged = {f.field.field_path for f in filters} - set(equal)
        order = [o.field.field_path for o in query.order_by]
        assert ranged <= set(order[:1])
        return Index((*equal, *order))

    def test_each_query_of_find_has_its_index(self, proxy, ledger):
        for deleted in (None, False, True):
            for job, state in ((None, None), ("beats", None), ("energy", State.FAILED)):
                query = Query(prefix="gs://a", job=job, state=state, deleted=deleted)
                ledger.find(query, after="gs://a/b")
            ledger.find(Query(pending=True, deleted=deleted))
        requests = map(types.RunQueryRequest.deserialize, proxy.requests["RunQuery"])
        needed = {self.needed(r.structured_query) for r in requests}
        assert len(needed) == 4
        assert needed <= set(build_indexes(GRAPH))

    def test_each_query_of_count_has_its_index(self, proxy, ledger):
        ledger.count(GRAPH.accepted)
        requests = map(
            types.RunAggregationQueryRequest.deserialize, proxy.requests["RunAggregationQuery"]
        )
        queries = [r.structured_aggregation_query.structured_query for r in requests]
        assert {self.needed(q) for q in queries} == set(build_indexes(GRAPH)) - {PENDING}

    def test_what_is_owed_of_a_job_in_a_state_is_served_by_two_indexes_merged(self, proxy, ledger):
        """Equalities are merged where the indexes agree in what comes behind these."""
        ledger.find(Query(pending=True, job="energy", state=State.FAILED, deleted=False))
        (request,) = map(types.RunQueryRequest.deserialize, proxy.requests["RunQuery"])
        *equal, order = self.needed(request.structured_query).fields
        usable = [
            i
            for i in build_indexes(GRAPH)
            if i.fields[-1] == order and {*i.fields[:-1]} <= {*equal}
        ]
        assert {f for i in usable for f in i.fields[:-1]} == set(equal)


class TestOpening:
    @pytest.mark.parametrize(
        "url", ["firestore://", "firestore://a/b/c", "firestore:///a", "gs://a"]
    )
    def test_a_url_of_another_form_is_refused(self, url):
        with pytest.raises(ConfigurationError, match="firestore://project/database"):
            FirestoreLedger(url)

    def test_a_database_can_be_named(self, proxy, project):
        default, named = (
            FirestoreLedger(f"firestore://{project}"),
            FirestoreLedger(f"firestore://{project}/side"),
        )
        put(named, record(1))
        assert default.read([uri(1)])[0].record is None
        assert named.read([uri(1)])[0].record == record(1)
        default.close()
        named.close()

    def test_without_credentials_it_says_how_to_get_them(self, monkeypatch, tmp_path):
        monkeypatch.delenv(emulators.FIRESTORE.variable, raising=False)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
        with pytest.raises(ConfigurationError, match="gcloud auth application-default login"):
            FirestoreLedger("firestore://acme-audio").read([uri(1)])

    @pytest.mark.parametrize("emulator", ["", None])
    def test_by_default_it_is_google_that_is_asked(self, monkeypatch, user_credentials, emulator):
        monkeypatch.delenv(emulators.FIRESTORE.variable, raising=False)
        if emulator is not None:
            monkeypatch.setenv(emulators.FIRESTORE.variable, emulator)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", user_credentials)
        ledger = FirestoreLedger("firestore://acme-audio")
        assert ledger._connection._channel.host == "firestore.googleapis.com:443"
        ledger.close()
