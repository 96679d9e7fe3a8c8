"""The sizes that containers declare, compared with real files."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
import soundfile

from segue.media import containers
from segue.media.containers import Bytes, find_big_endian_format, find_wrong_size
from segue_support import media_seeds

# Their duration is declared in samples, so the decoder has to count them.
COUNTED = ("sound.flac", "sound.wv", "sound.tta")
SIZED = [name for name in media_seeds.NAMES if name not in (*media_seeds.UNDECLARED, *COUNTED)]


@pytest.fixture
def check(tmp_path):
    """Return what is wrong with the sizes of some bytes."""

    def checked(data: bytes) -> str | None:
        path = tmp_path / "media"
        path.write_bytes(data)
        with open(path, "rb") as file:
            return find_wrong_size(Bytes(file))

    return checked


@pytest.fixture(scope="module")
def seed():
    """Return the bytes of a whole file by name."""
    return media_seeds.read_seeds(duration_s=1.0).__getitem__


@pytest.mark.parametrize("name", media_seeds.NAMES)
def test_a_whole_file_has_the_size_that_it_declares(check, seed, name):
    assert check(seed(name)) is None


@pytest.mark.parametrize("name", SIZED)
def test_a_part_of_a_file_is_shorter_than_it_declares(check, seed, name):
    whole = seed(name)
    # The size in an MP3 file may be wrong by a frame, which is long in so short a file.
    for share in (0.5,) if name == "sound.mp3" else (0.5, 0.95):
        assert str(check(whole[: int(len(whole) * share)])).startswith("truncated: "), share


def test_a_tag_in_front_of_a_file_changes_nothing(check, seed):
    whole = seed("pcm16.wav")
    tag = b"ID3\x04\0\0\0\0\x02\0" + bytes(256)
    assert check(tag + whole) is None
    assert check(tag + whole[:-1000]) is not None


# WAV and its relatives


def chunk(name: bytes, body: bytes, size: int | None = None, order: str = "<") -> bytes:
    return name + struct.pack(f"{order}I", len(body) if size is None else size) + body


FORM = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16_000, 2, 16))
SOUND = np.random.default_rng(0).integers(-9000, 9000, 20_000, "<i2").tobytes()
LIST = chunk(b"LIST", b"INFOISFT" + struct.pack("<I", 4) + b"made")


def wav(*chunks: bytes, form: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return form + struct.pack("<I", len(body)) + body


HEADER_OF_A_SECOND = chunk(b"data", SOUND, size=16_000)


@pytest.mark.parametrize(
    "whole",
    [
        wav(FORM, chunk(b"data", SOUND), LIST),
        wav(chunk(b"JUNK", bytes(28)), FORM, chunk(b"data", SOUND), LIST, LIST),
        wav(FORM, chunk(b"data", SOUND[:-1]), LIST),  # without the padding
        wav(FORM, chunk(b"data", SOUND[:-1]) + b"\0", LIST),
        wav(FORM, chunk(b"data", SOUND)) + b"TAG" + bytes(2000),
        wav(FORM, chunk(b"data", SOUND)) + b"ID3\x04" + SOUND,
        wav(FORM, chunk(b"data", SOUND)) + bytes(4096),
        wav(FORM, chunk(b"data", SOUND)) + b"\r\n",
        wav(FORM, chunk(b"data", SOUND, size=len(SOUND) + 44)),
        wav(FORM, chunk(b"data", SOUND), chunk(b"data", SOUND)),
    ],
    ids=str.split("list junk unpadded padded id3v1 id3v2 zeros newline counted_header two_chunks"),
)
def test_what_writers_do_around_the_sound_is_no_damage(check, whole):
    assert check(whole) is None


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFDB])
def test_a_size_that_was_not_known_means_up_to_the_end(check, size):
    assert check(wav(FORM, chunk(b"data", SOUND, size=size))) is None


@pytest.mark.parametrize(
    "header",
    [
        wav(FORM, HEADER_OF_A_SECOND),
        wav(FORM, chunk(b"data", SOUND, size=(1 << 32) + 16_000 & 0xFFFF_FFFF)),
        b"RF64"
        + wav(chunk(b"ds64", struct.pack("<QQQI", 0, 16_000, 8000, 0)), FORM)[4:]
        + chunk(b"data", SOUND, size=0xFFFF_FFFF),
    ],
    ids=["never updated", "wrapped", "RF64"],
)
def test_sound_behind_the_declared_size_is_told(check, header):
    assert "24,000 bytes follow its sound" in str(check(header))


def test_aiff_of_more_than_its_header_says_is_told(check):
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(20_000), 8000, format="AIFF", subtype="PCM_16")
    data = bytearray(buffer.getvalue())
    data += SOUND
    assert "follow its sound" in str(check(bytes(data)))


@pytest.mark.parametrize("name", ["sound.mka", "sound.wma", "sound.avi", "sound.caf", "sound.w64"])
def test_bytes_behind_what_a_container_declares_are_told(check, seed, name):
    assert "follow its sound" in str(check(seed(name) + SOUND)), name
    assert check(seed(name) + bytes(4096)) is None  # padding


@pytest.mark.parametrize("name", ["sound.au", "sound.sph"])
def test_nothing_may_follow_where_ffmpeg_would_decode_it_as_sound(check, seed, name):
    sphere = b"NIST_1A\n   1024\nchannel_count -i 1\nsample_count -i 8000\nsample_n_bytes -i 2\n"
    whole = sphere.ljust(1024) + SOUND[:16_000] if name == "sound.sph" else seed(name)
    assert check(whole) is None
    for more in (bytes(4096), b"TAG" + bytes(253)):
        assert f"{len(more):,} bytes follow its sound" in str(check(whole + more))


def test_another_file_behind_the_first_is_told(check, seed):
    whole = wav(FORM, chunk(b"data", SOUND))
    assert check(whole + whole) == "another file follows in the same file: separate them"
    for name in ("aac.m4a", "sound.mka"):
        assert "another file" in str(check(seed(name) * 2)), name


def test_no_sound_but_other_chunks_is_told(check):
    assert check(wav(FORM, chunk(b"data", b""), LIST)) == "it holds no samples"


@pytest.mark.parametrize(
    "lie",
    [
        wav(FORM, chunk(b"LIST", b"x", size=0xFFFF_FFFF)),
        wav(b"\0" * 4000),
        wav(*[chunk(b"JUNK", b"")] * 1000),
        b"RF64" + wav(chunk(b"ds64", b"\xff" * 28), FORM, chunk(b"data", SOUND, 0xFFFF_FFFF))[4:],
        b"caff" + bytes(4) + b"data" + b"\x7f" + b"\xff" * 7 + SOUND,
        bytes.fromhex("1a45dfa3") + b"\x01" + b"\xff" * 7 + SOUND,
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + b"\xff" * 8,
        b"\0\0\0\x01moov" + b"\xff" * 8,
        b"FLV\x01" + bytes(9),
        b"Creative Voice File\x1a",
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
        b"OggS",
        b"",
    ],
    ids=str.split("list zeros junk rf64 caff ebml asf box flv voc id3 ogg empty"),
)
def test_any_bytes_have_an_answer(check, lie):
    assert check(lie) is None or isinstance(check(lie), str)


def test_millions_of_empty_chunks_or_tags_are_not_followed(check, monkeypatch):
    junk = chunk(b"JUNK", b"") * 20
    assert check(wav(FORM, chunk(b"data", b""), junk)) == "it holds no samples"
    tags = (b"ID3\4" + bytes(6)) * 20
    empty = wav(FORM, chunk(b"data", b""), LIST)
    assert check(tags + empty) == "it holds no samples"
    monkeypatch.setattr(containers, "MAX_CHUNKS", 10)
    assert check(wav(FORM, chunk(b"data", b""), junk)) is None
    assert check(tags + empty) is None


# Other containers


def test_a_matroska_stream_of_unknown_length_is_whole_but_its_clusters_are_checked(tmp_path, check):
    path = str(tmp_path / "live.mkv")
    source = media_seeds.write_seed("sound.mka", str(tmp_path), duration_s=12.0)
    media_seeds.run_bundled_ffmpeg("-i", source, "-c", "copy", "-live", "1", path)
    with open(path, "rb") as file:
        whole = file.read()
    segment = whole.index(bytes.fromhex("18538067"))
    assert whole[segment + 4 : segment + 12] == b"\x01" + b"\xff" * 7
    assert check(whole) is None


def test_the_size_in_an_mp3_counts_not_its_number_of_frames(check, seed):
    whole = bytearray(seed("sound.mp3"))
    at = whole.index(b"Info") + 8
    whole[at : at + 4] = struct.pack(">I", 2 * int.from_bytes(whole[at : at + 4], "big"))
    assert check(bytes(whole)) is None
    whole[at + 4 : at + 8] = struct.pack(">I", 2 * len(whole))
    assert str(check(bytes(whole))).startswith("truncated")


@pytest.mark.parametrize(
    ("subtype", "expected"),
    [("PCM_16", (1, 16)), ("PCM_24", (1, 24)), ("FLOAT", (3, 32)), ("DOUBLE", (3, 64))],
)
def test_the_format_of_big_endian_wav_is_found(tmp_path, subtype, expected):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(100), 8000, subtype, "BIG", "WAV")
    with open(path, "rb") as file:
        assert file.read(4) == b"RIFX"
        assert find_big_endian_format(Bytes(file)) == expected
    soundfile.write(path, np.zeros(100), 8000, subtype, "LITTLE", "WAV")
    with open(path, "rb") as file:
        assert find_big_endian_format(Bytes(file)) is None
    assert os.path.getsize(path) > 200
