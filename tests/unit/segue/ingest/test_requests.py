"""What may be asked for, and who is notified of it."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError, MissingInput, SegueError
from segue.ingest.catalogue import MediaFilter
from segue.ingest.requests import (
    InvalidRequest,
    Request,
    RequestDocument,
    RequestReceipt,
    Requests,
    load_request,
    parse_request,
)
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.media_file import MediaFile
from segue.model.message import Message
from segue.model.message import decode_message as message_of
from segue.model.object_store import REMEDIES, LeftOutReason
from segue.model.transitions import arrive, delete
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GRAPH = parse_graph(
    """
include: ["*.wav"]
jobs:
  a: {run: "m:f", needs: {media: source}, writes: audio/flac}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
  c: {run: "m:f", needs: {x: a}, writes: application/json}
  d: {run: "m:f", needs: {media: source}, writes: application/json}
"""
)


class System:
    """Where requests are handed in, with a folder of music behind it."""

    def __init__(self, folder, *, with_catalogue: bool = True, page: int = 1000) -> None:
        self.music = connect_store(str(folder / "music"))
        self.artifacts = connect_store(str(folder / "artifacts"))
        self.ledger = MemoryLedger()
        self.queue = MemoryQueue()
        self.requests = Requests(
            graph=GRAPH,
            ledger=self.ledger,
            queue=self.queue,
            media_filter=MediaFilter(
                catalogue=f"{self.music.location}/" if with_catalogue else None,
                excluded=(f"{self.artifacts.location}/",),
                include=GRAPH.include,
            ),
            open_store=connect_store,
            artifacts=self.artifacts,
            clock=lambda: NOW,
            page=page,
        )

    def write(self, *names: str) -> list[str]:
        for name in names:
            self.music.create(name, b"sound", content_type="audio/wav", metadata={}, replace=True)
        return [self.music.uri(name) for name in names]

    def accept(self, **asked: object) -> RequestReceipt:
        return self.requests.accept(msgspec.convert(asked, Request))

    def media(self, name: str) -> MediaFile:
        found = self.music.stat(name)
        return MediaFile(uri=self.music.uri(name), generation=found.generation)

    @property
    def messages(self) -> list[Message]:
        return [message_of(envelope.data) for envelope in self.queue.queued.values()]


@pytest.fixture
def system(tmp_path) -> System:
    return System(tmp_path)


# --- what is asked ----------------------------------------------------------------------------


def test_a_target_is_asked_for_itself_on_the_lane_of_requests(system):
    [uri] = system.write("a.wav")
    accepted = system.accept(files=[uri], jobs=["b"])
    generation = system.music.stat("a.wav").generation
    assert accepted == RequestReceipt(request=accepted.request, targets=("b",), files=1)
    assert system.messages == [
        Message(
            uri=uri,
            generation=generation,
            job="b",
            targets=("b",),
            request=accepted.request,
            lane="requests",
        )
    ]


def test_without_jobs_all_of_the_graph_are_targets(system):
    accepted = system.accept(files=system.write("a.wav"))
    assert accepted.targets == ("a", "d", "b", "c")  # parents first
    assert [m.job for m in system.messages] == ["a", "d", "b", "c"]
    assert {m.targets for m in system.messages} == {("a", "d", "b", "c")}


def test_a_ping_walks_from_the_top_of_its_line(system):
    system.accept(files=system.write("a.wav"), jobs=["b"], ping=True)
    assert [(m.job, m.targets, m.ping) for m in system.messages] == [("a", ("b",), True)]


def test_force_is_for_the_named_jobs_alone(system):
    system.accept(files=system.write("a.wav"), jobs=["b"], force=True)
    assert [(m.job, m.targets, m.force) for m in system.messages] == [("b", ("b",), True)]


def test_force_with_parents_is_for_all_above_them_too(system):
    system.accept(files=system.write("a.wav"), jobs=["b"], force=True, parents=True)
    assert [(m.job, m.force) for m in system.messages] == [("a", True), ("b", True)]


def test_a_file_of_which_no_event_has_come_is_recorded(system):
    [uri] = system.write("a.wav")
    system.accept(files=[uri], jobs=["b"])
    record = system.ledger.records[uri]
    assert (record.generation, record.size_bytes) == (system.media("a.wav").generation, 5)


def test_a_version_that_the_ledger_knows_to_be_newer_is_the_one_that_is_asked_for(system):
    [uri] = system.write("a.wav")
    newer = MediaFile(uri=uri, generation=2**62)
    system.ledger.change([Change(uri=uri, transition=lambda r: arrive(r, newer, NOW))])
    system.accept(files=[uri], jobs=["b"])
    assert [m.generation for m in system.messages] == [2**62]


def test_the_document_holds_the_request(system):
    [uri] = system.write("a.wav")
    accepted = system.accept(files=[uri], jobs=["c", "b"], force=True)
    assert load_request(system.artifacts, accepted.request) == RequestDocument(
        request=accepted.request, targets=("b", "c"), files=(uri,), force=True, made_at=NOW
    )


def test_ids_grow_with_time_and_are_never_the_same(system):
    uris = system.write("a.wav")
    first, again = system.accept(files=uris).request, system.accept(files=uris).request
    object.__setattr__(system.requests, "clock", lambda: NOW + timedelta(microseconds=1))
    assert first != again
    assert system.accept(files=uris).request > max(first, again)


# --- pages and repetitions --------------------------------------------------------------------


def test_a_prefix_is_taken_page_by_page(tmp_path):
    system = System(tmp_path, page=2)
    uris = system.write("a/1.wav", "a/2.wav", "a/3.txt", "a/4.wav", "b/5.wav")
    asked = {"prefix": system.music.uri("a/"), "jobs": ["b"]}
    first = system.accept(**asked)
    assert (first.files, first.ignored) == (2, {})
    second = system.accept(**asked, request=first.request, after=first.after)
    assert (second.request, second.files) == (first.request, 1)
    third = system.accept(**asked, request=first.request, after=second.after)
    assert (third.files, third.after) == (0, None)
    assert [m.uri for m in system.messages] == [uris[0], uris[1], uris[3]]


def test_the_same_call_with_its_id_changes_nothing_but_notifies_again(system):
    asked = {"files": system.write("a.wav"), "jobs": ["b"]}
    first = system.accept(**asked)
    records = system.ledger.records
    assert system.accept(**asked, request=first.request) == first
    assert system.ledger.records == records
    assert len(system.messages) == 2
    assert system.messages[0] == system.messages[1]


def test_an_id_that_was_not_given_here_is_refused(system):
    """It could lie in the future, and outdo every later request with force."""
    with pytest.raises(InvalidRequest, match="no request 9999"):
        system.accept(files=system.write("a.wav"), jobs=["b"], request="9999", force=True)
    assert system.messages == []


def test_a_prefix_does_not_reach_into_a_folder_beside_its_own(tmp_path):
    system = System(tmp_path, page=2)
    uris = system.write("a/b.wav", "a/c.wav", "a/d.wav", "a-private/e.wav", "a.wav")
    asked = {"prefix": system.music.uri("a"), "jobs": ["b"]}
    first = system.accept(**asked)
    system.accept(**asked, request=first.request, after=first.after)
    assert [m.uri for m in system.messages] == uris[:3]


def test_what_a_prefix_leaves_out_is_told(system, tmp_path):
    system.write("a.wav")
    for name in (b"caf\xe9.wav", b"caf\xe9.txt"):
        with open(os.fsencode(tmp_path / "music") + b"/" + name, "wb"):
            pass
    os.mkfifo(tmp_path / "music/radio.wav")
    accepted = system.accept(prefix=system.music.uri(""), jobs=["b"])
    assert accepted.files == 1
    assert accepted.ignored == {
        system.music.uri("caf\\xe9.wav"): REMEDIES[LeftOutReason.NOT_UTF8],
        system.music.uri("radio.wav"): REMEDIES[LeftOutReason.SPECIAL_FILE],
    }


def test_a_prefix_that_only_begins_like_the_catalogue_is_refused(system):
    for prefix in (system.music.location[:-1], f"{system.music.location}-2/"):
        with pytest.raises(InvalidRequest, match="not below the catalogue"):
            system.accept(prefix=prefix, jobs=["b"])


def test_a_later_page_cannot_ask_for_something_else(system):
    asked = {"prefix": system.music.uri(""), "jobs": ["b"]}
    system.write("a.wav")
    given_id = system.accept(**asked).request
    for other in ({"jobs": ["c"]}, {"force": True}, {"prefix": system.music.uri("a")}):
        with pytest.raises(InvalidRequest, match="something else"):
            system.accept(**{**asked, **other}, request=given_id)


def test_a_prefix_above_the_catalogue_means_the_catalogue(system):
    [uri] = system.write("a.wav")
    connect_store(system.music.location.removesuffix("/music")).create(
        "other/b.wav", b"", content_type="audio/wav", metadata={}
    )
    accepted = system.accept(prefix=system.music.location.removesuffix("/music"), jobs=["b"])
    assert accepted.files == 1
    assert [m.uri for m in system.messages] == [uri]
    assert load_request(system.artifacts, accepted.request).prefix == system.music.uri("")


def test_a_whole_bucket_can_be_named_with_or_without_a_slash(tmp_path):
    """Without one, the name of another bucket would begin with it."""
    system = System(tmp_path, with_catalogue=False)
    seen = []

    def opened(location):
        seen.append(location)
        return system.music

    object.__setattr__(system.requests, "open_store", opened)
    accepted = system.accept(prefix="gs://music", jobs=["b"])
    assert seen == ["gs://music"]
    assert load_request(system.artifacts, accepted.request).prefix == "gs://music/"


# --- what is ignored, and what is refused -----------------------------------------------------


def test_what_is_no_media_or_not_there_is_ignored_with_a_reason(system, tmp_path):
    [there, text, deleted] = system.write("a.wav", "b.txt", "c.wav")
    version = system.media("c.wav")
    system.ledger.change([Change(uri=deleted, transition=lambda r: delete(r, version, NOW))])
    gone, elsewhere = system.music.uri("gone.wav"), f"file://{tmp_path}/other/a.wav"
    out = system.music.uri("../other/a.wav")
    named = [there, there, text, deleted, gone, elsewhere, out, "a.wav", ""]
    accepted = system.accept(files=named, jobs=["b"])
    assert accepted.files == 1
    assert [m.uri for m in system.messages] == [there]
    assert set(accepted.ignored) == set(named) - {there}
    assert accepted.ignored[gone] == "there is no such object"
    assert accepted.ignored[deleted] == "it was deleted"
    assert "not below the catalogue" in accepted.ignored[elsewhere]
    assert "not a URI" in accepted.ignored["a.wav"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "either files or a prefix"),
        ({"files": ["gs://m/a.wav"], "prefix": "gs://m/"}, "either files or a prefix"),
        (
            {"prefix": "gs://m/", "jobs": ["x"]},
            "'x' is not a job of the graph; name some of a, d, b, c",
        ),
        ({"prefix": "gs://m/", "force": True}, "force is set, but no jobs are named"),
        ({"prefix": "gs://m/", "after": "a"}, "and the id that the first page"),
        ({"files": ["gs://m/a.wav"], "after": "a", "request": "1"}, "needs a prefix"),
        ({"files": ["gs://m/a.wav"] * 1001}, "1001 files are more than the 1000"),
        ({"prefix": "music/"}, "not a location"),
        ({"prefix": "gs://elsewhere/"}, "not below the catalogue"),
        ({"prefix": "file:///a/../b/"}, "'..' parts"),
        ({"prefix": "file:///a//"}, "empty"),
        ({"prefix": "file:///a\0"}, "NUL"),
        ({"files": ["gs://m/a.wav"], "request": "../../x"}, "not the id of a request"),
        ({"files": ["gs://m/a.wav"], "request": ""}, "not the id of a request"),
        ({"files": ["gs://m/a.wav"], "request": "x" * 101}, "not the id of a request"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_the_way_out(system, asked, reason):
    with pytest.raises(InvalidRequest, match=reason):
        system.accept(**asked)
    assert system.messages == []
    assert list(system.artifacts.list()) == []


def test_without_a_catalogue_a_place_that_is_none_is_the_fault_of_who_named_it(tmp_path):
    system = System(tmp_path, with_catalogue=False)

    def away(_location):
        raise ConfigurationError("the bucket does not exist; make it, or correct the location")

    object.__setattr__(system.requests, "open_store", away)
    with pytest.raises(InvalidRequest, match="bucket does not exist"):
        system.accept(prefix="gs://nowhere/", jobs=["b"])


def test_in_the_catalogue_a_place_that_cannot_be_looked_at_is_the_fault_of_the_set_up(system):
    def away(_location):
        raise ConfigurationError("the bucket does not exist; make it, or correct the location")

    object.__setattr__(system.requests, "open_store", away)
    with pytest.raises(ConfigurationError, match="bucket does not exist") as raised:
        system.accept(prefix=system.music.uri(""), jobs=["b"])
    assert not isinstance(raised.value, InvalidRequest)


def test_a_name_that_no_file_can_have_is_the_callers_fault(system):
    [uri] = system.write("a.wav")
    long = system.music.uri("n" * 300 + ".wav")
    accepted = system.accept(files=[uri, long], jobs=["b"])
    assert (accepted.files, accepted.ignored) == (1, {long: "there is no such object"})
    with pytest.raises(InvalidRequest):
        system.accept(prefix=system.music.uri("n" * 300 + "/a"), jobs=["b"])


def test_a_request_that_nobody_made_is_not_found(system):
    with pytest.raises(MissingInput):
        load_request(system.artifacts, "20260102T030405.000000Z-00000000")


@pytest.mark.parametrize("data", [b"{", b'{"request": "\xff"}', b"[" * 100_000, b"{}"])
def test_a_document_that_cannot_be_read_says_so(system, data):
    system.artifacts.create("_requests/x.json", data, content_type="application/json", metadata={})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_request(system.artifacts, "x")


# --- the bytes of a request -------------------------------------------------------------------


def test_a_request_is_read_from_json():
    asked = parse_request(b'{"files": ["gs://b/a.wav"], "jobs": ["b"], "force": true}')
    assert asked == Request(files=("gs://b/a.wav",), jobs=("b",), force=True)


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{", b'{"file": "x"}', b'{"jobs": "b"}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_request_is_refused_with_an_example(data):
    with pytest.raises(InvalidRequest, match="write JSON such as"):
        parse_request(data)


texts = st.text(max_size=20)
ROOT = "root:"  # stands for the folder of the catalogue, which is made later
uris = texts | st.builds("{}{}".format, st.sampled_from(["file:///", "gs://m/", ROOT]), texts)
requests = st.fixed_dictionaries(
    {},
    optional={
        "files": st.lists(uris, max_size=4),
        "prefix": uris | st.none(),
        "jobs": st.lists(texts | st.sampled_from("abcd"), max_size=3),
        "force": st.booleans(),
        "parents": st.booleans(),
        "ping": st.booleans(),
        "request": texts | st.none(),
        "after": texts | st.none(),
    },
)


@given(asked=requests)
def test_any_request_is_taken_or_refused_and_never_leaves_the_catalogue(asked, tmp_path_factory):
    system = System(tmp_path_factory.mktemp("system"))
    system.write("a.wav")
    try:
        text = msgspec.json.encode(asked).decode().replace(ROOT, f"{system.music.location}/")
        accepted = system.requests.accept(parse_request(text.encode()))
    except InvalidRequest as error:
        assert str(error)  # noqa: PT017 - refused in words
    except SegueError as error:
        pytest.fail(f"blamed on the set-up: {error!r}")
    else:
        assert accepted.files <= 1
    assert {m.uri for m in system.messages} <= {system.music.uri("a.wav")}
