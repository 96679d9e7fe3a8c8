"""What may be asked for, and who is told of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.adapters.connect import connect_store
from segue.errors import ConfigurationError, MissingInput, SegueError
from segue.ingest.arrivals import Intake
from segue.ingest.requests import Accepted, Asked, InvalidRequest, Request, Requests, decode, find
from segue.model.graph import parse
from segue.model.ledger import Change, arrive, delete
from segue.model.media_file import MediaFile
from segue.model.message import Message
from segue.model.message import decode as message_of
from segue_support.ledger import MemoryLedger
from segue_support.queue import MemoryQueue

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GRAPH = parse(
    """
include: ["*.wav"]
jobs:
  a: {run: "m:f", needs: {media: source}, writes: audio/flac}
  b: {run: "m:f", needs: {x: a}, writes: application/json}
  c: {run: "m:f", needs: {x: a}, writes: application/json}
  d: {run: "m:f", needs: {media: source}, writes: application/json}
"""
)


class Desk:
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
            intake=Intake.of(
                GRAPH,
                catalogue=self.music.location if with_catalogue else None,
                ours=[self.artifacts.location],
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

    def take(self, **asked: object) -> Accepted:
        return self.requests.take(msgspec.convert(asked, Request))

    def media(self, name: str) -> MediaFile:
        found = self.music.stat(name)
        return MediaFile(uri=self.music.uri(name), generation=found.generation)

    @property
    def messages(self) -> list[Message]:
        return [message_of(letter.data) for letter in self.queue.queued.values()]


@pytest.fixture
def desk(tmp_path) -> Desk:
    return Desk(tmp_path)


# --- what is asked ----------------------------------------------------------------------------


def test_a_target_is_asked_for_itself_on_the_lane_of_requests(desk):
    [uri] = desk.write("a.wav")
    accepted = desk.take(files=[uri], jobs=["b"])
    generation = desk.music.stat("a.wav").generation
    assert accepted == Accepted(request=accepted.request, targets=("b",), files=1)
    assert desk.messages == [
        Message(
            uri=uri,
            generation=generation,
            job="b",
            targets=("b",),
            request=accepted.request,
            lane="requests",
        )
    ]


def test_without_jobs_all_of_the_graph_are_targets(desk):
    accepted = desk.take(files=desk.write("a.wav"))
    assert accepted.targets == ("a", "d", "b", "c")  # parents first
    assert [m.job for m in desk.messages] == ["a", "d", "b", "c"]
    assert {m.targets for m in desk.messages} == {("a", "d", "b", "c")}


def test_a_ping_walks_from_the_top_of_its_line(desk):
    desk.take(files=desk.write("a.wav"), jobs=["b"], ping=True)
    assert [(m.job, m.targets, m.ping) for m in desk.messages] == [("a", ("b",), True)]


def test_force_is_for_the_named_jobs_alone(desk):
    desk.take(files=desk.write("a.wav"), jobs=["b"], force=True)
    assert [(m.job, m.targets, m.force) for m in desk.messages] == [("b", ("b",), True)]


def test_force_with_parents_is_for_all_above_them_too(desk):
    desk.take(files=desk.write("a.wav"), jobs=["b"], force=True, parents=True)
    assert [(m.job, m.force) for m in desk.messages] == [("a", True), ("b", True)]


def test_a_file_of_which_no_event_has_come_is_recorded(desk):
    [uri] = desk.write("a.wav")
    desk.take(files=[uri], jobs=["b"])
    record = desk.ledger.records[uri]
    assert (record.generation, record.size_bytes) == (desk.media("a.wav").generation, 5)


def test_a_version_that_the_ledger_knows_to_be_newer_is_the_one_that_is_asked_for(desk):
    [uri] = desk.write("a.wav")
    newer = MediaFile(uri=uri, generation=2**62)
    desk.ledger.change([Change(uri=uri, transition=lambda r: arrive(r, newer, NOW))])
    desk.take(files=[uri], jobs=["b"])
    assert [m.generation for m in desk.messages] == [2**62]


def test_the_document_tells_what_was_asked_for(desk):
    [uri] = desk.write("a.wav")
    accepted = desk.take(files=[uri], jobs=["c", "b"], force=True)
    assert find(desk.artifacts, accepted.request) == Asked(
        request=accepted.request, targets=("b", "c"), files=(uri,), force=True, made_at=NOW
    )


def test_ids_grow_with_time_and_are_never_the_same(desk):
    uris = desk.write("a.wav")
    first, again = desk.take(files=uris).request, desk.take(files=uris).request
    object.__setattr__(desk.requests, "clock", lambda: NOW + timedelta(microseconds=1))
    assert first != again
    assert desk.take(files=uris).request > max(first, again)


# --- pages and repetitions --------------------------------------------------------------------


def test_a_prefix_is_taken_page_by_page(tmp_path):
    desk = Desk(tmp_path, page=2)
    uris = desk.write("a/1.wav", "a/2.wav", "a/3.txt", "a/4.wav", "b/5.wav")
    asked = {"prefix": desk.music.uri("a/"), "jobs": ["b"]}
    first = desk.take(**asked)
    assert (first.files, first.ignored) == (2, {})
    second = desk.take(**asked, request=first.request, after=first.after)
    assert (second.request, second.files) == (first.request, 1)
    third = desk.take(**asked, request=first.request, after=second.after)
    assert (third.files, third.after) == (0, None)
    assert [m.uri for m in desk.messages] == [uris[0], uris[1], uris[3]]


def test_the_same_call_with_its_id_changes_nothing_but_tells_again(desk):
    asked = {"files": desk.write("a.wav"), "jobs": ["b"]}
    first = desk.take(**asked)
    records = desk.ledger.records
    assert desk.take(**asked, request=first.request) == first
    assert desk.ledger.records == records
    assert len(desk.messages) == 2
    assert desk.messages[0] == desk.messages[1]


def test_an_id_that_was_not_given_here_is_refused(desk):
    """It could lie in the future, and outdo every later request with force."""
    with pytest.raises(InvalidRequest, match="no request 9999"):
        desk.take(files=desk.write("a.wav"), jobs=["b"], request="9999", force=True)
    assert desk.messages == []


def test_a_later_page_cannot_ask_for_something_else(desk):
    asked = {"prefix": desk.music.uri(""), "jobs": ["b"]}
    desk.write("a.wav")
    given_id = desk.take(**asked).request
    for other in ({"jobs": ["c"]}, {"force": True}, {"prefix": desk.music.uri("a")}):
        with pytest.raises(InvalidRequest, match="something else"):
            desk.take(**{**asked, **other}, request=given_id)


def test_a_prefix_above_the_catalogue_means_the_catalogue(desk):
    [uri] = desk.write("a.wav")
    connect_store(desk.music.location.removesuffix("/music")).create(
        "other/b.wav", b"", content_type="audio/wav", metadata={}
    )
    accepted = desk.take(prefix=desk.music.location.removesuffix("/music"), jobs=["b"])
    assert accepted.files == 1
    assert [m.uri for m in desk.messages] == [uri]
    assert find(desk.artifacts, accepted.request).prefix == desk.music.uri("")


def test_a_whole_bucket_can_be_named_with_or_without_a_slash(tmp_path):
    """Without one, the name of another bucket would begin with it."""
    desk = Desk(tmp_path, with_catalogue=False)
    seen = []

    def opened(location):
        seen.append(location)
        return desk.music

    object.__setattr__(desk.requests, "open_store", opened)
    accepted = desk.take(prefix="gs://music", jobs=["b"])
    assert seen == ["gs://music"]
    assert find(desk.artifacts, accepted.request).prefix == "gs://music/"


# --- what is ignored, and what is refused -----------------------------------------------------


def test_what_is_no_media_or_not_there_is_ignored_with_a_reason(desk, tmp_path):
    [there, text, deleted] = desk.write("a.wav", "b.txt", "c.wav")
    version = desk.media("c.wav")
    desk.ledger.change([Change(uri=deleted, transition=lambda r: delete(r, version, NOW))])
    gone, elsewhere = desk.music.uri("gone.wav"), f"file://{tmp_path}/other/a.wav"
    out = desk.music.uri("../other/a.wav")
    named = [there, there, text, deleted, gone, elsewhere, out, "a.wav", ""]
    accepted = desk.take(files=named, jobs=["b"])
    assert accepted.files == 1
    assert [m.uri for m in desk.messages] == [there]
    assert set(accepted.ignored) == set(named) - {there}
    assert accepted.ignored[gone] == "there is no such object"
    assert accepted.ignored[deleted] == "it was deleted"
    assert "not below the catalogue" in accepted.ignored[elsewhere]
    assert "no URI" in accepted.ignored["a.wav"]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({}, "either files or a prefix"),
        ({"files": ["gs://m/a.wav"], "prefix": "gs://m/"}, "either files or a prefix"),
        (
            {"prefix": "gs://m/", "jobs": ["x"]},
            "'x' is no job of the graph; name some of a, d, b, c",
        ),
        ({"prefix": "gs://m/", "force": True}, "force computes again what is named"),
        ({"prefix": "gs://m/", "after": "a"}, "needs the id"),
        ({"files": ["gs://m/a.wav"], "after": "a", "request": "1"}, "one of a prefix"),
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
def test_what_cannot_be_asked_for_is_refused_with_the_way_out(desk, asked, reason):
    with pytest.raises(InvalidRequest, match=reason):
        desk.take(**asked)
    assert desk.messages == []
    assert list(desk.artifacts.list()) == []


def test_without_a_catalogue_a_place_that_is_none_is_the_fault_of_who_named_it(tmp_path):
    desk = Desk(tmp_path, with_catalogue=False)

    def away(_location):
        raise ConfigurationError("the bucket does not exist; make it, or correct the location")

    object.__setattr__(desk.requests, "open_store", away)
    with pytest.raises(InvalidRequest, match="bucket does not exist"):
        desk.take(prefix="gs://nowhere/", jobs=["b"])


def test_in_the_catalogue_a_place_that_cannot_be_looked_at_is_the_fault_of_the_set_up(desk):
    def away(_location):
        raise ConfigurationError("the bucket does not exist; make it, or correct the location")

    object.__setattr__(desk.requests, "open_store", away)
    with pytest.raises(ConfigurationError, match="bucket does not exist") as raised:
        desk.take(prefix=desk.music.uri(""), jobs=["b"])
    assert not isinstance(raised.value, InvalidRequest)


def test_a_request_that_nobody_made_is_not_found(desk):
    with pytest.raises(MissingInput):
        find(desk.artifacts, "20260102T030405.000000Z-00000000")


def test_a_document_that_cannot_be_read_says_so(desk):
    desk.artifacts.create("_requests/x.json", b"{", content_type="application/json", metadata={})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        find(desk.artifacts, "x")


# --- the bytes of a request -------------------------------------------------------------------


def test_a_request_is_read_from_json():
    asked = decode(b'{"files": ["gs://b/a.wav"], "jobs": ["b"], "force": true}')
    assert asked == Request(files=("gs://b/a.wav",), jobs=("b",), force=True)


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{", b'{"file": "x"}', b'{"jobs": "b"}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_request_is_refused_with_an_example(data):
    with pytest.raises(InvalidRequest, match="write JSON such as"):
        decode(data)


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
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.write("a.wav")
    try:
        text = msgspec.json.encode(asked).decode().replace(ROOT, f"{desk.music.location}/")
        accepted = desk.requests.take(decode(text.encode()))
    except InvalidRequest as error:
        assert str(error)  # noqa: PT017 - refused in words
    except SegueError as error:
        pytest.fail(f"blamed on the set-up: {error!r}")
    else:
        assert accepted.files <= 1
    assert {m.uri for m in desk.messages} <= {desk.music.uri("a.wav")}
