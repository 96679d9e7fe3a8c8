"""The contract of object stores: one suite for folders and for Cloud Storage.

fake-gcs-server breaks one promise of the real service, and the test of it says so: it ignores the
generation that a deletion is bound to.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import msgspec
import pytest

from segue.adapters.connect import connect_store
from segue.adapters.folder import SIDECAR, FolderStore, _find_rest_of_tick, _list_mounted_devices
from segue.errors import ConfigurationError, MissingInput, Superseded
from segue.model.media_file import FileStat, MediaFile
from segue.model.object_store import LeftOutReason, list_objects, split_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from segue.model.object_store import ObjectStore

JSON = "application/json"


@dataclass
class Depot:
    """A store that can be opened several times."""

    open: Callable[[], ObjectStore]
    forgets_generations: bool = False  # in deletions


def _folder(request: pytest.FixtureRequest) -> Depot:
    folder = request.getfixturevalue("tmp_path") / "depot"
    return Depot(open=lambda: connect_store(str(folder)))


def _sidecars(request: pytest.FixtureRequest) -> Depot:
    folder = request.getfixturevalue("tmp_path") / "depot"
    return Depot(open=lambda: FolderStore(str(folder), metadata="sidecar"))


def _named(request: pytest.FixtureRequest) -> Depot:
    """Behave like a file system without unnamed files, such as a network file system."""
    folder = request.getfixturevalue("tmp_path") / "depot"

    def opened() -> FolderStore:
        store = FolderStore(str(folder))
        store._has_o_tmpfile = False
        return store

    return Depot(open=opened)


def _bucket(request: pytest.FixtureRequest) -> Depot:
    location = f"gs://{request.getfixturevalue('bucket')}"
    return Depot(open=lambda: connect_store(location), forgets_generations=True)


def _prefix(request: pytest.FixtureRequest) -> Depot:
    location = f"gs://{request.getfixturevalue('bucket')}/acme/masters"
    return Depot(open=lambda: connect_store(location), forgets_generations=True)


EMULATED = pytest.mark.xdist_group("storage")  # with --dist loadgroup, one emulator serves all
DEPOTS = [
    pytest.param(_folder, id="folder"),
    pytest.param(_sidecars, id="sidecars"),
    pytest.param(_named, id="named"),
    pytest.param(_bucket, id="bucket", marks=EMULATED),
    pytest.param(_prefix, id="prefix", marks=EMULATED),
]


@pytest.fixture(params=DEPOTS)
def depot(request: pytest.FixtureRequest) -> Depot:
    return request.param(request)


@pytest.fixture
def store(depot: Depot) -> Iterator[ObjectStore]:
    opened = depot.open()
    yield opened
    opened.close()


def put(
    store: ObjectStore,
    name: str,
    data: bytes = b"sound",
    *,
    replace: bool = False,
    generation: int | None = None,
    **metadata,
):
    return store.create(
        name, data, content_type=JSON, metadata=metadata, replace=replace, generation=generation
    )


def identify(store: ObjectStore, name: str) -> MediaFile:
    return store.identify(name).to_media_file(store.uri(name))


def fetch(store: ObjectStore, media: MediaFile, folder: Path) -> str:
    name = media.uri.removeprefix(store.uri(""))
    return store.fetch(name, version=media.version, stat=media.stat, folder=str(folder))


def names(store: ObjectStore, prefix: str = "", after: str = "") -> list[str]:
    return [o.name for o in store.list(prefix, after=after)]


# In the order of their UTF-8 bytes: '/' sorts between '.' and '0', which a walk through folders
# easily gets wrong; the last two have the opposite order in UTF-16.
NAMES = [
    "#1 hit",
    "100%",
    "?",
    "a b",
    "a%20b",
    "a&b=c",
    "a+b",
    "a-b",
    "a.b",
    "a/b c/d",
    "a/b/c",
    "a0",
    "ab",
    "b.c/d",
    "b/c",
    "été",
    "\ufb01",
    "\U0001f3b5",
]


class TestCreate:
    def test_what_was_written_is_read_back(self, store):
        assert put(store, "beats/0a/song.flac/1.json", b'{"bpm": 120}', segue='{"job": "beats"}')
        assert store.read("beats/0a/song.flac/1.json") == b'{"bpm": 120}'
        found = store.stat("beats/0a/song.flac/1.json")
        assert found.name == "beats/0a/song.flac/1.json"
        assert found.size_bytes == 12
        assert found.content_type == JSON
        assert found.metadata == {"segue": '{"job": "beats"}'}

    def test_a_second_writer_changes_nothing(self, store):
        assert put(store, "a", b"first", by="one")
        before = store.stat("a")
        assert not put(store, "a", b"second", by="two")
        assert store.stat("a") == before
        assert store.read("a") == b"first"

    def test_replacing_overwrites_bytes_and_metadata(self, store):
        assert put(store, "a", b"first", by="one", old="yes")
        assert put(store, "a", b"the second", by="two", replace=True)
        assert store.read("a") == b"the second"
        assert store.stat("a").metadata == {"by": "two"}
        assert put(store, "b", b"new", replace=True)

    def test_the_given_generation_is_replaced_and_no_other(self, store):
        put(store, "a", b"first", by="one")
        seen = store.stat("a").generation
        assert put(store, "a", b"second", replace=True, generation=seen, by="two")
        assert not put(store, "a", b"third", replace=True, generation=seen, by="three")
        assert store.read("a") == b"second"
        assert store.stat("a").metadata == {"by": "two"}

    def test_what_is_gone_is_not_replaced(self, store):
        put(store, "b/a", b"first")
        seen = store.stat("b/a").generation
        store.delete("b/a")
        assert not put(store, "b/a", b"second", replace=True, generation=seen)
        assert not put(store, "c/a", b"second", replace=True, generation=seen)
        assert names(store) == []

    def test_of_twenty_that_replace_one_generation_one_wins(self, store):
        put(store, "a", b"first")
        seen = store.stat("a").generation
        barrier = threading.Barrier(20)

        def write(number):
            barrier.wait()
            return put(store, "a", bytes([number]), replace=True, generation=seen, by=str(number))

        with ThreadPoolExecutor(20) as pool:
            won = list(pool.map(write, range(20)))
        assert sum(won) == 1
        assert store.read("a") == bytes([won.index(True)])
        assert store.stat("a").metadata == {"by": str(won.index(True))}

    def test_what_was_written_is_synced(self, depot, store):
        depot.open().sync()  # nothing is there yet
        put(store, "a")
        store.sync()
        put(store, "b")
        store.sync()
        assert names(store) == ["a", "b"]

    def test_of_twenty_writers_one_wins(self, depot, store):
        barrier = threading.Barrier(20)

        def write(number):
            barrier.wait()
            return put(store, "song/1.json", bytes([number]) * 5000, by=str(number))

        with ThreadPoolExecutor(20) as pool:
            won = list(pool.map(write, range(20)))
        assert sum(won) == 1
        winner = won.index(True)
        assert store.read("song/1.json") == bytes([winner]) * 5000
        assert store.stat("song/1.json").metadata == {"by": str(winner)}

    def test_a_reader_sees_one_version_whole(self, depot, store):
        versions = {letter * 300_000 for letter in (b"a", b"b")}
        put(store, "a", min(versions))
        done = threading.Event()

        def overwrite():
            for _ in range(10):
                for version in versions:
                    put(store, "a", version, replace=True)
            done.set()

        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(overwrite)
            while not done.is_set() and not writer.done():
                assert store.read("a") in versions
            writer.result()

    @pytest.mark.parametrize("data", [b"", bytes(range(256)), b"\r\n--x\r\n" * 3], ids=len)
    def test_bytes_of_any_kind_survive(self, store, data):
        assert put(store, "a", data)
        assert store.read("a") == data
        assert store.stat("a").size_bytes == len(data)

    def test_a_large_object_is_written_once_too(self, store):
        large = (
            os.urandom(1 << 20) * 12
        )  # Cloud Storage's client would write it in several requests
        assert put(store, "a", large)
        assert not put(store, "a", b"late")
        assert store.read("a") == large

    @pytest.mark.parametrize(
        ("start", "length", "expected"),
        [(0, 4, b"0123"), (3, 4, b"3456"), (8, 4, b"89"), (10, 4, b""), (50, 1, b"")],
    )
    def test_a_part_is_read_alone(self, store, start, length, expected):
        put(store, "a/b.bin", b"0123456789")
        assert store.read_part("a/b.bin", start=start, length=length) == expected
        with pytest.raises(MissingInput):
            store.read_part("a/c.bin", start=0, length=1)

    def test_metadata_of_any_language_survives(self, store):
        metadata = {"segue": '{"uri": "gs://b/été \U0001f3b5 \\" 100%.flac"}'}
        store.create("a", b"x", content_type="audio/flac", metadata=metadata)
        assert store.stat("a").metadata == metadata

    @pytest.mark.parametrize(
        "name", ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\0b"]
    )
    def test_a_name_that_could_lead_elsewhere_is_refused(self, store, name):
        with pytest.raises(ConfigurationError, match="not an object's name"):
            put(store, name)
        assert names(store) == []

    def test_two_stores_in_the_same_place_see_each_other(self, depot, store):
        other = depot.open()
        put(store, "a")
        assert other.read("a") == b"sound"
        assert not put(other, "a")
        other.close()


class TestGenerations:
    def test_each_overwriting_has_a_greater_one(self, store):
        seen = []
        for number in range(10):
            put(store, "a", bytes([number]), replace=True)
            seen.append(store.stat("a").generation)
        assert seen == sorted(set(seen))

    def test_an_object_made_again_has_a_greater_one(self, store):
        put(store, "a")
        first = store.stat("a").generation
        store.delete("a")
        put(store, "a")
        assert store.stat("a").generation > first

    def test_the_current_one_can_be_asked_for(self, store, tmp_path):
        put(store, "a.flac", b"one")
        generation = store.stat("a.flac").generation
        assert store.read("a.flac", generation=generation) == b"one"

    def test_an_older_one_is_superseded(self, store):
        put(store, "a.flac", b"one")
        old = store.stat("a.flac").generation
        put(store, "a.flac", b"two", replace=True)
        new = store.stat("a.flac").generation
        message = rf"a\.flac.* has generation {new}, not {old}"
        with pytest.raises(Superseded, match=message):
            store.read("a.flac", generation=old)

    def test_a_part_is_of_the_generation_that_is_asked_for(self, store):
        put(store, "a", b"first")
        old = store.stat("a").generation
        assert store.read_part("a", start=1, length=2, generation=old) == b"ir"
        put(store, "a", b"second", replace=True)
        with pytest.raises(Superseded):
            store.read_part("a", start=1, length=2, generation=old)

    def test_a_listing_tells_the_same_as_a_look(self, store):
        put(store, "a", b"123")
        put(store, "b", b"45678")
        for listed in store.list():
            looked = store.stat(listed.name)
            assert listed.generation == looked.generation
            assert listed.stat == looked.stat
            assert listed.size_bytes == looked.size_bytes
            assert listed.checksum == looked.checksum
            assert listed.updated_at == looked.updated_at


class TestIdentity:
    """A version of a media file: a generation in a bucket, the content in a folder."""

    def test_it_is_that_of_the_object_and_costs_no_reading_while_that_stays(self, store):
        put(store, "a.wav", b"one")
        media = identify(store, "a.wav")
        assert media.version
        assert media.size_bytes == 3
        looked = store.stat("a.wav").to_media_file(media.uri)
        assert (looked.stat, looked.order) == (media.stat, media.order)
        assert looked.version in (media.version, "")
        assert identify(store, "a.wav") == media

    def test_other_bytes_have_another_one(self, store):
        put(store, "a.wav", b"one")
        first = identify(store, "a.wav")
        put(store, "a.wav", b"two", replace=True)
        assert identify(store, "a.wav").version != first.version

    def test_an_object_that_is_missing_has_none(self, store):
        with pytest.raises(MissingInput, match=r"none\.wav"):
            store.identify("none.wav")
        assert store.doubt_absence("none.wav", stat=None) is None
        assert store.doubt_absence("none/none.wav", stat=None) is None

    def test_only_its_bytes_are_fetched(self, store, tmp_path):
        put(store, "a.flac", b"one")
        first = identify(store, "a.flac")
        assert Path(fetch(store, first, tmp_path)).read_bytes() == b"one"
        put(store, "a.flac", b"two", replace=True)
        (tmp_path / "another").mkdir()
        with pytest.raises(Superseded, match=r"a\.flac.*overwritten"):
            fetch(store, first, tmp_path / "another")
        assert Path(fetch(store, identify(store, "a.flac"), tmp_path)).read_bytes() == b"two"


class TestLocal:
    def test_the_file_keeps_its_suffix_and_stays(self, store, tmp_path):
        put(store, "masters/a song.m4a", b"sound")
        media = identify(store, "masters/a song.m4a")
        path = fetch(store, media, tmp_path)
        assert path.endswith(".m4a")
        assert fetch(store, media, tmp_path) == path
        assert Path(path).read_bytes() == b"sound"

    def test_different_objects_of_one_name_do_not_meet(self, store, tmp_path):
        paths = []
        for name in ("a/x.wav", "b/x.wav"):
            put(store, name, name.encode())
            paths.append(fetch(store, identify(store, name), tmp_path))
        assert [Path(p).read_bytes() for p in paths] == [b"a/x.wav", b"b/x.wav"]

    def test_what_fails_leaves_nothing_behind(self, store, tmp_path):
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        put(store, "a.wav")
        with pytest.raises(Superseded):
            store.fetch("a.wav", version="1", stat=None, folder=str(scratch))
        assert list(scratch.iterdir()) == []


class TestMissing:
    def test_an_object_that_is_not_there_is_named(self, store, tmp_path):
        for name in ("none.flac", "a/none.flac"):
            put(store, "a/b")
            with pytest.raises(MissingInput, match=r"none\.flac.* does not exist"):
                store.stat(name)
            with pytest.raises(MissingInput, match=r"none\.flac.* does not exist"):
                store.read(name)
            with pytest.raises(MissingInput, match=r"none\.flac.* does not exist"):
                store.read(name, generation=5)
            with pytest.raises(MissingInput, match=r"none\.flac.* does not exist"):
                store.fetch(name, version="5", stat=None, folder=str(tmp_path))

    def test_a_part_of_a_name_is_no_object(self, store):
        put(store, "a/b")
        with pytest.raises(MissingInput):
            store.stat("a")
        with pytest.raises(MissingInput):
            store.read("a")
        with pytest.raises(MissingInput):
            store.read("a/b/c")


class TestList:
    def test_an_empty_place_lists_nothing(self, store):
        assert names(store) == []
        assert names(store, "masters/") == []

    def test_names_of_any_characters_come_in_order_of_their_bytes(self, store):
        assert sorted(NAMES, key=str.encode) == NAMES
        for name in reversed(NAMES):
            assert put(store, name, name.encode())
        listed = names(store)
        assert listed == NAMES
        assert [store.read(n) for n in listed] == [n.encode() for n in listed]
        assert [store.stat(n).name for n in listed] == listed

    @pytest.mark.parametrize(
        "prefix", ["a", "a/", "a/b", "a/b/", "a%", "a ", "b", "b.", "\U0001f3b5", "z", "a/b c"]
    )
    def test_a_prefix_need_not_end_at_a_folder(self, store, prefix):
        for name in NAMES:
            put(store, name)
        assert names(store, prefix) == [n for n in NAMES if n.startswith(prefix)]

    @pytest.mark.parametrize(
        "after", ["a b", "a/", "a/b", "a/b/c", "a.b", "a-", "b.c/d", "zz", "#"]
    )
    def test_a_listing_goes_on_behind_a_name(self, store, after):
        for name in NAMES:
            put(store, name)
        behind = [n for n in NAMES if n.encode() > after.encode()]
        assert names(store, after=after) == behind
        assert names(store, "a", after=after) == [n for n in behind if n.startswith("a")]

    def test_a_folder_is_listed_without_what_only_begins_like_it(self, store):
        for name in ("a/b", "a/c", "a-b/c", "a.wav", "a0"):
            put(store, name)
        assert [found.name for found in list_objects(store, "a")] == ["a/b", "a/c"]
        assert [found.name for found in list_objects(store, "a/b")] == ["a/b"]
        listed = [
            found.name
            for part in split_prefix(store, "a", enough=3)
            for found in part.list_objects(store)
        ]
        assert listed == ["a/b", "a/c"]

    def test_hundreds_of_objects_come_all_and_once(self, store):
        wanted = [f"{i // 100:02d}/{i:05d}.flac" for i in range(700)]
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda name: put(store, name, b"x"), wanted))
        assert names(store) == wanted
        assert names(store, "03/", after="03/00349.flac") == wanted[350:400]

    def test_a_listing_is_a_stream(self, store):
        for number in range(20):
            put(store, f"{number:02d}")
        listing = store.list()
        assert next(listing).name == "00"
        assert next(listing).name == "01"
        listing.close()

    def test_what_is_deleted_while_listing_is_no_error(self, store):
        for number in range(20):
            put(store, f"{number:02d}")
        listing = store.list()
        assert next(listing).name == "00"
        for number in range(1, 20, 2):
            store.delete(f"{number:02d}")
        rest = [o.name for o in listing]
        assert set(rest) >= {f"{n:02d}" for n in range(2, 20, 2)}

    def test_uris_lead_back_to_objects(self, store):
        put(store, "a b/c%.flac")
        assert store.uri("a b/c%.flac") == f"{store.location}/a b/c%.flac"


class TestDelete:
    def test_it_answers_whether_the_object_was_there(self, store):
        put(store, "a/b/c")
        assert store.delete("a/b/c")
        assert not store.delete("a/b/c")
        assert not store.delete("never")
        assert names(store) == []
        with pytest.raises(MissingInput):
            store.read("a/b/c")

    def test_it_takes_nothing_else_with_it(self, store):
        for name in ("a/b/c", "a/b/d", "a/bb"):
            put(store, name)
        store.delete("a/b/c")
        assert names(store) == ["a/b/d", "a/bb"]

    def test_the_name_can_be_used_again(self, store):
        put(store, "a/b", b"old", by="one")
        store.delete("a/b")
        assert put(store, "a/b", b"new", by="two")
        assert store.read("a/b") == b"new"
        assert store.stat("a/b").metadata == {"by": "two"}

    def test_the_given_generation_is_removed(self, store):
        put(store, "a")
        assert store.delete("a", generation=store.stat("a").generation)
        assert names(store) == []

    def test_another_generation_stays(self, request, depot, store):
        if depot.forgets_generations:
            reason = "fake-gcs-server ignores ifGenerationMatch on delete; Cloud Storage does not"
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
        put(store, "a", b"one")
        old = store.stat("a").generation
        put(store, "a", b"two", replace=True)
        assert not store.delete("a", generation=old)
        assert store.read("a") == b"two"


class TestTogether:
    def test_a_last_object_may_be_deleted_while_another_is_written(self, depot):
        def churn(number):
            own = depot.open()
            for turn in range(25):
                assert put(own, f"shared/{number}-{turn}", b"x")
                assert own.delete(f"shared/{number}-{turn}")
            own.close()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(churn, range(4)))
        assert names(depot.open()) == []


class TestFolderAlone:
    """Behaviour that concerns folders only."""

    @pytest.fixture(params=["auto", "sidecar"])
    def folder(self, request, tmp_path):
        return FolderStore(str(tmp_path / "depot"), metadata=request.param)

    def test_a_link_out_of_it_is_not_followed_by_writers(self, folder, tmp_path):
        outside = tmp_path / "outside"
        outside.mkdir()
        put(folder, "a/b")
        (tmp_path / "depot" / "a" / "out").symlink_to(outside)
        for name in ("a/out/x", "a/out/deep/x"):
            with pytest.raises(ConfigurationError, match="leads out of"):
                put(folder, name)
        assert list(outside.iterdir()) == []

    @pytest.mark.parametrize("prefix", ["..", "../", "a/../../", "./"])
    def test_a_listing_does_not_leave_it(self, folder, prefix):
        put(folder, "a/b")
        with pytest.raises(ConfigurationError, match=r"'\.' or '\.\.'"):
            names(folder, prefix)

    def test_a_link_to_a_folder_above_does_not_go_round_for_ever(self, folder, tmp_path):
        put(folder, "a/b")
        (tmp_path / "depot" / "a" / "loop").symlink_to(tmp_path / "depot")
        assert names(folder) == ["a/b"]

    def test_a_file_that_may_not_be_read_is_not_given_to_a_job(self, folder, monkeypatch, tmp_path):
        put(folder, "a/b")

        def refuse(path, *_arguments, **_options):
            raise PermissionError(13, "Permission denied", path)

        media = identify(folder, "a/b")
        monkeypatch.setattr("segue.adapters.folder.open", refuse, raising=False)
        with pytest.raises(MissingInput, match="give this user permission"):
            fetch(folder, media, tmp_path)
        with pytest.raises(MissingInput, match="give this user permission"):
            folder.identify("a/b")

    @pytest.mark.parametrize(
        "stored", [b"", b"\xff", b"cut", b"null", b'{"content_type": 5}', b'{"metadata": [1]}']
    )
    def test_what_others_wrote_where_metadata_is_stored_means_nothing(
        self, folder, tmp_path, stored
    ):
        (tmp_path / "depot").mkdir()
        (tmp_path / "depot/a.wav").write_bytes(b"sound")
        (tmp_path / f"depot/a.wav{SIDECAR}").write_bytes(stored)
        found = folder.identify("a.wav")
        assert (found.size_bytes, found.content_type, found.metadata) == (5, "audio/x-wav", {})

    def test_what_changes_no_byte_changes_no_version(self, folder, tmp_path):
        depot, folder_of_file = tmp_path / "depot", tmp_path / "depot" / "album"
        put(folder, "album/a.wav", b"sound")
        path = folder_of_file / "a.wav"
        first = identify(folder, "album/a.wav")

        def copy_over():
            shutil.copy2(path, depot / "copy")
            os.rename(depot / "copy", path)

        def move_away_and_back():
            os.rename(folder_of_file, tmp_path / "away")
            os.rename(tmp_path / "away", folder_of_file)

        for change, is_seen in (
            (lambda: os.chmod(path, 0o600), True),
            (lambda: os.link(path, tmp_path / "link"), True),
            (lambda: os.utime(path), True),
            (copy_over, True),
            (move_away_and_back, False),
        ):
            before = identify(folder, "album/a.wav")
            change()
            assert (folder.stat("album/a.wav").stat != before.stat) is is_seen
            assert identify(folder, "album/a.wav").version == first.version
            assert fetch(folder, first, tmp_path) == str(path)

    def test_other_bytes_are_seen_whatever_times_say(self, folder, tmp_path):
        depot = tmp_path / "depot"
        for name, data in (("old/a.wav", b"old"), ("album/a.wav", b"new")):
            put(folder, name, data)
        album = identify(folder, "album/a.wav")
        os.rename(depot / "album", depot / "aside")
        os.rename(depot / "old", depot / "album")
        swapped = identify(folder, "album/a.wav")
        assert swapped.stat != album.stat
        assert swapped.version != album.version
        with pytest.raises(Superseded):
            fetch(folder, album, tmp_path)
        path = depot / "album" / "a.wav"
        times = path.stat()
        path.write_bytes(b"xxx")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert path.stat().st_mtime_ns == times.st_mtime_ns
        assert folder.stat("album/a.wav").stat != swapped.stat
        with pytest.raises(Superseded):
            fetch(folder, swapped, tmp_path)

    def test_a_file_on_a_device_with_another_number_is_not_read_before_it_is_used(
        self, folder, tmp_path, monkeypatch
    ):
        put(folder, "a.wav", b"sound")
        seen = identify(folder, "a.wav")
        moved = FileStat.parse(seen.stat)._replace(device=99)
        monkeypatch.setattr("segue.adapters.folder._compute_digest", None)
        assert fetch(folder, msgspec.structs.replace(seen, stat=str(moved)), tmp_path)

    def test_no_write_after_it_was_read_has_the_same_stat(self, folder, tmp_path):
        """The clocks of file systems tick every few milliseconds."""
        put(folder, "a.wav", b"0")
        path = tmp_path / "depot" / "a.wav"
        for number in range(20):
            path.write_bytes(b"%d" % (number % 10))
            seen = identify(folder, "a.wav")
            path.write_bytes(b"%d" % ((number + 1) % 10))
            assert folder.stat("a.wav").stat != seen.stat

    @pytest.mark.parametrize(
        ("age_s", "fraction_ns", "waits_s"),
        [(0.0, 1, 0.02), (0.019, 1, 0.02), (0.03, 1, 0.0), (1.5, 0, 2.0), (2.5, 0, 0.0)],
    )
    def test_a_file_that_was_changed_just_now_is_read_after_the_next_tick(
        self, folder, monkeypatch, age_s, fraction_ns, waits_s
    ):
        """Of a clock that ticks at least so often, or of one without fractions of a second."""
        put(folder, "a.wav", b"0")
        slept = []
        changed_ns = 1_700_000_000 * 10**9 + fraction_ns
        times = SimpleNamespace(st_ctime_ns=changed_ns, st_mtime_ns=changed_ns)
        monkeypatch.setattr(time, "time", lambda: changed_ns / 1e9 + age_s)
        monkeypatch.setattr(time, "sleep", slept.append)
        wait_s = _find_rest_of_tick(times)
        assert wait_s == waits_s
        monkeypatch.setattr("segue.adapters.folder._find_rest_of_tick", lambda _found: wait_s)
        folder.identify("a.wav")
        assert slept == [waits_s]

    def test_a_file_that_is_written_while_it_is_read_is_read_again(
        self, folder, tmp_path, monkeypatch
    ):
        put(folder, "a.wav", b"0")
        path, read, turns = tmp_path / "depot" / "a.wav", hashlib.file_digest, []

        def write_meanwhile(file, algorithm):
            digest = read(file, algorithm)
            if len(turns) < limit:
                turns.append(1)
                path.write_bytes(b"%d" % len(turns))
            return digest

        monkeypatch.setattr(hashlib, "file_digest", write_meanwhile)
        limit = 2
        content = hashlib.blake2b(b"2", digest_size=12).hexdigest()
        assert identify(folder, "a.wav").version == content
        assert identify(folder, "a.wav").stat == folder.stat("a.wav").stat
        limit = 1000
        with pytest.raises(Superseded, match="is being written"):
            identify(folder, "a.wav")

    def test_what_a_broken_link_leads_to_may_be_on_a_disk_that_is_not_mounted(
        self, folder, tmp_path
    ):
        put(folder, "a/b.wav")
        depot = tmp_path / "depot"
        (depot / "c.wav").symlink_to(tmp_path / "disk" / "c.wav")
        (depot / "d").symlink_to(tmp_path / "disk")
        for name in ("c.wav", "d/e.wav", "d/e/f.wav"):
            assert folder.doubt_absence(name, stat=None) is LeftOutReason.BROKEN_LINK
        (tmp_path / "disk").mkdir()
        for name in ("d/e.wav", "d/e/f.wav", "a/c.wav", "a/b.wav/c.wav"):
            assert folder.doubt_absence(name, stat=None) is None

    @pytest.mark.parametrize(
        ("name", "is_doubted"),
        [
            ("disk/a.wav", True),
            ("marked/a.wav", True),
            ("gone/disk/a.wav", True),
            ("other/a.wav", False),
        ],
    )
    def test_a_file_of_a_disk_that_is_not_mounted_may_be_there(
        self, folder, tmp_path, name, is_doubted
    ):
        """Its folder is the empty one on which the disk was mounted, or is missing."""
        put(folder, "other/b.wav")
        put(folder, "marked/.not-mounted")
        (tmp_path / "depot" / "disk").mkdir()
        here = FileStat.parse(folder.stat("other/b.wav").stat)
        elsewhere = here._replace(device=os.makedev(4000, 77))
        assert folder.doubt_absence(name, stat=str(here)) is None
        expected = LeftOutReason.UNMOUNTED if is_doubted else None
        assert folder.doubt_absence(name, stat=str(elsewhere)) is expected

    def test_a_file_of_another_disk_that_is_mounted_is_gone(self, folder, tmp_path):
        (tmp_path / "depot" / "link").mkdir(parents=True)
        mounted = next(iter(_list_mounted_devices() - {tmp_path.stat().st_dev}))
        seen = FileStat(mounted, 1, 1, 1, 1)
        assert folder.doubt_absence("link/a.wav", stat=str(seen)) is None

    def test_what_may_not_be_deleted_is_an_error(self, folder, monkeypatch):
        put(folder, "a/b")

        def refuse(path):
            raise PermissionError(13, "Permission denied", path)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", refuse)
            with pytest.raises(ConfigurationError, match=r"deleted \(Permission denied\)"):
                folder.delete("a/b")
        assert names(folder) == ["a/b"]

    def test_either_the_one_that_replaces_a_generation_wins_or_the_one_that_deletes_it(
        self, folder
    ):
        for turn in range(20):
            put(folder, f"{turn}/a", b"first")
            seen = folder.stat(f"{turn}/a").generation
            barrier = threading.Barrier(2)

            def replace(name=f"{turn}/a", seen=seen, barrier=barrier):
                barrier.wait()
                return put(folder, name, b"second", replace=True, generation=seen)

            def delete(name=f"{turn}/a", seen=seen, barrier=barrier):
                barrier.wait()
                return folder.delete(name, generation=seen)

            with ThreadPoolExecutor(2) as pool:
                replaced, deleted = pool.submit(replace), pool.submit(delete)
            assert replaced.result() is not deleted.result()
            assert names(folder, f"{turn}/") == ([f"{turn}/a"] if replaced.result() else [])

    @pytest.mark.parametrize("is_moved", [False, True])
    @pytest.mark.parametrize("ends", ["replaced", "deleted"])
    def test_what_a_killed_process_left_is_gone_with_the_object_it_was_to_replace(
        self, tmp_path, ends, is_moved
    ):
        depot = tmp_path / "depot"
        folder = FolderStore(str(depot))
        put(folder, "a", b"first")
        script = (
            "import os, signal; from segue.adapters.folder import FolderStore\n"
            "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
            f"FolderStore({str(depot)!r}).create('a', b'second', content_type='audio/wav',"
            " metadata={}, replace=True)\n"
        )
        for _ in range(2):  # they share one name: nothing piles up
            killed = subprocess.run([sys.executable, "-c", script], check=False)
            assert killed.returncode == -signal.SIGKILL
            assert len(list(depot.iterdir())) == 2
        if is_moved:
            depot = depot.rename(tmp_path / "moved")
            folder = FolderStore(str(depot))
        if ends == "replaced":
            assert put(folder, "a", b"third", replace=True)
            assert folder.read("a") == b"third"
        else:
            assert folder.delete("a")
        assert [f.name for f in depot.iterdir()] == (["a"] if ends == "replaced" else [])

    @pytest.mark.parametrize("replace", [False, True])
    def test_a_killed_writer_leaves_all_or_nothing(self, folder, tmp_path, replace):
        script = (
            "import sys; from segue.adapters.folder import FolderStore\n"
            f"store = FolderStore({str(tmp_path / 'depot')!r})\n"
            "print('writing', flush=True)\n"
            "store.create(sys.argv[1], bytes(48 << 20), content_type='audio/wav',"
            f" metadata={{'by': 'the killed'}}, replace={replace})\n"
        )
        for number, delay_s in enumerate((0, 0.003, 0.01, 0.02, 0.03)):
            writer = subprocess.Popen(
                [sys.executable, "-c", script, f"{number}.wav"], stdout=subprocess.PIPE
            )
            writer.stdout.readline()
            threading.Event().wait(delay_s)  # to kill it somewhere in between
            writer.kill()
            writer.communicate()
        left = names(folder)
        assert set(left) <= {f"{number}.wav" for number in range(5)}
        for number in range(5):
            name = f"{number}.wav"
            whole = name in left
            if whole:
                assert folder.stat(name).size_bytes == 48 << 20
            assert put(folder, name, b"again") is not whole
