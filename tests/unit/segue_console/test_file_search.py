"""Files are found a page at a time, and no page reads a whole catalogue."""

from __future__ import annotations

import pytest

from segue.errors import ConfigurationError
from segue.model.record import Entry, Failure, Record, State
from segue_console import file_search
from segue_console.file_search import FileSearch, find_files, list_folders
from segue_support.results import NOW


def put(writer, name: str, state: State | None = None, message: str = "") -> None:
    results = {}
    if state is not None:
        error = Failure(kind="timeout", type="E", message=message) if message else None
        entry = Entry(job="beats", state=state, order=1, error=error)
        results[writer.graph.fingerprints["beats"]] = entry
    record = Record(uri=writer.uri(name), version="1", order=1, arrived_at=NOW, results=results)
    writer.put(record)


def find_all(writer, **search) -> list[str]:
    """Follow all pages."""
    names, after = [], ""
    for _ in range(100):
        page = find_files(writer.ledger, writer.graph, FileSearch(**search, after=after))
        names += [record.uri.removeprefix(writer.uri("")) for record in page.records]
        if page.next is None:
            return names
        assert page.next > after, "a page leads on"
        after = page.next
    raise AssertionError("there is no end")


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    monkeypatch.setattr(file_search, "PAGE", 3)
    monkeypatch.setattr(file_search, "READ_AT_MOST", 10)


def test_pages_have_all_files_once(writer):
    names = [f"{n:03}.wav" for n in range(20)]
    for name in names:
        put(writer, name)
    assert find_all(writer) == names


def test_files_of_a_state_are_found_among_many_others(writer):
    for n in range(40):
        put(writer, f"{n:03}.wav", State.DONE if n % 2 else None)
    put(writer, "040.wav", State.FAILED, "too long")
    assert find_all(writer, job="beats", state="failed") == ["040.wav"]
    assert find_all(writer, job="beats", state="missing") == [
        f"{n:03}.wav" for n in range(0, 40, 2)
    ]
    assert len(find_all(writer, job="beats", state="done")) == 20


def test_a_page_reads_only_so_many_and_says_where_to_go_on(writer):
    for n in range(30):
        put(writer, f"{n:03}.wav")
    page = find_files(writer.ledger, writer.graph, FileSearch(state="done"))
    assert (page.records, page.read) == ((), 10)
    assert page.next == writer.uri("009.wav")


def test_files_are_found_by_what_an_error_says(writer):
    put(writer, "a.wav", State.FAILED, "It took 5 s")
    put(writer, "b.wav", State.FAILED, "It was silent")
    assert find_all(writer, error="TOOK") == ["a.wav"]
    assert find_all(writer, error="timeout") == ["a.wav", "b.wav"]
    assert find_all(writer, error="none") == []


@pytest.mark.parametrize("prefix", ["b", "{music}/b", "file://{music}/b"])
def test_a_prefix_is_a_path_or_the_start_of_a_uri(writer, prefix, monkeypatch):
    for name in ("a.wav", "b1.wav", "b2.wav", "c.wav"):
        put(writer, name)
    music = f"{writer.folder}/music"
    monkeypatch.chdir(music)
    assert find_all(writer, prefix=prefix.format(music=music)) == ["b1.wav", "b2.wav"]


@pytest.mark.parametrize("search", [{"job": "none"}, {"state": "none"}, {"job": "../beats"}])
def test_what_does_not_exist_is_an_error(writer, search):
    with pytest.raises(ConfigurationError):
        find_files(writer.ledger, writer.graph, FileSearch(**search))


def test_the_folders_right_below_are_listed(writer):
    for name in ("a/1.wav", "a/2.wav", "b/c/1.wav", "b.wav", "z.wav"):
        put(writer, name)
    music = writer.uri("")
    assert list_folders(writer.ledger, writer.graph, music) == ([f"{music}a/", f"{music}b/"], False)
    assert list_folders(writer.ledger, writer.graph, f"{music}b") == ([f"{music}b/c/"], False)
    assert list_folders(writer.ledger, writer.graph, f"{music}none") == ([], False)


def test_without_a_prefix_the_first_folder_is_that_of_all_files(writer):
    for name in ("a/1.wav", "b/1.wav"):
        put(writer, name)
    music = writer.uri("")
    assert list_folders(writer.ledger, writer.graph, "") == ([f"{music}a/", f"{music}b/"], False)


def test_several_buckets_are_folders(writer):
    for uri in ("gs://one/a/1.wav", "gs://one/b/1.wav", "gs://two/c.wav"):
        writer.put(Record(uri=uri, version="1", order=1, arrived_at=NOW))
    assert list_folders(writer.ledger, writer.graph, "") == (["gs://one/", "gs://two/"], False)
    assert find_all(writer, prefix="gs://two") == ["gs://two/c.wav"]


def test_of_many_folders_the_first_are_listed(writer, monkeypatch):
    monkeypatch.setattr(file_search, "FOLDERS", 2)
    for name in "abcd":
        put(writer, f"{name}/1.wav")
    found, has_more = list_folders(writer.ledger, writer.graph, writer.uri(""))
    assert [uri[-2:] for uri in found] == ["a/", "b/"]
    assert has_more
