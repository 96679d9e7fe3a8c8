"""What a backfill reads: listings, files of URIs, and the ledger."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from segue.adapters.connect import connect_ledger
from segue.errors import ConfigurationError
from segue.ingest.catalogue import EXCLUDED, NOT_INCLUDED, MediaFilter
from segue.model.graph import parse_graph
from segue.model.ledger import Change
from segue.model.media_file import MediaFile, parse_prefix
from segue.model.record import Failure, State
from segue.model.transitions import Result, arrive, claim, delete, settle
from segue.reports.job_states import count_jobs
from segue_pipelines.options import parse_pipeline_options
from segue_pipelines.sources import (
    MAX_CHUNK,
    LedgerQuery,
    Selection,
    check_list,
    count_files,
    is_in_sample,
    list_files,
    query_files,
    read_uris,
    split_into_chunks,
)
from segue_support.ledger import MemoryLedger

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def catalogue(tmp_path):
    folder = tmp_path / "catalogue"
    for name in ("a.wav", "b.mp3", "deep/er/c.FLAC", "deep/ d é.ogg", "notes.txt", "deep.wav"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


class Reported:
    """What was reported as left out."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}  # the last part of a name → reason

    def report(self, uri: str, reason: str, explanation: str) -> None:
        assert explanation
        self.reasons[uri.rpartition("/")[2]] = str(reason)


def names(selection: Selection) -> list[str]:
    return [m.uri.rpartition("catalogue/")[2] for m in list_files(selection)]


def test_a_folder_is_listed_in_order_and_only_media_are_taken(catalogue):
    selection = Selection(
        prefix=parse_prefix(str(catalogue)),
        media_filter=MediaFilter(include=("*.wav", "*.flac", "*.mp3", "*.ogg")),
    )
    assert names(selection) == ["a.wav", "b.mp3", "deep.wav", "deep/ d é.ogg", "deep/er/c.FLAC"]


def test_a_prefix_is_a_file_or_a_folder_and_not_the_beginning_of_a_name(catalogue):
    (catalogue / "b.mp3.bak").write_bytes(b"x")
    uri = parse_prefix(str(catalogue))
    assert names(Selection(prefix=f"{uri}deep")) == ["deep/ d é.ogg", "deep/er/c.FLAC"]
    assert names(Selection(prefix=f"{uri}deep/")) == ["deep/ d é.ogg", "deep/er/c.FLAC"]
    assert names(Selection(prefix=f"{uri}b.mp3")) == ["b.mp3"]
    assert names(Selection(prefix=f"{uri}de")) == []


def test_what_segue_made_itself_is_left_out(catalogue):
    selection = Selection(
        prefix=parse_prefix(str(catalogue)),
        media_filter=MediaFilter(excluded=(parse_prefix(f"{catalogue}/deep"),)),
    )
    assert names(selection) == ["a.wav", "b.mp3", "deep.wav", "notes.txt"]


def test_media_that_cannot_be_processed_are_reported(catalogue):
    for name in (b"\xff.wav", b"\xff.txt"):
        with open(bytes(catalogue) + b"/" + name, "wb"):
            pass
    os.mkfifo(catalogue / "radio.wav")
    os.mkfifo(catalogue / "pipe")
    selection = Selection(
        prefix=parse_prefix(str(catalogue)), media_filter=MediaFilter(include=("*.wav",))
    )
    reported = Reported()
    found = list_files(selection, report=reported.report)
    assert [m.uri.rpartition("/")[2] for m in found] == ["a.wav", "deep.wav"]
    assert reported.reasons == {"radio.wav": "special_file", "\udcff.wav": "not_utf8"}


def test_names_that_match_no_pattern_are_passed_over_one_by_one(catalogue):
    (catalogue / "c.opus").write_bytes(b"x")
    own = parse_prefix(f"{catalogue}/deep")
    media_filter = MediaFilter(include=("*.wav",), exclude=("*/DEEP.*",), excluded=(own,))
    passed: dict[str, str] = {}
    selection = Selection(prefix=parse_prefix(str(catalogue)), media_filter=media_filter)
    found = list(list_files(selection, pass_over=passed.__setitem__))
    assert [m.uri.rpartition("/")[2] for m in found] == ["a.wav"]
    assert {name.rpartition("/")[2]: reason for name, reason in passed.items()} == {
        "b.mp3": NOT_INCLUDED,
        "c.opus": NOT_INCLUDED,
        "deep.wav": EXCLUDED,
        "notes.txt": NOT_INCLUDED,
    }


def test_a_file_that_is_named_and_is_not_media_is_reported(catalogue):
    (catalogue / "notes.txt-2").mkdir()
    os.mkfifo(catalogue / "notes.txt-2/radio.wav")
    os.mkfifo(catalogue / "notes.txt-radio.wav")
    media_filter = MediaFilter(include=("*.wav",))
    for name, expected in (("notes.txt", {"notes.txt": "not_media"}), ("deep", {})):
        selection = Selection(
            prefix=f"{parse_prefix(str(catalogue))}{name}", media_filter=media_filter
        )
        reported = Reported()
        assert list(list_files(selection, report=reported.report)) == []
        assert reported.reasons == expected


def test_a_limit_takes_the_first_and_reads_no_further(catalogue):
    assert names(Selection(prefix=parse_prefix(str(catalogue)), limit=2)) == ["a.wav", "b.mp3"]


def test_a_bucket_is_a_prefix_uri_all_its_objects():
    assert parse_prefix("gs://bucket") == "gs://bucket/"
    assert parse_prefix("gs://bucket/a/b") == "gs://bucket/a/b"


def test_a_larger_sample_holds_a_smaller_one_and_has_its_share():
    uris = [f"gs://bucket/{i}.wav" for i in range(20_000)]
    small = {u for u in uris if is_in_sample(u, 0.01)}
    large = {u for u in uris if is_in_sample(u, 0.1)}
    assert small < large
    # A binomial of n = 20,000: six standard deviations are 85 for 1 % and 255 for 10 %.
    assert abs(len(small) - 200) < 85
    assert abs(len(large) - 2000) < 255
    assert all(is_in_sample(u, 1.0) for u in uris)
    assert not any(is_in_sample(u, 0.0) for u in uris)


def test_chunks_are_small_at_first_and_hold_everything_in_order():
    made = list(split_into_chunks(range(2000)))
    assert [len(c) for c in made[:4]] == [1, 2, 4, 8]
    assert max(len(c) for c in made) == MAX_CHUNK
    assert [i for c in made for i in c] == list(range(2000))


def test_a_list_of_uris_may_have_comments_paths_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("\ufeff# mine\n\ngs://bucket/a b.wav\n/music/c.wav \r\n", encoding="utf-8")
    assert list(read_uris(Selection(uris=str(path)))) == [
        "gs://bucket/a b.wav",
        "file:///music/c.wav",
    ]


def test_a_line_ends_only_at_a_line_feed(tmp_path):
    names = ["ls\u2028.wav", "nel\x85.wav", "vt\v.wav", "ff\f.wav", "cr\r.wav", "fs\x1c.wav"]
    path = tmp_path / "list.txt"
    path.write_bytes("\n".join(f"/music/{name}" for name in names).encode())
    assert list(read_uris(Selection(uris=str(path)))) == [f"file:///music/{n}" for n in names]


def test_a_list_that_is_separated_by_nuls_carries_every_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["new\nline.wav", " space ", "#1.wav", "\r", "~root", "a\u2028b.wav", "100%.wav"]
    path = tmp_path / "list"
    items = [*names, "gs://bucket/a\nb.wav", "file:///music/c.wav", ""]
    path.write_bytes("\0".join(items).encode())
    expected = [f"file://{tmp_path}/{name}" for name in names]
    expected += ["gs://bucket/a\nb.wav", "file:///music/c.wav"]
    assert list(read_uris(Selection(uris=str(path)))) == expected


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_names_of_a_list_that_cannot_be_media_are_reported(tmp_path, separator):
    path = tmp_path / "list"
    lines = [b"/music/a.wav", b"/music/caf\xe9.wav", b"/music/cover.jpg", b"gs://b/dir/"]
    path.write_bytes(separator.join(lines))
    selection = Selection(uris=str(path), media_filter=MediaFilter(include=("*.wav",)))
    reported = Reported()
    assert list(read_uris(selection, report=reported.report)) == ["file:///music/a.wav"]
    expected = {"caf\udce9.wav": "not_utf8", "cover.jpg": "not_media", "": "not_media"}
    assert reported.reasons == expected


def test_a_list_may_come_through_a_pipe_and_is_not_counted_then(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"/music/a.wav\n")
    os.close(writer)
    selection = Selection(uris=f"/dev/fd/{reader}")
    assert count_files(selection, "sqlite:///none", stop=lambda: False) is None
    assert list(read_uris(selection)) == ["file:///music/a.wav"]
    os.close(reader)


def test_a_list_that_is_utf16_or_is_missing_is_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("/music/a.wav".encode("utf-16"))
    with pytest.raises(ConfigurationError, match="UTF-16; save it as UTF-8"):
        list(read_uris(Selection(uris=str(path))))
    with pytest.raises(ConfigurationError, match="does not exist"):
        list(read_uris(Selection(uris=str(tmp_path / "none.txt"))))


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_a_file_that_a_list_names_twice_is_read_once(tmp_path, separator):
    path = tmp_path / "list"
    lines = [b"/music/a.wav", b"/music/b.wav", b"/music//x/../a.wav", b"file:///music/a.wav"]
    path.write_bytes(separator.join([*lines, b"/music/cover.jpg", b"/music/cover.jpg"]))
    selection = Selection(uris=str(path), media_filter=MediaFilter(include=("*.wav",)))
    reported: list[str] = []
    found = list(read_uris(selection, report=lambda uri, *_: reported.append(uri)))
    assert found == ["file:///music/a.wav", "file:///music/b.wav"]
    assert reported == ["file:///music/cover.jpg"]


def test_a_pipe_is_refused_if_other_processes_have_to_read_it(tmp_path):
    reader, writer = os.pipe()
    selection = Selection(uris=f"/dev/fd/{reader}")
    several = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    check_list(selection, parse_pipeline_options())
    with pytest.raises(ConfigurationError, match="is a pipe, which other processes"):
        check_list(selection, parse_pipeline_options(several))
    path = tmp_path / "list"
    path.touch()
    check_list(Selection(uris=str(path)), parse_pipeline_options(several))
    os.close(reader)
    os.close(writer)


def test_the_ledger_names_all_its_files_or_those_that_failed(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    graph = parse_graph('jobs: {a: {run: "m:f", needs: {m: source}, writes: application/json}}')
    ledger = connect_ledger(url)

    def recorded(media, state):
        def transition(_found):
            record, _ = arrive(None, media, NOW)
            record = claim(record, graph, ("a",), owner="me", now=NOW, lease_s=9)
            error = Failure(kind="timeout", type="T", message="m") if state == "failed" else None
            result = Result(job="a", state=State(state), error=error)
            return settle(record, graph, order=1, owner="me", results=[result], now=NOW)

        return Change(uri=media.uri, transition=transition)

    media = [MediaFile(uri=f"gs://bucket/{i:04}.wav", version="1", order=1) for i in range(2500)]
    ledger.change([recorded(m, "failed" if i % 100 == 0 else "done") for i, m in enumerate(media)])
    query = LedgerQuery(criterion="all", graph=graph, targets=("a",))
    everything = Selection(prefix="gs://bucket/", ledger=query)
    assert list(query_files(everything, url)) == media
    assert count_files(everything, url, stop=lambda: False) == 2500
    query = replace(query, criterion="failed")
    failed = list(query_files(Selection(prefix="gs://bucket", ledger=query), url))
    assert failed == media[::100]
    failed = list(query_files(Selection(prefix="gs://bucket/0100.wav", ledger=query), url))
    assert failed == [media[100]]
    ledger.close()


TEXT = """
jobs:
  a: {{run: "m:f", needs: {{m: source}}, writes: application/json, version: {a}}}
  b: {{run: "m:f", needs: {{x: a}}, writes: application/json}}
  c: {{run: "m:f", needs: {{m: source}}, writes: application/json}}
"""
THEN, TODAY = (parse_graph(TEXT.format(a=version)) for version in (1, 2))


def build_change(name: str, graph, **states: State) -> Change:
    media = MediaFile(uri=f"gs://bucket/{name}", version="1", order=1)

    def transition(found):
        record, _ = arrive(found, media, NOW)
        record = claim(record, graph, states, owner="me", now=NOW, lease_s=9)
        error = Failure(kind="timeout", type="T", message="m")
        results = [
            Result(job=job, state=state, error=error if state is State.FAILED else None)
            for job, state in states.items()
        ]
        return settle(record, graph, order=1, owner="me", results=results, now=NOW)

    return Change(uri=media.uri, transition=transition)


@pytest.fixture
def ledger():
    ledger = MemoryLedger()
    done, failed = State.DONE, State.FAILED
    gone = build_change("7 gone", TODAY, a=failed)
    changes = [
        build_change("1 all", TODAY, a=done, b=done),
        build_change("2 old", THEN, a=done, b=done),
        build_change("3 half", TODAY, a=done),
        build_change("4 failed", TODAY, a=done, b=failed),
        build_change("5 twice", TODAY, a=failed, b=failed),
        build_change("6 beside", TODAY, c=failed),
        gone,
        build_change("8 failed now", THEN, a=done, b=done),
    ]
    ledger.change(changes)
    ledger.change([build_change("8 failed now", TODAY, a=done, b=failed)])
    ledger.change([Change(uri=gone.uri, transition=lambda r: delete(r, r.media, NOW))])
    return ledger


LAST = ("5 twice", "6 beside", "8 failed now")


@pytest.mark.parametrize(
    ("what", "targets", "found"),
    [
        ("failed", ("b",), ["4 failed", "5 twice", "8 failed now"]),
        ("failed", ("b", "c"), ["4 failed", "5 twice", "6 beside", "8 failed now"]),
        ("stale", ("b",), ["2 old", "8 failed now"]),
        ("missing", ("b",), ["2 old", "3 half", "6 beside"]),
        ("all", ("b",), [*("1 all", "2 old", "3 half", "4 failed"), *LAST]),
    ],
)
def test_only_what_lacks_something_is_found_and_once(ledger, what, targets, found):
    query = LedgerQuery(criterion=what, graph=TODAY, targets=targets)
    names = [r.uri.removeprefix("gs://bucket/") for r in query.find_records(ledger, "gs://bucket/")]
    assert names == found


@pytest.mark.parametrize("job", TODAY.jobs)
def test_as_many_files_are_found_as_the_status_counts(ledger, job):
    queued = build_change("9 queued", TODAY, a=State.QUEUED, b=State.QUEUED)
    ledger.change([queued])
    counts = count_jobs(ledger, TODAY).jobs[job]

    def count(criterion: str) -> int:
        query = LedgerQuery(criterion=criterion, graph=TODAY, targets=(job,))
        return len(list(query.find_records(ledger, "gs://bucket/")))

    assert count("stale") == counts["stale"]
    assert count("missing") == counts["missing"] + counts["queued"]


def test_only_what_is_below_the_prefix_is_found(ledger):
    query = LedgerQuery(criterion="all", graph=TODAY, targets=("b",))
    found = query.find_records(ledger, "gs://bucket/3 half")
    assert [r.uri for r in found] == ["gs://bucket/3 half"]
    assert list(query.find_records(ledger, "gs://bucket/3")) == []
