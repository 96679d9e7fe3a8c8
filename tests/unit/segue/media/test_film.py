"""Key frames of films of all kinds, honest, broken and hostile."""

from __future__ import annotations

import os
import struct

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segue.errors import CorruptMedia, MissingInput, NotApplicable, TooLarge
from segue.media import film
from segue.media.decode import LocalMedia
from segue.media.film import open_container
from segue.media.formats import FILM_CONTAINERS
from segue.testing import sound
from segue_support.media_seeds import run_bundled_ffmpeg
from segue_support.mutated_media import mutate

# Three seconds of red, green and blue, with a key frame at each change.
COLOURS = ("red", "lime", "blue")
RGB = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
# Video codecs reduce the range, and the resolution, of colours.
COLOUR_ERROR = 12
INPUTS = [
    *(each for colour in COLOURS for each in ("-f", "lavfi", "-i", f"color={colour}:s=64x48:d=1")),
    *("-f", "lavfi", "-i", "sine=d=3"),
    *("-filter_complex", "[0][1][2]concat=n=3[v]", "-map", "[v]", "-map", "3:a"),
]
FILMS = {
    "h264.mp4": ("-c:v", "libx264"),
    "hevc.mp4": ("-c:v", "libx265"),
    "mpeg4.mp4": ("-c:v", "mpeg4"),
    "fragmented.mp4": ("-c:v", "libx264", "-movflags", "+frag_keyframe+empty_moov"),
    "h264.mkv": ("-c:v", "libx264"),
    "vp8.webm": ("-c:v", "libvpx"),
    "vp9.webm": ("-c:v", "libvpx-vp9"),
    "av1.mkv": ("-c:v", "libsvtav1"),
    "mpeg4.avi": ("-c:v", "mpeg4"),
    "mpeg2.ts": ("-c:v", "mpeg2video"),
    "h264.ts": ("-c:v", "libx264"),
    "opengop.ts": ("-c:v", "libx264", "-x264-params", "open-gop=1:bframes=3"),
    "mpeg2.mpg": ("-c:v", "mpeg2video"),
    "wmv2.wmv": ("-c:v", "wmv2"),
    "flv1.flv": ("-c:v", "flv1", "-ar", "22050"),
    "theora.ogv": ("-c:v", "libtheora"),
}
INTRA = {"mjpeg.mov": ("-c:v", "mjpeg"), "prores.mov": ("-c:v", "prores")}


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[str, str]:
    """The path of each film by its name."""
    folder = tmp_path_factory.mktemp("films")
    for name, options in (FILMS | INTRA).items():
        rate = ("-r", "25", "-g", "25", "-pix_fmt", "yuv420p", "-force_key_frames", "1,2")
        if name == "prores.mov":
            rate = ("-r", "25")
        run_bundled_ffmpeg(*INPUTS, *rate, *options, str(folder / name))
    return {name: str(folder / name) for name in FILMS | INTRA}


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("name", FILMS)
def test_each_container_and_codec_gives_its_key_frames(open_media, films, name):
    frames = list(open_media(films[name]).frames())
    assert [time_s for time_s, _ in frames] == pytest.approx([0.0, 1.0, 2.0], abs=0.1)
    for (_, rgb), colour in zip(frames, RGB, strict=True):
        assert (rgb.shape, rgb.dtype, type(rgb)) == ((48, 64, 3), np.uint8, np.ndarray)
        assert np.abs(rgb.mean(axis=(0, 1)) - colour).max() < COLOUR_ERROR
        with pytest.raises(ValueError, match="read-only"):
            rgb[0, 0] = 0


@pytest.mark.parametrize("name", FILMS | INTRA)
def test_key_frames_are_found_without_being_decoded(films, name):
    listed = list(film.scan_key_frames(films[name], name))
    decoded = film.iterate_key_frames(films[name], name)
    assert [frame.time_s for frame in listed] == [time_s for time_s, _ in decoded]
    assert all(0 < frame.size_bytes <= os.path.getsize(films[name]) for frame in listed)


@pytest.mark.parametrize("name", FILMS | INTRA)
def test_the_brightness_of_each_frame_is_decoded(films, name):
    """Of three colours; a stream may lack its last frames, and Theora codes none that is equal."""
    frames = film.iterate_luma(films[name], name)
    found = [(time_s, luma.shape, luma.mean()) for time_s, luma in frames]
    assert len(found) in ((3, 4, 5, 6) if name == "theora.ogv" else (73, 74, 75))
    times = [time_s for time_s, _, _ in found]
    assert times == sorted(set(times))
    assert {shape for _, shape, _ in found} == {(48, 64)}
    for second, (red, green, blue) in enumerate(RGB):
        shown = [luma for time_s, _, luma in found if time_s <= second + 0.5]
        expected = 16 + 219 / 255 * (0.299 * red + 0.587 * green + 0.114 * blue)
        assert shown[-1] == pytest.approx(expected, abs=COLOUR_ERROR)


@pytest.mark.parametrize("name", INTRA)
def test_where_each_frame_is_a_key_frame_those_that_are_close_can_be_left_out(
    open_media, films, name
):
    media = open_media(films[name])
    assert len(list(media.frames())) == 75
    times = [time_s for time_s, _ in media.frames(min_gap_s=0.5)]
    assert times == pytest.approx([0.0, 0.52, 1.04, 1.56, 2.08, 2.6], abs=0.01)


def test_frames_may_be_asked_for_again_and_need_not_all_be_read(open_media, films):
    media = open_media(films["h264.mp4"])
    first, _ = next(media.frames())
    assert first == 0.0
    assert len(list(media.frames())) == 3


def test_frames_are_decoded_without_more_threads(open_media, films):
    def count() -> int:
        return len(os.listdir("/proc/self/task"))

    before = count()
    for name in FILMS:
        assert {count() for _ in open_media(films[name]).frames()} == {before}, name


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_film_of_a_telephone_is_upright(open_media, films, tmp_path, degrees):
    path, shown = str(tmp_path / "a.mp4"), str(tmp_path / "a.png")
    source = str(tmp_path / "b.mp4")
    picture = ("-f", "lavfi", "-i", "testsrc=s=64x48:d=0.2", "-pix_fmt", "yuv420p")
    run_bundled_ffmpeg(*picture, "-c:v", "libx264", source)
    run_bundled_ffmpeg("-display_rotation", str(degrees), "-i", source, "-c", "copy", path)
    run_bundled_ffmpeg("-i", path, "-frames:v", "1", shown)
    [(_, rgb)] = open_media(path).frames()
    expected = np.asarray(Image.open(shown).convert("RGB")).astype(int)
    assert rgb.shape == expected.shape
    assert np.abs(rgb - expected).mean() < COLOUR_ERROR


def test_a_recording_that_begins_between_key_frames_is_read(open_media, films, tmp_path):
    whole = read(films["mpeg2.ts"])
    (tmp_path / "a.ts").write_bytes(whole[len(whole) // 188 // 6 * 188 :])
    frames = list(open_media(tmp_path / "a.ts").frames())
    assert 1 <= len(frames) <= 2
    assert np.abs(frames[-1][1].mean(axis=(0, 1)) - RGB[-1]).max() < COLOUR_ERROR


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_recordings_that_are_joined_are_one_film(open_media, films, tmp_path, suffix):
    early = films[f"mpeg2.{suffix}"]
    late = str(tmp_path / f"late.{suffix}")
    copy = ("-map", "0", "-c", "copy", "-output_ts_offset", "50000")
    run_bundled_ffmpeg("-i", early, *copy, late)
    for parts in ((early, late), (late, early)):
        (tmp_path / "joined").write_bytes(b"".join(map(read, parts)))
        times = [time_s for time_s, _ in open_media(tmp_path / "joined").frames()]
        assert times == pytest.approx([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], abs=0.1)


@pytest.mark.parametrize("name", ["late.mkv", "late.ts", "late.mp4", "late.flv"])
def test_times_count_from_the_first_picture_whatever_the_clock_says(
    open_media, films, tmp_path, name
):
    path = tmp_path / name
    late = ("-an", "-c", "copy", "-output_ts_offset", "50", str(path))
    run_bundled_ffmpeg("-i", films["h264.mp4"], *late)
    times = [time_s for time_s, _ in open_media(path).frames()]
    assert times == pytest.approx([0.0, 1.0, 2.0], abs=0.1)
    assert [frame.time_s for frame in film.scan_key_frames(str(path), name)] == times


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "mpeg4.avi", "wmv2.wmv", "flv1.flv"])
def test_a_truncated_film_is_corrupt(open_media, films, tmp_path, name):
    data = read(films[name])
    (tmp_path / name).write_bytes(data[: len(data) * 7 // 10])
    with pytest.raises(CorruptMedia, match=r"truncated|not a film, or damaged"):
        list(open_media(tmp_path / name).frames())


def test_a_damaged_key_frame_is_corrupt(open_media, films, tmp_path):
    data = bytearray(read(films["prores.mov"]))
    at = data.index(b"icpf")
    data[at + 4 : at + 400] = bytes(396)
    (tmp_path / "a.mov").write_bytes(data)
    with pytest.raises(CorruptMedia, match=r"/a\.mov: damaged: a key frame cannot be decoded"):
        list(open_media(tmp_path / "a.mov").frames())


NO_FILM = {
    "empty": (b"", "empty file"),
    "text": (b"not a film\n" * 500, "not a film, or damaged"),
    "noise": (np.random.default_rng(0).bytes(50_000), "not a film, or damaged"),
    "zeros": (bytes(50_000), "not a film, or damaged"),
    "no index": (b"\0\0\0\x18ftypisom\0\0\0\0isommp42\0\0\1\0mdat" + bytes(248), "not a film"),
}


@pytest.mark.parametrize(("data", "message"), NO_FILM.values(), ids=NO_FILM)
def test_what_is_damaged_or_nothing_is_corrupt(open_media, tmp_path, data, message):
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(CorruptMedia, match=message):
        list(open_media(tmp_path / "a.mp4").frames())


def test_what_has_no_moving_pictures_is_not_for_a_job_that_needs_them(open_media, tmp_path):
    song = sound.write(sound.tone(duration_s=0.1), str(tmp_path / "a.flac"))
    cover, covered = str(tmp_path / "cover.png"), str(tmp_path / "covered.m4a")
    Image.new("RGB", (32, 32), "red").save(cover)
    attached = ("-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic")
    run_bundled_ffmpeg("-i", song, "-i", cover, *attached, covered)
    for path, what in (
        (song, r"sound \(audio/flac\)"),
        (covered, r"sound \(audio/mp4\)"),
        (cover, r"an image \(image/png\)"),
    ):
        with pytest.raises(NotApplicable, match=rf"{what}: it has no moving pictures"):
            list(open_media(path).frames())


def test_a_codec_that_is_not_listed_is_refused(open_media, tmp_path):
    path = str(tmp_path / "a.mkv")
    run_bundled_ffmpeg("-f", "lavfi", "-i", "testsrc=d=0.2:s=64x48", "-c:v", "huffyuv", path)
    with pytest.raises(CorruptMedia, match=r"coded as huffyuv, which Segue does not decode: conv"):
        list(open_media(path).frames())


def test_what_is_no_file_is_not_waited_for(open_media, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorruptMedia, match="a pipe or a device"):
        list(open_media(tmp_path / "pipe").frames())
    with pytest.raises(MissingInput, match="No such file"):
        list(open_media(tmp_path / "gone").frames())


# Limits


def test_what_is_longer_than_the_limit_is_too_large(open_media, films, monkeypatch):
    monkeypatch.setattr(film, "MAX_DURATION_S", 2.0)
    for name in ("h264.mp4", "h264.ts"):
        with pytest.raises(TooLarge, match=r"longer than 0\.000555556 hours; cut it into parts"):
            list(open_media(films[name]).frames())


def test_more_key_frames_than_the_limit_are_too_many(open_media, films, monkeypatch):
    monkeypatch.setattr(film, "MAX_FRAMES", 50)
    media = open_media(films["mjpeg.mov"])
    with pytest.raises(TooLarge, match="more than 50 key frames; use a larger min_gap_s"):
        list(media.frames())
    assert len(list(media.frames(min_gap_s=0.1))) == 25


def test_more_pixels_than_the_limit_are_too_large(open_media, films, monkeypatch):
    monkeypatch.setattr(film, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(TooLarge, match="64 x 48 pixels; the limit is 3,071 pixels"):
        list(open_media(films["h264.mp4"]).frames())
    # Of MPEG-4, the decoder finds out how many there are.
    with pytest.raises((TooLarge, CorruptMedia)):
        list(open_media(films["mpeg4.mp4"]).frames())


def test_absurd_dimensions_are_refused_before_memory_is_taken(
    open_media, films, tmp_path, bound_memory
):
    data = bytearray(read(films["h264.mp4"]))
    at = data.index(b"avc1", data.index(b"stsd")) + 28
    assert struct.unpack(">HH", data[at : at + 4]) == (64, 48)
    data[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.mp4").write_bytes(data)
    bound_memory(0.25)
    with pytest.raises(TooLarge, match=r"65,535 x 65,535 pixels; the limit is 67,108,864 pixels"):
        list(open_media(tmp_path / "a.mp4").frames())
    data[at : at + 4] = struct.pack(">HH", 8000, 8000)
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(TooLarge, match=r"8,000 x 8,000 pixels, needs up to 1\.43 GiB of memory"):
        list(open_media(tmp_path / "a.mp4").frames())


# Hostile files


@pytest.fixture
def secret(tmp_path, films) -> str:
    """A film that is none of the catalogue's business."""
    os.mkdir(tmp_path / "private")
    path = str(tmp_path / "private" / "secret.ts")
    os.link(films["mpeg2.ts"], path)
    return path


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\n{target}\n"
    "#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "m3u": "{target}\n",
}


@pytest.mark.parametrize("name", ["film.mp4", "film.m3u8", "film.ffconcat", "film.ts"])
@pytest.mark.parametrize("playlist", PLAYLISTS.values(), ids=PLAYLISTS)
def test_a_playlist_cannot_make_a_worker_read_another_film(
    open_media, tmp_path, secret, playlist, name
):
    for target in (secret, f"file:{secret}", "private/secret.ts"):
        (tmp_path / name).write_text(playlist.format(target=target))
        media = open_media(tmp_path / name)
        with pytest.raises(CorruptMedia, match="not a film, or damaged"):
            list(media.frames())
        assert media.probe().streams == ()


@pytest.mark.parametrize("demuxer", ["hls", "concat"])
def test_not_even_a_demuxer_of_playlists_could_open_another_file(tmp_path, secret, demuxer):
    path = tmp_path / "film.m3u8"
    path.write_text(PLAYLISTS[demuxer].format(target=os.path.basename(secret)))
    os.link(secret, tmp_path / "secret.ts")
    # Else the tests above would prove nothing.
    with av.open(str(path), format=demuxer) as container:
        assert len(container.streams.video) == 1
    with open(path, "rb") as file, pytest.raises((av.FFmpegError, PermissionError)):
        open_container(file, [demuxer])


def test_only_listed_demuxers_run(films):
    with open(films["h264.mp4"], "rb") as file:
        with open_container(file, FILM_CONTAINERS) as container:
            assert container.format.name.startswith("mov")
        with pytest.raises(av.FFmpegError):
            open_container(file, ["matroska"])


def test_nothing_is_decoded_to_describe_a_film(films):
    with open(films["mpeg4.mp4"], "rb") as file, open_container(file, FILM_CONTAINERS) as opened:
        # These would be known if it had been.
        assert opened.streams.video[0].codec_context.width == 0


@pytest.mark.parametrize("box", [b"mvhd", b"mdhd"])
def test_an_absurd_duration_is_too_large_or_known_to_be_wrong(open_media, films, tmp_path, box):
    data = bytearray(read(films["h264.mp4"]))
    at = data.index(box) + 4 + 16  # behind version, times and time scale
    data[at : at + 4] = b"\xff\xff\xff\xf0"
    (tmp_path / "a.mp4").write_bytes(data)
    media = open_media(tmp_path / "a.mp4")
    found = media.probe()
    assert all(each is None or each < 1e8 for each in (found.duration_s, found.bit_rate_bps))
    try:
        assert len(list(media.frames())) == 3
    except TooLarge as error:
        assert "longer than 6 hours" in str(error)  # noqa: PT017 - both are right


def test_thousands_of_streams_are_refused(open_media, films, tmp_path):
    data = read(films["h264.mp4"])
    at = data.index(b"moov") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    track_at = data.index(b"trak") - 4
    track_bytes = int.from_bytes(data[track_at : track_at + 4], "big")
    track = data[track_at : track_at + track_bytes]
    more = struct.pack(">I", size + 5_000 * track_bytes) + data[at + 4 : at + size] + track * 5_000
    (tmp_path / "a.mp4").write_bytes(data[:at] + more + data[at + size :])
    media = open_media(tmp_path / "a.mp4")
    assert len(media.probe().streams) <= film.MAX_STREAMS
    with pytest.raises(CorruptMedia, match="not a film, or damaged: Cannot allocate memory"):
        list(media.frames())


def test_memory_that_the_machine_lacks_is_no_damage(open_media, films, monkeypatch):
    def refuse(_file, _demuxers):
        raise av.error.MemoryError(12, "Cannot allocate memory")

    monkeypatch.setattr(film, "open_container", refuse)
    monkeypatch.setattr(film, "has_ample_memory", lambda: False)
    with pytest.raises(MemoryError):
        list(open_media(films["h264.mp4"]).frames())


@pytest.mark.slow
@settings(max_examples=300)
@given(seed=st.integers(0, 2**32))
def test_a_damaged_film_gives_frames_or_is_corrupt(films, tmp_path_factory, seed):
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(mutate(seed, {name: read(each) for name, each in films.items()})[1])
    media = LocalMedia(uri="file:///a", version="1", path=str(path), folder=str(path.parent))
    try:
        for time_s, rgb in media.frames(min_gap_s=0.3):
            assert time_s >= 0
            assert (rgb.ndim, rgb.shape[2], rgb.dtype) == (3, 3, np.uint8)
    except (CorruptMedia, TooLarge, NotApplicable):
        pass


@pytest.mark.slow
@settings(max_examples=300)
@given(seed=st.integers(0, 2**32))
def test_all_frames_of_a_damaged_film_are_read_or_it_is_corrupt(films, tmp_path_factory, seed):
    path = str(tmp_path_factory.getbasetemp() / "damaged")
    _, data = mutate(seed, {name: read(each) for name, each in films.items()})
    with open(path, "wb") as file:
        file.write(data)
    for read_film in (film.scan_key_frames, film.iterate_luma):
        try:
            found = list(read_film(path, "file:///a"))
        except (CorruptMedia, TooLarge, NotApplicable):
            continue
        assert found
