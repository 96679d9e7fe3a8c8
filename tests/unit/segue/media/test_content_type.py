"""What the bytes of a file prove it to be."""

from __future__ import annotations

import os
import random
import struct
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segue.media import content_type
from segue.media.containers import Bytes
from segue.media.content_type import (
    EXTENSIONS,
    find_content_types,
    find_declared_type,
    find_declared_types,
)
from segue.model.content_types import accepts, normalise_type
from segue_support import media_seeds
from segue_support.media_seeds import run_bundled_ffmpeg
from segue_support.mutated_media import mutate

SOUND = ("-f", "lavfi", "-i", "sine=440:d=0.4")
FILM = ("-f", "lavfi", "-i", "testsrc=d=0.4:s=64x64:r=10")
# GSM has no header, and bits that noise has, too.
UNPROVEN = ("sound.gsm",)


@pytest.fixture(scope="module")
def seeds() -> dict[str, bytes]:
    return media_seeds.read_seeds()


@pytest.fixture
def find(tmp_path):
    """Find the content types of some bytes."""

    def find(data: bytes, name: str = "a") -> frozenset[str]:
        (tmp_path / name).write_bytes(data)
        return find_content_types(str(tmp_path / name))

    return find


@pytest.mark.parametrize("name", [n for n in media_seeds.NAMES if n not in UNPROVEN])
def test_every_container_is_recognised_by_its_bytes(seeds, find, name):
    found = find(seeds[name], "song.bin")
    assert accepts(["audio/*"], found)
    assert accepts(["video/*"], found) == name.startswith("film")
    declared = find_declared_type(name, None)
    if name.startswith("film") or declared.startswith("audio/"):
        assert accepts([declared], found)


@pytest.mark.parametrize(
    ("options", "name", "expected"),
    [
        ((*FILM, *SOUND, "-c:v", "mpeg4"), "a.mp4", {"video/mp4", "video/*", "audio/*"}),
        ((*FILM, "-c:v", "mpeg4"), "a.mp4", {"video/mp4", "video/*"}),
        ((*SOUND,), "a.mp4", {"audio/mp4", "audio/*"}),
        ((*FILM, "-c:v", "mpeg4"), "a.mov", {"video/quicktime", "video/*"}),
        ((*FILM, "-c:v", "mpeg4"), "a.mkv", {"video/x-matroska", "video/*"}),
        ((*FILM, "-c:v", "libvpx-vp9"), "a.webm", {"video/webm", "video/*"}),
        ((*FILM, "-c:v", "mpeg4"), "a.avi", {"video/x-msvideo", "video/*"}),
        ((*FILM, "-c:v", "mpeg2video", "-r", "25"), "a.ts", {"video/mp2t", "video/*"}),
        ((*FILM, "-c:v", "mpeg2video", "-r", "25"), "a.mpg", {"video/mpeg", "video/*"}),
        ((*FILM, "-c:v", "flv1"), "a.flv", {"video/x-flv", "video/*"}),
        ((*FILM, "-c:v", "wmv2"), "a.wmv", {"video/x-ms-asf", "video/*"}),
        ((*FILM, "-c:v", "libtheora"), "a.ogv", {"video/ogg", "video/*"}),
        (
            (*FILM, *SOUND, "-c:v", "libx264", "-c:a", "ac3", "-mpegts_m2ts_mode", "1"),
            "a.m2ts",
            {"video/mp2t", "video/*", "audio/*"},
        ),
        (
            (*SOUND, "-c:a", "libopus", "-f", "mpegts"),
            "a.ts",
            {"video/mp2t", "audio/*"},
        ),
        (
            (*FILM, *SOUND, "-r", "25", "-c:v", "mpeg2video", "-c:a", "ac3", "-f", "vob"),
            "a.vob",
            {"video/mpeg", "video/*", "audio/*"},
        ),
        (
            (*FILM, *SOUND, "-r", "25", "-c:v", "mpeg1video", "-c:a", "mp2", "-f", "vcd"),
            "a.mpg",
            {"video/mpeg", "video/*", "audio/*"},
        ),
        (
            (*FILM, "-c:v", "libx264", "-movflags", "+frag_keyframe+empty_moov"),
            "a.mp4",
            {"video/mp4", "video/*"},
        ),
        ((*SOUND, "-c:a", "mp2"), "a.mp2", {"audio/mpeg"}),
        ((*SOUND, "-c:a", "libmp3lame", "-ar", "8000"), "a.mp3", {"audio/mpeg"}),
    ],
)
def test_a_container_is_named_with_the_kinds_of_streams_in_it(tmp_path, options, name, expected):
    run_bundled_ffmpeg(*options, str(tmp_path / name))
    assert find_content_types(str(tmp_path / name)) == expected


@pytest.mark.parametrize("missing", [1, 70, 187])
def test_a_broadcast_that_was_recorded_from_the_middle_of_a_packet_is_recognised(
    seeds, find, missing
):
    assert find(seeds["film.ts"][missing:]) == {"video/mp2t", "video/*", "audio/*"}


def test_a_cover_is_no_film(tmp_path):
    cover = str(tmp_path / "cover.png")
    run_bundled_ffmpeg(*FILM, "-frames:v", "1", cover)
    attached = ("-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic")
    for name in ("a.mp3", "a.flac", "a.m4a"):
        run_bundled_ffmpeg(*SOUND, "-i", cover, *attached, str(tmp_path / name))
        found = find_content_types(str(tmp_path / name))
        assert accepts(["audio/*"], found)
        assert not accepts(["video/*", "image/*"], found)


def test_the_pictures_of_chapters_are_no_film(find):
    def box(name: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return struct.pack(">I", 8 + len(body)) + name + body

    def track(number: int, handler: bytes, *more: bytes) -> bytes:
        header = box(b"tkhd", bytes(12), struct.pack(">I", number), bytes(60))
        return box(b"trak", header, box(b"mdia", box(b"hdlr", bytes(8), handler, bytes(12))), *more)

    chapters = box(b"tref", box(b"chap", struct.pack(">I", 2)))
    book = box(b"ftyp", b"M4B \0\0\0\0")
    sound, pictures = track(1, b"soun", chapters), track(2, b"vide")
    assert find(book + box(b"moov", sound, pictures)) == {"audio/mp4", "audio/*"}
    film = {"video/mp4", "video/*", "audio/*"}
    assert find(book + box(b"moov", track(1, b"soun"), pictures)) == film
    same = track(2, b"soun"), pictures  # by a careless writer
    assert find(book + box(b"moov", *same)) == film


IMAGES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "AVIF": "image/avif",
}


@pytest.mark.parametrize(("form", "expected"), IMAGES.items())
def test_images_are_recognised_by_their_bytes(tmp_path, form, expected):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "song.mp3", form)
    assert find_content_types(str(tmp_path / "song.mp3")) == {expected}


def test_a_progressive_photograph_with_metadata_is_recognised(tmp_path):
    picture = Image.new("RGB", (300, 200), "red")
    exif = Image.Exif()
    exif[0x010E] = "x" * 60_000
    picture.save(tmp_path / "a.jpg", progressive=True, exif=exif, icc_profile=bytes(300_000))
    assert find_content_types(str(tmp_path / "a.jpg")) == {"image/jpeg"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "application/pdf"),
        (b"PK\3\4\x14\0\0\0\x08\0", "application/zip"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "application/gzip"),
        (b"MThd\0\0\0\6\0\1\0\2\1\xe0MTrk", "audio/midi"),
        (b"MAC \x96\x0f" + bytes(30), "audio/x-ape"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
    ],
)
def test_other_files_are_recognised_by_their_bytes(find, data, expected):
    assert find(data) == {expected}


NOTHING = {
    "empty": b"",
    "one byte": b"\xff",
    "zeros": bytes(100_000),
    "ones": b"\xff" * 100_000,
    "noise": np.random.default_rng(0).bytes(3_000_000),
    "text": b"Dear Sir or Madam,\n" * 500,
    "a text about addresses": b"MAC addresses of all machines\n",
    "a text about a car": b"BMW builds cars, and many a song is about one.\n" * 3,
    "a page": b"<!doctype html><html><body>404 Not Found</body></html>",
    "a drawing": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "a playlist": b"#EXTM3U\n#EXTINF:1.0,\nsong.wav\n",
    "a tag without sound": b"ID3\4\0\0\0\0\x10\0" + bytes(5000),
    "a film without its index": b"\0\0\0\x18ftypisom\0\0\0\0isommp42\0\0\1\0mdat" + bytes(300),
    "an FLV without tags": b"FLV\1\5\0\0\0\t\0\0\0\0",
    "two bytes of a photograph": b"\xff\xd8\xff\xe0",
    "a photograph without a size": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(400),
    "a JPEG of no width": b"\xff\xd8\xff\xc0\0\x11\x08\0\x10\0\0" + bytes(400),
}


@pytest.mark.parametrize("data", NOTHING.values(), ids=NOTHING)
def test_what_proves_nothing_has_no_type(find, data):
    assert find(data, "song.mp3") == frozenset()


@pytest.mark.slow
def test_noise_is_hardly_ever_taken_for_anything(find):
    rng = np.random.default_rng(1)
    assert [found for _ in range(300) if (found := find(rng.bytes(70_000)))] == []


def test_what_is_no_file_has_no_type_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert find_content_types(str(tmp_path / "pipe")) == frozenset()
    assert find_content_types("/dev/zero") == frozenset()
    with pytest.raises(FileNotFoundError):
        find_content_types(str(tmp_path / "gone"))


def box_bomb() -> bytes:
    """Return a film of a million tracks."""
    track = struct.pack(">I4sI4s", 16, b"trak", 8, b"mdia")
    return b"\0\0\0\x08ftyp" + struct.pack(">I4s", 0, b"moov") + track * 1_000_000


def chapter_bomb() -> bytes:
    """Return a film with a list of chapters of four gigabytes, as it says."""
    sizes = (0, b"moov", 0xFFFF_FFF0, b"trak", 0xFFFF_FFF0, b"tref", 0xFFFF_FFF0, b"chap")
    return b"\0\0\0\x08ftyp" + struct.pack(">I4sI4sI4sI4s", *sizes) + bytes(100)


def packet_bomb() -> bytes:
    """Return a transport stream of one table without an end."""
    start = b"\x47\x40\0\x10\0" + b"\0\xbf\xff" + bytes(180)
    return start + (b"\x47\0\0\x10" + bytes(184)) * 15_000


HOSTILE = {
    "boxes": box_bomb(),
    "chapters": chapter_bomb(),
    "packets": packet_bomb(),
    "elements": bytes.fromhex("1a45dfa380") + bytes.fromhex("ec80") * 1_000_000,
    "a segment in itself": bytes.fromhex("1a45dfa380") + bytes.fromhex("1853806781") * 500_000,
    "chunks": b"RIFF\xff\xff\xff\xffAVI " + b"junk\0\0\0\0" * 500_000,
    "objects": content_type.ASF_HEADER
    + struct.pack("<QIH", 1 << 62, 1, 1)
    + (bytes(16) + struct.pack("<Q", 24)) * 200_000,
    "tags": b"FLV\1\5\0\0\0\t\0\0\0\0" + (b"\x12" + bytes(14)) * 300_000,
    "pages": (b"OggS\0\2" + bytes(21)) * 200_000,
    "packs": (b"\0\0\1\xba\x21" + bytes(7)) * 300_000,
    "frames": b"\xff\xfb\x90\0" * 500_000,
    "markers": b"\xff\xd8\xff" + b"\xff" * 3_000_000,
    "tables": b"II*\0\x08\0\0\0\xff\xff" + b"\1\2" * 500_000,
    "tags in front": b"ID3\4\0\0\0\0\0\0" * 90_000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_read_in_part_only(find, data, monkeypatch):
    sizes: list[int] = []
    read = Bytes.read

    def count(self, start, size):
        found = read(self, start, size)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(Bytes, "read", count)
    assert find(data) == frozenset()
    assert len(sizes) <= content_type.MAX_READS
    assert sum(sizes) <= content_type.MAX_READ_BYTES


@pytest.mark.slow
@settings(max_examples=300)
@given(seed=st.integers(0, 2**32))
def test_damaged_files_of_every_container_are_no_error(seeds, tmp_path_factory, seed):
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(mutate(seed, seeds)[1])
    find_content_types(str(path))


@pytest.mark.slow
def test_files_that_are_cut_anywhere_are_no_error(seeds, find):
    rng = random.Random(0)
    for name, data in seeds.items():
        for size in (1, 4, 8, 12, *(rng.randrange(len(data)) for _ in range(20))):
            found = find(data[:size])
            assert not accepts(["image/*", "application/*"], found), (name, size)


@pytest.mark.parametrize(
    ("patterns", "found", "expected"),
    [
        (["audio/*"], {"audio/flac"}, True),
        (["audio/flac", "audio/mpeg"], {"audio/mpeg"}, True),
        (["audio/wav"], {"audio/flac"}, False),
        (["audio/*"], {"video/mp4", "video/*", "audio/*"}, True),
        (["video/*"], {"video/mp4", "video/*", "audio/*"}, True),
        (["video/mp4"], {"video/mp4", "video/*", "audio/*"}, True),
        (["audio/mp4"], {"video/mp4", "video/*", "audio/*"}, False),
        (["audio/*"], {"video/mp4", "video/*"}, False),
        (["video/*"], {"video/x-msvideo", "audio/*"}, False),  # sound alone, in an AVI file
        (["image/*"], {"image/png"}, True),
        (["image/*"], {"audio/wav"}, False),
        (["audio/mp3"], {"audio/mpeg"}, True),
        (["AUDIO/MPEG"], {"audio/mpeg"}, True),
        (["Audio/*"], {"audio/mpeg"}, True),
        (["audio/x-wav"], {"audio/wav"}, True),
        (["video/*"], {"video/mp4"}, True),  # as it is declared
        (["*/*"], set(), True),
        (["audio/*"], set(), False),
        ([], {"audio/wav"}, False),
    ],
)
def test_a_pattern_matches_what_a_file_is_or_holds(patterns, found, expected):
    assert accepts(patterns, frozenset(found)) is expected


@pytest.mark.parametrize(
    ("name", "declared", "expected"),
    [
        ("a.bin", "audio/mpeg", "audio/mpeg"),
        ("a.bin", "Audio/X-WAV; codec=1", "audio/wav"),
        ("a.flac", "image/png", "image/png"),  # the bucket's word before the name's
        ("a.FLAC", None, "audio/flac"),
        ("a.flac", "", "audio/flac"),
        ("folder.mp3/a.jpeg", "application/octet-stream", "image/jpeg"),
        ("a.tar.gz", "binary/octet-stream", "application/gzip"),
        ("a.flac", "application/x-www-form-urlencoded", "audio/flac"),
        ("a.flac", "nonsense", "audio/flac"),
        ("a.flac", "audio/" + "x" * 1000, "audio/flac"),
        ("a.unknown", None, None),
        ("flac", None, None),
        (".flac", None, None),
        ("", None, None),
    ],
)
def test_what_a_file_is_declared_to_be(name, declared, expected):
    assert find_declared_type(name, declared) == expected


def test_a_file_that_is_declared_to_be_a_film_may_have_sound():
    assert find_declared_types("a.mp4", None) == {"video/mp4", "video/*", "audio/*"}
    assert find_declared_types("a.flac", None) == {"audio/flac"}
    assert find_declared_types("a.unknown", None) == frozenset()


def test_each_type_has_one_name():
    proven = {name for *_, name in chain(content_type.MAGICS, content_type.IMAGES)}
    for name in chain(EXTENSIONS.values(), proven, content_type.BRANDS.values()):
        assert normalise_type(name) == name
