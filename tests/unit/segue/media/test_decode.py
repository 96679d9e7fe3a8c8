"""Media files of all kinds, honest, broken and hostile, decoded once."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor

import ffmpeg
import numpy as np
import pytest

from segue import codec
from segue.errors import CorruptMedia, MissingInput
from segue.media import riff
from segue.media.audio import Audio
from segue.media.ffmpeg import find_ffmpeg, run_ffmpeg
from segue.testing import sound

# Lossy formats move a 440 Hz sine by less than this, relative to it.
LOSSY_ERROR_DB = -30.0
# Lossy formats are made of blocks; ffmpeg may keep the padding of the last, or miss a part of it.
BLOCK = 1024


@pytest.fixture(scope="module")
def music() -> Audio:
    return sound.music(3, duration_s=10.0)


@pytest.fixture
def written(tmp_path):
    """Write sound into the test's folder, in a format."""

    def write(audio: Audio, name: str) -> str:
        return sound.write(audio, str(tmp_path / name))

    return write


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate_hz", [8000, 22050, 44100, 96000])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_lossless_files_give_their_very_samples(
    open_media, written, suffix, sample_rate_hz, channels
):
    audio = sound.music(1, duration_s=0.5, sr=sample_rate_hz, channels=channels)
    decoded = open_media(written(audio, f"a.{suffix}")).audio()
    expected = codec.encode("audio/flac", audio).value
    assert decoded.sr == sample_rate_hz
    assert decoded.y.shape == expected.y.shape
    assert np.array_equal(decoded.y, expected.y)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate_hz", [16000, 44100])
@pytest.mark.parametrize("suffix", ["mp3", "ogg", "m4a"])
def test_lossy_files_give_the_sound_in_place(open_media, written, suffix, sample_rate_hz, channels):
    audio = sound.tone(440.0, 1.0, sr=sample_rate_hz, fade_s=0.1, channels=channels)
    decoded = open_media(written(audio, f"a.{suffix}")).audio()
    assert (decoded.sr, decoded.channels) == (sample_rate_hz, channels)
    n = min(audio.y.shape[-1], decoded.y.shape[-1])
    assert abs(decoded.y.shape[-1] - audio.y.shape[-1]) < BLOCK
    error = decoded.y[..., :n] - audio.y[..., :n]
    assert 10 * np.log10(np.mean(error**2) / np.mean(audio.y**2)) < LOSSY_ERROR_DB


def test_the_samples_are_mapped_float32_and_cannot_be_written(open_media, written, music):
    for audio in (music, music.mono()):
        y = open_media(written(audio, "a.wav")).audio().y
        assert y.dtype == np.float32
        assert type(y) is np.ndarray
        with pytest.raises(ValueError, match="read-only"):
            y[..., 0] = 0.0


def test_a_file_is_decoded_once(open_media, written, music):
    path = written(music, "a.wav")
    media = open_media(path)
    first = media.audio()
    os.unlink(path)
    assert media.audio() is first
    with open(media.decode_to_wav(), "rb") as file:
        header = riff.read_header(file)
    assert (header.channels, header.sample_rate_hz) == (2, 44100)


def test_threads_that_ask_at_once_get_the_same(open_media, written, music):
    media = open_media(written(music, "a.mp3"))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: media.audio(), range(4)))
    assert all(answer is answers[0] for answer in answers)
    assert len(os.listdir(os.path.dirname(media.decode_to_wav()))) == 1


def test_a_file_that_is_corrupt_is_not_decoded_again(open_media, tmp_path):
    path = tmp_path / "a.mp3"
    path.write_text("text")
    media = open_media(path)
    with pytest.raises(CorruptMedia) as first:
        media.audio()
    path.unlink()
    with pytest.raises(CorruptMedia) as second:
        media.decode_to_wav()
    assert first.value is second.value


@pytest.mark.parametrize(
    "name",
    [
        "with space.flac",
        "-y.flac",
        "12:30.flac",
        "http:x.flac",
        "100%d %s.flac",
        "ünï\u202ecode ☃.flac",
        "line\nbreak\n  Duration: 09:00:00.00, start.flac",
        "'quotes\" and \\ and $(touch x).flac",
        "concat:a|b.flac",
        "no_suffix",
        "wrong.mp3",
    ],
)
def test_any_name_works(open_media, tmp_path, name):
    audio = sound.tone(duration_s=0.1)
    path = sound.write(audio, str(tmp_path / name), "flac")
    assert open_media(path).audio().y.shape == audio.y.shape


def test_a_relative_name_with_a_dash_works(open_media, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sound.write(sound.tone(duration_s=0.1), "-i.flac")
    assert open_media("-i.flac").audio().y.shape == (4410,)


def test_the_folder_may_be_the_files_own(tmp_path):
    from segue.media.decode import LocalMedia

    audio = sound.tone(duration_s=0.1)
    path = sound.write(audio, str(tmp_path / "decoded.wav"))
    with open(path, "rb") as file:
        before = file.read()
    media = LocalMedia(uri="file:///a", generation=1, path=path, folder=str(tmp_path))
    assert media.audio().y.shape == (4410,)
    with open(path, "rb") as file:
        assert file.read() == before


# Broken files


def cut(path: str, share: float) -> str:
    with open(path, "rb+") as file:
        file.truncate(int(os.path.getsize(path) * share))
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_a_truncated_file_is_corrupt_media_and_says_how_much_is_there(
    open_media, written, music, suffix
):
    path = cut(written(music, f"a.{suffix}"), 0.41)
    with pytest.raises(CorruptMedia, match=r"/a\.\w+: truncated: 4\.\d s of 10\.\d s decoded$"):
        open_media(path).audio()


def test_a_truncated_wav_is_seen_wherever_it_is_cut(open_media, written, music):
    path = written(music, "a.wav")
    for size in (1_000_000, 999_998, 700_001, 46, 45):
        os.truncate(path, size)
        with pytest.raises(CorruptMedia, match=r"truncated|no samples"):
            open_media(path).audio()


def test_a_truncated_m4a_has_lost_its_index(open_media, written, music):
    path = cut(written(music, "a.m4a"), 0.5)
    with pytest.raises(CorruptMedia, match=r"truncated: the index at the end of the file is miss"):
        open_media(path).audio()


def test_a_truncated_m4a_with_its_index_in_front_is_seen_too(open_media, written, music, tmp_path):
    whole = written(music, "a.m4a")
    path = str(tmp_path / "b.m4a")
    run_ffmpeg(ffmpeg.input(whole).output(path, **{"c:a": "copy", "movflags": "+faststart"}))
    open_media(path).audio()
    with pytest.raises(CorruptMedia, match=r"truncated: \d\.\d s of 10\.0 s decoded"):
        open_media(cut(path, 0.6)).audio()


def test_a_truncated_ogg_ends_within_a_page(open_media, written, music):
    path = cut(written(music, "a.ogg"), 0.5)
    with pytest.raises(CorruptMedia, match=r"truncated: \d\.\d s decoded, then an Ogg page breaks"):
        open_media(path).audio()


def test_a_file_without_a_declared_length_may_be_any_part(open_media, written, music, tmp_path):
    path = str(tmp_path / "a.aac")
    run_ffmpeg(ffmpeg.input(written(music, "a.wav")).output(path, **{"c:a": "aac", "f": "adts"}))
    assert open_media(cut(path, 0.5)).audio().duration_s == pytest.approx(5.0, abs=1.0)


def test_a_wav_that_was_written_to_a_pipe_is_whole(open_media, tmp_path, written, music):
    source = written(music, "a.wav")
    command = [find_ffmpeg(), "-v", "error", "-i", source, "-f", "wav", "-"]
    piped = subprocess.run(command, capture_output=True, check=True).stdout
    (tmp_path / "b.wav").write_bytes(piped)
    assert open_media(tmp_path / "b.wav").audio().y.shape == music.y.shape


def wav_header(*, channels: int = 2, rate: int = 44100, bits: int = 16, data: bytes = b"") -> bytes:
    block = channels * bits // 8
    form = struct.pack(
        "<HHIIHH", riff.PCM, channels, rate, min(rate * block, 2**32 - 1), block, bits
    )
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", len(body) + len(data)) + body + data


NAN = np.array([0.0, np.nan] * 2000, "<f4").tobytes()
BROKEN = {
    "empty": (b"", r"empty file"),
    "text": (b"Dear Sir or Madam,\n" * 500, r"not audio"),
    "html": (b"<html><body>404 Not Found</body></html>", r"not audio"),
    "noise": (np.random.default_rng(0).bytes(50_000), r"not audio"),
    "zeros": (bytes(50_000), r"not audio"),
    "no samples": (wav_header(), r"not audio|no samples"),
    "slow": (wav_header(rate=3, data=bytes(400)), r"rate is 3 Hz"),
    "fast": (wav_header(rate=2_000_000, data=bytes(4000)), r"rate is 2000000 Hz"),
    "broad": (wav_header(channels=64, data=bytes(12_800)), r"64 channels|not audio"),
    "NaN": (
        riff.build_float32_header(channels=1, sample_rate_hz=8000, frames=4000) + NAN,
        r"infinite or not a number",
    ),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_corrupt_media_and_says_why(open_media, tmp_path, data, message):
    path = tmp_path / "song.mp3"
    path.write_bytes(data)
    with pytest.raises(CorruptMedia, match=rf"^file:///music/song\.mp3: .*({message})"):
        open_media(path).audio()


def test_a_failure_leaves_no_file_behind(open_media, written, music):
    media = open_media(cut(written(music, "a.flac"), 0.5))
    with pytest.raises(CorruptMedia):
        media.audio()
    assert os.listdir(os.path.dirname(media._target)) == []


def test_a_film_without_sound_has_no_audio_stream(open_media, tmp_path):
    path = str(tmp_path / "a.m4a")
    film = ffmpeg.input("testsrc=duration=0.2:size=64x64", f="lavfi")
    run_ffmpeg(film.output(path, f="mp4", **{"c:v": "mpeg4"}))
    with pytest.raises(CorruptMedia, match="no audio stream"):
        open_media(path).audio()


def test_a_file_that_is_gone_is_missing_not_corrupt(open_media, tmp_path):
    with pytest.raises(MissingInput, match="No such file"):
        open_media(tmp_path / "gone.mp3").audio()
    with pytest.raises(MissingInput, match="Is a directory"):
        open_media(tmp_path).audio()


def test_what_is_longer_than_the_limit_is_refused(open_media, written, music, monkeypatch):
    path = written(music, "a.flac")
    monkeypatch.setattr("segue.media.decode.MAX_DURATION_S", 9.0)
    with pytest.raises(CorruptMedia, match=r"longer than 9 s; cut it"):
        open_media(path).audio()
    monkeypatch.setattr("segue.media.decode.MAX_DURATION_S", 10.0)
    assert open_media(path).audio().duration_s == 10.0


def test_what_decodes_to_more_than_the_limit_is_refused_while_it_does(
    open_media, tmp_path, monkeypatch
):
    # Silence in FLAC: 60 kB that become 20 MB.
    path = sound.write(sound.silence(60.0, channels=2), str(tmp_path / "bomb.flac"))
    monkeypatch.setattr("segue.media.decode.MAX_DECODED_BYTES", 2**20)
    with pytest.raises(CorruptMedia, match=r"decodes to more than 0\.000976562 GiB"):
        open_media(path).audio()


# Hostile files


@pytest.mark.parametrize(
    "claim",
    [
        "No space left on device",
        "Cannot allocate memory",
        "Unrecognized option 'x'.",
        "[a] Unknown encoder",
    ],
)
def test_neither_tags_nor_names_decide_what_kind_of_failure_it_is(
    open_media, written, music, tmp_path, claim
):
    path = str(tmp_path / "tagged.flac")
    tags = {"metadata": f"comment=x\n{claim}", "metadata:g:1": f"title={claim}"}
    run_ffmpeg(ffmpeg.input(written(music, "a.flac")).output(path, **tags))
    with pytest.raises(CorruptMedia, match="truncated"):
        open_media(cut(path, 0.5)).audio()
    named = tmp_path / f"a\n{claim}\n.mp3"
    named.write_text("text")
    with pytest.raises(CorruptMedia, match="not audio"):
        open_media(named).audio()


@pytest.fixture
def secret(tmp_path) -> str:
    """Sound that is none of the catalogue's business."""
    os.mkdir(tmp_path / "private")
    return sound.write(sound.tone(duration_s=1.0), str(tmp_path / "private" / "secret.wav"))


HLS = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:1
#EXTINF:1.0,
{target}
#EXT-X-ENDLIST
"""
DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="audio/wav">
<Representation id="1" bandwidth="1"><BaseURL>{target}</BaseURL></Representation></AdaptationSet>
</Period></MPD>
"""
PLAYLISTS = {
    "hls": HLS,
    "concat": "ffconcat version 1.0\nfile '{target}'\n",
    "concat unsafe": "ffconcat version 1.0\noption safe 0\nfile '{target}'\n",
    "dash": DASH,
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={target}\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
    "m3u": "{target}\n",
}


@pytest.mark.parametrize("name", ["song.mp3", "song.m3u8", "song.ffconcat", "song.wav"])
@pytest.mark.parametrize("playlist", PLAYLISTS.values(), ids=PLAYLISTS)
def test_a_playlist_cannot_make_a_worker_read_another_file(
    open_media, tmp_path, secret, playlist, name
):
    path = tmp_path / name
    for target in (secret, f"file:{secret}", "private/secret.wav"):
        path.write_text(playlist.format(target=target))
        media = open_media(path)
        with pytest.raises(CorruptMedia, match="not audio"):
            media.audio()
        assert os.listdir(os.path.dirname(media._target)) == []


@pytest.mark.parametrize("playlist", PLAYLISTS.values(), ids=PLAYLISTS)
def test_a_playlist_cannot_make_a_worker_call_the_network(open_media, tmp_path, playlist):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        path = tmp_path / "song.mp3"
        path.write_text(playlist.format(target=f"http://127.0.0.1:{port}/secret.wav"))
        with pytest.raises(CorruptMedia, match="not audio"):
            open_media(path).audio()
        with pytest.raises(TimeoutError):
            server.accept()


def test_the_playlists_would_work_if_nobody_forbade_them(tmp_path, secret):
    # Else the tests above would prove nothing.
    path = tmp_path / "song.ffconcat"
    path.write_text(PLAYLISTS["concat"].format(target="private/secret.wav"))
    out = str(tmp_path / "out.wav")
    assert run_ffmpeg(ffmpeg.input(str(path)).output(out)).returncode == 0
    assert os.path.getsize(out) >= os.path.getsize(secret)
