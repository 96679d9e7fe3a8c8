"""The description of a media file, which is made without decoding it."""

from __future__ import annotations

import json
import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segue import codec
from segue.errors import MissingInput
from segue.media.decode import LocalMedia
from segue.media.probe import MAX_TAGS, MAX_VALUE_CHARACTERS, MediaInfo, StreamInfo
from segue.testing import sound
from segue_support import media_seeds
from segue_support.media_seeds import run_bundled_ffmpeg
from segue_support.mutated_media import mutate

FILM = ("-f", "lavfi", "-i", "testsrc=d=2:s=64x48:r=25")
SOUND = ("-f", "lavfi", "-i", "sine=440:d=2:r=44100")


@pytest.fixture(scope="module")
def seeds() -> dict[str, bytes]:
    return media_seeds.read_seeds()


def test_a_film_is_described_stream_by_stream(open_media, tmp_path):
    path = str(tmp_path / "a.mp4")
    options = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2")
    tags = ("-metadata", "title=A film", "-metadata:s:a", "language=fra")
    run_bundled_ffmpeg(*FILM, *SOUND, *options, *tags, path)
    found = open_media(path).probe()
    assert found.size_bytes == os.path.getsize(path)
    assert found.content_types == ("audio/*", "video/*", "video/mp4")
    assert found.container == "mov"
    assert found.duration_s == pytest.approx(2.0, abs=0.05)
    assert found.bit_rate_bps == pytest.approx(8 * found.size_bytes / 2, rel=0.1)
    assert found.tags["title"] == "A film"
    picture, speech = found.streams
    assert picture == StreamInfo(
        kind="video",
        codec="h264",
        duration_s=2.0,
        bit_rate_bps=picture.bit_rate_bps,
        width=64,
        height=48,
        frame_rate_hz=25.0,
    )
    assert (speech.kind, speech.codec, speech.language) == ("audio", "aac", "fra")
    assert (speech.sample_rate_hz, speech.channels) == (44100, 2)
    assert speech.duration_s == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("name", media_seeds.NAMES)
def test_every_container_is_described(open_media, tmp_path, seeds, name):
    (tmp_path / name).write_bytes(seeds[name])
    found = open_media(tmp_path / name).probe()
    kinds = {stream.kind for stream in found.streams}
    assert kinds == ({"audio", "video"} if name.startswith("film") else {"audio"})
    [audio] = [stream for stream in found.streams if stream.kind == "audio"]
    assert audio.codec
    assert audio.sample_rate_hz
    assert audio.channels


def test_a_cover_is_an_image_and_tags_are_read(open_media, tmp_path):
    cover, path = str(tmp_path / "cover.png"), str(tmp_path / "a.mp3")
    Image.new("RGB", (40, 30), "red").save(cover)
    tags = ("-metadata", "title=Gymnopédie № 1", "-metadata", "artist=Satie")
    attached = ("-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic")
    run_bundled_ffmpeg(*SOUND, "-i", cover, *attached, *tags, path)
    found = open_media(path).probe()
    audio, image = found.streams
    assert (audio.kind, audio.codec) == ("audio", "mp3")
    assert image == StreamInfo(kind="image", codec="png")
    assert (found.tags["title"], found.tags["artist"]) == ("Gymnopédie № 1", "Satie")
    assert found.content_types == ("audio/mpeg",)


@pytest.mark.parametrize("suffix", ["ogg", "flac", "mka"])
def test_tags_are_found_wherever_a_container_keeps_them(open_media, tmp_path, suffix):
    path = str(tmp_path / f"a.{suffix}")
    run_bundled_ffmpeg(*SOUND, "-metadata", "Title=One", path)
    assert open_media(path).probe().tags["title"] == "One"


def test_an_image_is_described_with_its_exif_data(open_media, tmp_path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Maker", "Model 1", 6
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.jpg", exif=exif)
    found = open_media(tmp_path / "a.jpg").probe()
    assert found == MediaInfo(
        size_bytes=os.path.getsize(tmp_path / "a.jpg"),
        content_types=("image/jpeg",),
        container="jpeg",
        streams=(StreamInfo(kind="image", codec="jpeg", width=40, height=30),),
        tags={
            "make": "Maker",
            "model": "Model 1",
            "orientation": "6",
            "date_time_original": "2026:01:02 03:04:05",
        },
    )


def test_a_bomb_is_described_without_its_pixels(open_media, tmp_path, bound_memory):
    size = struct.pack(">II", 50_000, 50_000)
    data = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + size + b"\x08\2\0\0\0" + bytes(4)
    (tmp_path / "a.png").write_bytes(data)
    bound_memory(0.1)
    found = open_media(tmp_path / "a.png").probe()
    assert (found.content_types, found.streams) == (("image/png",), ())


@pytest.mark.parametrize(
    ("data", "types"),
    [
        (b"", ()),
        (b"Dear Sir or Madam,\n" * 500, ()),
        (bytes(50_000), ()),
        (b"%PDF-1.7\n" + bytes(500), ("application/pdf",)),
        (b"fLaC" + bytes(500), ("audio/flac",)),
        (b"OggS\0\2" + bytes(500), ()),
    ],
)
def test_what_is_not_media_has_no_streams(open_media, tmp_path, data, types):
    (tmp_path / "a.mp4").write_bytes(data)
    assert open_media(tmp_path / "a.mp4").probe() == MediaInfo(
        size_bytes=len(data), content_types=types
    )


def test_what_is_no_file_is_not_waited_for(open_media, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert open_media(tmp_path / "pipe").probe() == MediaInfo(size_bytes=0)
    with pytest.raises(MissingInput, match="No such file"):
        open_media(tmp_path / "gone").probe()


def tag_flac(path: str, comments: list[bytes]) -> None:
    """Put a block of comments into a FLAC file, behind its first block."""
    body = struct.pack("<II", 0, len(comments))
    body += b"".join(struct.pack("<I", len(each)) + each for each in comments)
    block = b"\x04" + struct.pack(">I", len(body))[1:] + body
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(data[:42] + block + data[42:])


def test_hostile_tags_are_bounded_printable_and_valid(open_media, tmp_path):
    path = sound.write(sound.tone(duration_s=0.1), str(tmp_path / "a.flac"))
    comments = [b"title=\x1b[31mred\xff\xfe\n\xe2\x80\xaeturned", b"artist=" + b"x" * 100_000]
    comments += [b"%d=%d" % (i, i) for i in range(1_000)] + [b"=nameless", b"empty=", b"k" * 5_000]
    tag_flac(path, comments)
    tags = open_media(path).probe().tags
    assert len(tags) <= MAX_TAGS
    assert tags["title"] == "\\x1b[31mred\ufffd\ufffd\n\\u202eturned"
    assert tags["artist"] == "x" * MAX_VALUE_CHARACTERS
    for name, value in tags.items():
        assert 0 < len(name) <= 64
        assert 0 < len(value) <= MAX_VALUE_CHARACTERS
    json.dumps(dict(tags), ensure_ascii=False).encode()


def test_the_description_is_json(open_media, tmp_path, seeds):
    (tmp_path / "a.mp4").write_bytes(seeds["film.mp4"])
    found = open_media(tmp_path / "a.mp4").probe()
    value = codec.encode("application/json", found).value
    assert value["streams"][1]["codec"] == "aac"
    assert value["content_types"] == ["audio/*", "video/*", "video/mp4"]


@pytest.mark.slow
@settings(max_examples=500)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_file_is_described_all_the_same(seeds, tmp_path_factory, seed):
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(mutate(seed, seeds)[1])
    media = LocalMedia(uri="file:///a", version="1", path=str(path), folder=str(path.parent))
    codec.encode("application/json", media.probe())
