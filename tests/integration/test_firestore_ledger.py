"""What the Firestore ledger costs in calls and documents, and what it makes of a bad network.

The emulator does not tell a missing database, a missing right or a missing index, and never asks to
slow down: those answers come from the proxy before it.
"""

from __future__ import annotations

import pickle
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from google.cloud import firestore
from google.cloud.firestore_v1 import types

from segue.adapters.firestore import FirestoreLedger
from segue.adapters.firestore_document import TOMBSTONE_TTL
from segue.adapters.firestore_indexes import EXPIRES_AT, Index, build_indexes, list_exempt_fields
from segue.adapters.ledger_format import encode_record
from segue.errors import ConfigurationError, Contended, Unavailable
from segue.model import transitions
from segue.model.graph import parse_graph
from segue.model.ledger import Change, Query, Snapshot
from segue.model.media_file import MediaFile, uri_to_file_id
from segue.model.record import (
    LEASED,
    PENDING,
    Entry,
    Lease,
    Record,
    State,
    evolve,
    format_term,
)
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
BEATS = GRAPH.fingerprints["beats"]


@pytest.fixture
def proxy(firestore_emulator, firestore_url, monkeypatch) -> Iterator[GrpcProxy]:
    with GrpcProxy(firestore_emulator) as proxy:
        monkeypatch.setenv(emulators.FIRESTORE.variable, proxy.address)
        yield proxy


@pytest.fixture
def ledger(proxy, firestore_url) -> Iterator[FirestoreLedger]:
    """A ledger that is connected: what that costs is not counted."""
    ledger = FirestoreLedger(firestore_url)
    ledger.find(Query(), limit=1)
    proxy.reset()
    yield ledger
    ledger.close()


def uri(number: int) -> str:
    return f"gs://acme-audio/masters/{number:05d}.flac"


def record(number: int, **changes) -> Record:
    return Record(uri=uri(number), version="v1", order=1, arrived_at=NOW, **changes)


def beats(state: State = State.RUNNING, **changes) -> dict[str, Entry]:
    return {BEATS: Entry(job="beats", state=state, order=1, **changes)}


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
        settling = {"order": 1, "owner": "w", "results": results, "now": NOW}
        settle = lambda r: transitions.settle(r, GRAPH, **settling)  # noqa: E731
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
        counts = ledger.count({"beats": thirty, "energy": [*thirty, "f" * 12]})
        files, states, fingerprints = 2, 2 * len(State), 1 + 2
        assert counts.reads == files + states + fingerprints
        assert dict(proxy.calls) == {"RunAggregationQuery": counts.reads}

    def test_a_page_costs_one_query(self, proxy, ledger):
        ledger.find(Query(prefix="gs://acme-audio/", open=LEASED))
        assert dict(proxy.calls) == {"RunQuery": 1}

    def test_tombstones_with_a_term_are_none_without_a_query(self, proxy, ledger):
        assert ledger.find(Query(open=LEASED, deleted=True)) == []
        assert not proxy.calls

    def test_opening_and_closing_costs_nothing(self, proxy, firestore_url):
        FirestoreLedger(firestore_url).close()
        assert not proxy.calls

    def test_the_first_use_of_a_ledger_reads_one_document_more(self, proxy, ledger, firestore_url):
        put(ledger, record(1))
        proxy.reset()
        other = FirestoreLedger(firestore_url)
        for _ in range(3):
            other.read([uri(1)])
        assert documents(proxy) == ([1, 1, 1, 1], [])
        other.close()
        other.read([uri(1)])
        assert documents(proxy) == ([1] * 5, [])
        other.close()

    def test_threads_that_use_it_first_read_that_document_once(self, proxy, ledger, firestore_url):
        other = FirestoreLedger(firestore_url)
        other.count(GRAPH.accepted)  # in several threads
        assert documents(proxy) == ([1], [])
        other.close()

    def test_the_very_first_use_writes_that_document(self, proxy, firestore_url, project):
        ledger = FirestoreLedger(firestore_url, namespace="moods")
        ledger.read([uri(1)])
        assert proxy.calls == {"BatchGetDocuments": 2, "RunQuery": 1, "Commit": 1}
        ledger.close()
        client = firestore.Client(project=project)
        about = client.document("segue", "ledger").get().to_dict()
        assert about == {"format": 2, "namespace": "moods"}
        client.close()


def written_by(proxy: GrpcProxy) -> int:
    return sum(documents(proxy)[1])


class TestBadNetwork:
    @pytest.fixture
    def claimed(self, ledger):
        """A record whose beats are held."""
        (snapshot,) = put(ledger, record(1, results=beats(lease=Lease(owner="w", expires_at=NOW))))
        return snapshot

    def settled(self, ledger, claimed):
        results = [Result(job="beats", state=State.DONE, artifacts={"beats/v1.json": "0"})]
        settling = {"order": 1, "owner": "w", "results": results, "now": NOW}
        settle = lambda r: transitions.settle(r, GRAPH, **settling)  # noqa: E731
        return ledger.change([Change(uri=uri(1), transition=settle, known=claimed)])[0]

    @pytest.mark.parametrize("status", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"])
    def test_a_write_whose_reply_was_lost_is_recognised(self, proxy, ledger, claimed, status):
        proxy.reset()
        proxy.fail("BatchWrite", RpcFault(status, lost="reply"))
        changed = self.settled(ledger, claimed)
        assert changed.answer == ()  # not lost: it was this very write
        assert ledger.read([uri(1)]) == [changed.snapshot]
        assert written_by(proxy) == 1

    def test_a_write_that_never_came_is_made_again(self, proxy, ledger, claimed):
        proxy.fail("BatchWrite", RpcFault(), RpcFault("RESOURCE_EXHAUSTED"), RpcFault("ABORTED"))
        assert self.settled(ledger, claimed).answer == ()
        assert ledger.read([uri(1)])[0].record.results[BEATS].state is State.DONE

    @pytest.mark.parametrize("status", ["ABORTED", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"])
    def test_a_document_that_was_not_confirmed_is_read_and_sent_again(
        self, proxy, ledger, claimed, status
    ):
        proxy.reset()
        proxy.fail("BatchWrite", RpcFault(instead=statuses(status)))
        assert self.settled(ledger, claimed).answer == ()
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

    @pytest.mark.parametrize("method", ["BatchGetDocuments", "RunQuery", "Commit"])
    @pytest.mark.parametrize("lost", ["request", "reply"])
    def test_the_first_use_of_an_empty_ledger_is_tried_again(
        self, proxy, firestore_url, method, lost
    ):
        proxy.fail(method, RpcFault(lost=lost))
        ledger = FirestoreLedger(firestore_url)
        put(ledger, record(1))
        ledger.close()
        again = FirestoreLedger(firestore_url)
        assert again.read([uri(1)])[0].record == record(1)
        again.close()

    def test_whoever_only_reads_writes_nothing_to_an_empty_ledger(self, proxy, firestore_url):
        reader = FirestoreLedger(firestore_url, create=False)
        assert reader.read([uri(1)]) == [Snapshot(record=None)]
        assert proxy.calls == {"BatchGetDocuments": 2, "RunQuery": 1}
        writer = FirestoreLedger(firestore_url, namespace="moods")
        put(writer, record(1))
        writer.close()
        with pytest.raises(ConfigurationError, match="belongs to namespace 'moods'"):
            reader.read([uri(1)])
        reader.close()

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

    def test_to_close_it_gives_up_a_call_that_is_tried_again(self, proxy, ledger, firestore_url):
        patient = FirestoreLedger(firestore_url, deadline_s=3600.0)
        raised: list[Exception] = []

        def read() -> None:
            try:
                patient.read([uri(1)])
            except Unavailable as error:
                raised.append(error)

        proxy.fail("BatchGetDocuments", *[RpcFault()] * 1000)
        reader = threading.Thread(target=read)
        reader.start()
        while proxy.calls["BatchGetDocuments"] < 5:
            assert reader.is_alive()
            time.sleep(0.01)
        patient.close()
        reader.join()
        assert len(raised) == 1
        proxy.clear_faults()
        assert patient.read([uri(1)])[0].record is None, "a later call opens it again"
        patient.close()

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

    def test_they_have_the_record_as_json_and_what_queries_need(self, ledger, files):
        lease = Lease(owner="w", expires_at=NOW + timedelta(seconds=60))
        done = Entry(job="energy", state=State.DONE, order=1)
        other = Entry(job="mel", state=State.NOT_APPLICABLE, order=1)
        held = beats(lease=lease, notify=("*",))
        full = record(1, size_bytes=3, results={**held, "0" * 12: done, "1" * 12: other})
        put(ledger, full)
        assert files.document(uri_to_file_id(uri(1))).get().to_dict() == {
            "uri": uri(1),
            "deleted": False,
            "open": [LEASED, PENDING, f"beats/{BEATS}/running"],
            "done": ["energy/", "energy/000000000000", "mel/111111111111/not_applicable"],
            "record": encode_record(full).decode(),
        }

    def test_a_tombstone_has_no_terms(self, ledger, files):
        held = beats(lease=Lease(owner="w", expires_at=NOW), notify=("*",))
        done = Entry(job="energy", state=State.DONE, order=1)
        put(ledger, record(1, results={**held, "0" * 12: done}, deleted_at=NOW))
        stored = files.document(uri_to_file_id(uri(1))).get().to_dict()
        assert (stored["deleted"], stored["open"], stored["done"]) == (True, [], [])

    def test_a_tombstone_says_when_it_expires_and_a_living_record_never_does(self, ledger, files):
        (snapshot,) = put(ledger, record(1))
        document = files.document(uri_to_file_id(uri(1)))
        assert EXPIRES_AT not in document.get().to_dict()
        media = snapshot.record.media
        ledger.change([Change(uri=uri(1), transition=lambda r: transitions.delete(r, media, NOW))])
        assert document.get().to_dict()[EXPIRES_AT] == NOW + TOMBSTONE_TTL
        newer = MediaFile(uri=uri(1), version="v2", order=2)
        ledger.change([Change(uri=uri(1), transition=lambda r: transitions.arrive(r, newer, NOW))])
        assert EXPIRES_AT not in document.get().to_dict()

    @pytest.mark.parametrize("fields", [{"record": "{}"}, {"record": 1}, {}])
    def test_one_that_is_no_record_is_named(self, ledger, files, fields):
        files.document(uri_to_file_id(uri(1))).set({"uri": uri(1), "deleted": False, **fields})
        (snapshot,) = ledger.read([uri(1)])
        assert snapshot.record is None
        assert f"files/{uri_to_file_id(uri(1))} is damaged" in snapshot.damage
        assert ledger.find(Query()) == []

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

    def test_terms_count_for_the_size_of_one(self, proxy, ledger):
        results = {f"{n:012x}": Entry(job="j" * 63, state=State.DONE, order=1) for n in range(6000)}
        assert len(encode_record(record(1, results=results))) < 1_000_000
        with pytest.raises(ConfigurationError, match="1 MiB"):
            put(ledger, record(1, results=results))

    def test_only_done_has_an_index_of_its_own(self, ledger, files):
        put(ledger, record(1, results=beats(State.DONE), deleted_at=NOW))
        stored = files.document(uri_to_file_id(uri(1))).get().to_dict()
        assert set(stored) - set(list_exempt_fields()) == {"done"}
        assert set(list_exempt_fields()) <= set(stored)


class TestIndexes:
    """The emulator needs no composite index, so the queries are held against the list here."""

    def needed(self, query: types.StructuredQuery) -> Index:
        """The index that serves a query: equalities first, then what it is ordered by."""
        filters = [f.field_filter for f in query.where.composite_filter.filters]
        ops = types.StructuredQuery.FieldFilter.Operator
        in_array = {ops.ARRAY_CONTAINS, ops.ARRAY_CONTAINS_ANY}
        equal = [f.field.field_path for f in filters if f.op in {ops.EQUAL, ops.IN, *in_array}]
        assert all((f.op in in_array) == (f.field.field_path in ("open", "done")) for f in filters)
        ranged = {f.field.field_path for f in filters} - set(equal)
        order = [o.field.field_path for o in query.order_by]
        assert ranged <= set(order[:1])
        return Index((*equal, *order))

    def test_each_query_of_find_has_its_index(self, proxy, ledger):
        for deleted in (None, False, True):
            for term in (None, PENDING, format_term("energy", "0" * 12, State.FAILED)):
                query = Query(prefix="gs://a", open=term, deleted=deleted)
                ledger.find(query, after="gs://a/b")
                ledger.find(query)
        requests = map(types.RunQueryRequest.deserialize, proxy.requests["RunQuery"])
        needed = {self.needed(r.structured_query) for r in requests}
        assert needed == set(build_indexes())

    def test_each_query_of_count_has_its_index(self, proxy, ledger):
        ledger.count(GRAPH.accepted)
        requests = map(
            types.RunAggregationQueryRequest.deserialize, proxy.requests["RunAggregationQuery"]
        )
        queries = [r.structured_aggregation_query.structured_query for r in requests]
        assert {self.needed(q) for q in queries} == {*build_indexes(), Index(("done",))}


class TestFormat:
    def test_the_ledger_of_a_later_version_is_refused(self, ledger, firestore_url, project):
        client = firestore.Client(project=project)
        client.document("segue", "ledger").update({"format": 3})
        client.close()
        message = f"the ledger {firestore_url} has format 3, this version of Segue reads format 2;"
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=message):
                FirestoreLedger(firestore_url).read([uri(1)])

    @pytest.mark.parametrize(
        ("url", "another"),
        [
            ("firestore://{}", "segue-2"),
            ("firestore://{}/(default)", "segue-2"),
            ("firestore://{}/music", "music-2"),
        ],
    )
    def test_a_new_one_is_another_database(self, proxy, project, url, another):
        name = url.rpartition("/")[2] if "/" in url[12:] else "(default)"
        client = firestore.Client(project=project, database=name)
        client.collection("files").document("0").set({"uri": uri(1), "generation": 1})
        client.close()
        with pytest.raises(ConfigurationError) as raised:
            put(FirestoreLedger(url.format(project)), record(1))
        assert f"SEGUE_LEDGER=firestore://{project}/{another}, " in str(raised.value)
        assert f'database = "{another}"' in str(raised.value)
        assert written_by(proxy) == 0


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
