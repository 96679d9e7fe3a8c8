"""Media files of all kinds, honest, broken and hostile, decoded once."""

from __future__ import annotations

import os
import re
import resource
import socket
import struct
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import ffmpeg
import numpy as np
import pytest
import soundfile
from PIL import Image

from segue import codec
from segue.errors import (
    ConfigurationError,
    CorruptMedia,
    DiskFull,
    MissingInput,
    NotApplicable,
    OutOfMemory,
    TooLarge,
)
from segue.media import riff
from segue.media.audio import Audio
from segue.media.ffmpeg import find_ffmpeg, run_ffmpeg
from segue.media.formats import CONTAINERS
from segue.testing import sound
from segue_support import media_seeds
from segue_support.paths import ROOT

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
    media = LocalMedia(uri="file:///a", version="1", path=path, folder=str(tmp_path))
    assert media.audio().y.shape == (4410,)
    with open(path, "rb") as file:
        assert file.read() == before


# Broken files


def cut(path: str, share: float) -> str:
    with open(path, "rb+") as file:
        file.truncate(int(os.path.getsize(path) * share))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in media_seeds.NAMES if name not in media_seeds.UNDECLARED]
)
def test_a_truncated_file_is_corrupt_media(open_media, tmp_path, name):
    path = cut(media_seeds.write_seed(name, str(tmp_path), duration_s=2.0), 0.7)
    with pytest.raises(CorruptMedia, match=r"truncated: "):
        open_media(path).audio()


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        ("wav", r"the file ends 1,040,786 bytes before its sound does"),
        ("mp3", r"the file ends [\d,]+ bytes before the last frame that its header counts does"),
        ("flac", r"4\.\d\d s of 10\.00 s decoded"),
        ("ogg", r"the last of its Ogg pages breaks off"),
    ],
)
def test_a_truncated_file_says_how_much_is_missing(open_media, written, music, suffix, message):
    path = cut(written(music, f"a.{suffix}"), 0.41)
    with pytest.raises(CorruptMedia, match=rf"/a\.\w+: truncated: {message}$"):
        open_media(path).audio()


def shift(path: str, *, seconds: float) -> str:
    """Make the sound of a file start later, without other changes."""
    late = path.replace(".", "-late.")
    start = ("-itsoffset", str(seconds), "-i", path)
    if os.path.basename(path).startswith("film"):
        media_seeds.run_bundled_ffmpeg(
            "-i", path, *start, "-map", "0:v", "-map", "1:a", "-c", "copy", late
        )
    else:
        media_seeds.run_bundled_ffmpeg(*start, "-c", "copy", late)
    return late


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *("aac.m4a", "sound.mov", "sound.mka", "sound.webm", "sound.wma", "sound.avi"),
        *("sound.flv", "sound.ts", "vorbis.ogg", "film.mp4", "film.mkv", "film.avi", "film.ts"),
    ],
)
def test_sound_that_starts_late_is_whole(open_media, tmp_path, name):
    path = media_seeds.write_seed(name, str(tmp_path), duration_s=1.0)
    late = open_media(shift(path, seconds=3.0)).audio()
    assert late.duration_s == pytest.approx(open_media(path).audio().duration_s, abs=0.1)


@pytest.mark.parametrize(
    "name", ["sound.flac", "sound.wv", "sound.tta", "flac.ogg", "vorbis.ogg", "sound.mka"]
)
def test_damage_in_the_middle_is_corrupt_media(open_media, tmp_path, name):
    path = media_seeds.write_seed(name, str(tmp_path), duration_s=5.0)
    with open(path, "r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 0x10]))
    with pytest.raises(CorruptMedia, match=r"damaged: |truncated: "):
        open_media(path).audio()


@pytest.mark.parametrize("name", ["sound.webm", "aac.m4a", "opus.ogg", "sound.mp3", "aac.flv"])
def test_a_hole_in_the_middle_is_corrupt_media(open_media, tmp_path, name):
    path = media_seeds.write_seed(name, str(tmp_path), duration_s=10.0)
    hole = os.path.getsize(path) // 10
    with open(path, "r+b") as file:
        file.seek(5 * hole)
        file.write(bytes(hole))
    with pytest.raises(CorruptMedia, match=r"damaged: |truncated: "):
        open_media(path).audio()


def test_not_even_the_last_block_of_a_flac_may_be_missing(open_media, tmp_path):
    path = cut(media_seeds.write_seed("sound.flac", str(tmp_path), duration_s=10.0), 0.99)
    with pytest.raises(CorruptMedia, match=r"truncated: 9\.\d\d s of 10\.00 s decoded"):
        open_media(path).audio()


def test_a_transport_stream_may_jump_in_time(open_media, tmp_path):
    path = media_seeds.write_seed("sound.ts", str(tmp_path), duration_s=1.0)
    with open(path, "rb") as first, open(shift(path, seconds=5000.0), "rb") as second:
        joined = second.read() + first.read()
    (tmp_path / "joined.ts").write_bytes(joined)
    assert open_media(tmp_path / "joined.ts").audio().duration_s == pytest.approx(2.0, abs=0.2)


def test_sound_with_a_pause_between_its_packets_is_whole(open_media, tmp_path):
    path = str(tmp_path / "a.webm")
    pause = ("-af", "aselect='lt(t,1)+gt(t,5)'", "-c:a", "libopus")
    media_seeds.run_bundled_ffmpeg("-f", "lavfi", "-i", "sine=440:d=6", *pause, path)
    assert open_media(path).audio().duration_s == pytest.approx(2.0, abs=0.05)


def encode_bare_mp3(audio: Audio, folder) -> bytes:
    """Without a header that says how many samples at its ends are not sound."""
    source = sound.write(audio, str(folder / "bare.wav"))
    target = str(folder / "bare.mp3")
    options = {"b:a": "128k", "write_xing": 0, "id3v2_version": 0}
    assert run_ffmpeg(ffmpeg.input(source).output(target, **options)).returncode == 0
    with open(target, "rb") as file:
        return file.read()


# A resampler starts and stops within the file; it may keep some samples.
@pytest.mark.parametrize(
    ("channels", "sr", "tolerance"),
    [(2, 44_100, 0), (1, 44_100, 0), (2, 48_000, 64)],
    ids=["the same", "mono", "another rate"],
)
def test_no_sound_is_lost_where_joined_files_differ(open_media, tmp_path, channels, sr, tolerance):
    parts = [
        encode_bare_mp3(sound.tone(440.0, 2.0, sr=44_100, channels=2), tmp_path),
        encode_bare_mp3(sound.tone(1000.0, 2.0, sr=sr, channels=channels), tmp_path),
    ]
    contents = [*parts, parts[0] + parts[1] + parts[0]]
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.mp3").write_bytes(content)
    first, second, joined = (open_media(tmp_path / f"{i}.mp3").audio() for i in range(3))
    assert (joined.sr, joined.channels) == (44_100, 2)
    frames = (2 * first.duration_s + second.duration_s) * joined.sr
    assert joined.y.shape[1] == pytest.approx(frames, abs=tolerance)
    # The decoder carries some of a block over into the next.
    whole = slice(2 * BLOCK, -2 * BLOCK)
    before, middle, after = (
        joined.y[:, start : start + first.y.shape[1]][:, whole]
        for start in (0, first.y.shape[1], joined.y.shape[1] - first.y.shape[1])
    )
    assert np.array_equal(before, first.y[:, whole])
    assert np.array_equal(after, first.y[:, whole])
    spectrum = np.abs(np.fft.rfft(middle[0]))
    assert spectrum.argmax() * joined.sr / middle.shape[1] == pytest.approx(1000.0, abs=1.0)


def test_an_mp3_with_a_wrong_number_of_frames_is_whole_unless_some_are_damaged(
    open_media, written, music
):
    path = written(music, "a.mp3")
    with open(path, "rb") as file:
        data = bytearray(file.read())
    at = max(data.find(b"Info"), data.find(b"Xing")) + 8
    data[at : at + 4] = struct.pack(">I", 2 * int.from_bytes(data[at : at + 4], "big"))
    with open(path, "wb") as file:
        file.write(data)
    assert open_media(path).audio().duration_s == pytest.approx(10.0, abs=0.1)
    data[len(data) // 2 : len(data) // 2 + 5000] = bytes(5000)
    with open(path, "wb") as file:
        file.write(data)
    with pytest.raises(CorruptMedia, match="truncated"):
        open_media(path).audio()


def test_a_wav_whose_header_was_not_updated_is_corrupt_media(open_media, tmp_path):
    whole = wav_header(data=np.random.default_rng(0).bytes(400_000))
    declared = struct.pack("<I", 100_000)
    at = whole.index(b"data") + 4
    (tmp_path / "a.wav").write_bytes(whole[:at] + declared + whole[at + 4 :])
    with pytest.raises(CorruptMedia, match="300,000 bytes follow its sound"):
        open_media(tmp_path / "a.wav").audio()


def test_a_size_that_wrapped_is_found_without_reading_gigabytes(open_media, tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_header(data=bytes(1000)))
    os.truncate(path, (1 << 32) + 1044)  # a hole, which takes no space
    with pytest.raises(CorruptMedia, match="4,294,967,296 bytes follow its sound"):
        open_media(path).audio()


# Every container


@pytest.mark.slow
@pytest.mark.parametrize("name", media_seeds.NAMES)
def test_every_container_is_read(open_media, tmp_path, name):
    audio = open_media(media_seeds.write_seed(name, str(tmp_path), duration_s=0.5)).audio()
    assert audio.duration_s == pytest.approx(0.5, abs=0.1)
    if name not in media_seeds.BUILT:
        assert 0.3 < np.abs(audio.y).max() < 0.6


def test_the_document_lists_the_containers_that_are_read():
    document = (ROOT / "docs" / "formats.md").read_text("utf-8")
    rows = re.findall(r"^\|[^|]+\|[^|]+\|([^|]+)\|[^|]+\|$", document, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(CONTAINERS)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_big_endian_wav_is_read_as_other_programs_read_it(open_media, tmp_path, subtype):
    path = str(tmp_path / "a.wav")
    y = sound.noise(1, 0.1, channels=2).y.T
    soundfile.write(path, y, 44100, subtype, "BIG", "WAV")
    with open(path, "rb") as file:
        assert file.read(4) == b"RIFX"
    expected, _ = soundfile.read(path, dtype="float32")
    assert np.array_equal(open_media(path).audio().y.T, expected)


def test_big_endian_wav_of_another_format_is_refused(open_media, tmp_path):
    form = struct.pack(">HHIIHH", 2, 1, 8000, 4096, 256, 4)
    body = b"WAVEfmt " + struct.pack(">I", 16) + form + b"data" + struct.pack(">I", 512)
    data = b"RIFX" + struct.pack(">I", len(body) + 512) + body + bytes(512)
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(CorruptMedia, match=r"RIFX\) of format 2 and 4 bits.*convert it"):
        open_media(tmp_path / "a.wav").audio()
    soundfile.write(tmp_path / "b.wav", sound.tone(duration_s=0.1).y, 44100, "ULAW", "BIG", "WAV")
    with pytest.raises(CorruptMedia, match=r"RIFX\) with an extended header.*convert it"):
        open_media(tmp_path / "b.wav").audio()


@pytest.mark.parametrize("times", [64, 256, 512])
def test_one_bit_audio_is_read_at_an_eighth_of_its_rate(open_media, tmp_path, times):
    path = media_seeds.write_seed("sound.dsf", str(tmp_path), duration_s=0.1)
    with open(path, "rb") as file:
        data = bytearray(file.read())
    at = data.index(struct.pack("<I", media_seeds.DSD_RATE_HZ))
    data[at : at + 4] = struct.pack("<I", times * 44_100)
    with open(path, "wb") as file:
        file.write(data)
    assert open_media(path).audio().sr == times * 44_100 // 8


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        *(("WAV", each) for each in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW")),
        *(("AIFF", each) for each in ("PCM_S8", "PCM_24", "FLOAT", "ALAW")),
        *(("CAF", each) for each in ("PCM_16", "ALAC_16", "DOUBLE")),
        *(("W64", "PCM_24"), ("RF64", "PCM_16"), ("WAVEX", "PCM_24"), ("AU", "PCM_16")),
        *(("VOC", "PCM_16"), ("SVX", "PCM_16"), ("NIST", "PCM_16"), ("FLAC", "PCM_24")),
    ],
)
def test_the_samples_are_those_that_libsndfile_reads(open_media, tmp_path, container, subtype):
    path = str(tmp_path / "a")
    y = sound.noise(1, 1.0, sr=22_050).y
    soundfile.write(path, y, 22_050, subtype, format=container)
    expected, _ = soundfile.read(path, dtype="float32")
    decoded = open_media(path).audio()
    assert decoded.sr == 22_050
    assert np.abs(decoded.y - expected).max() < 1e-6
    os.truncate(path, os.path.getsize(path) * 7 // 10)
    with pytest.raises(CorruptMedia, match="truncated"):
        open_media(path).audio()


def test_an_aiff_of_a_codec_whose_duration_ffmpeg_cannot_tell_is_read(open_media, tmp_path):
    path = str(tmp_path / "a.aiff")
    soundfile.write(path, sound.tone(duration_s=1.0, sr=8000).y, 8000, "GSM610", format="AIFF")
    assert open_media(path).audio().duration_s == pytest.approx(1.0, abs=0.05)


@pytest.fixture
def decoding_log(monkeypatch) -> list[str]:
    """What ffmpeg logs while the test decodes."""
    logs: list[str] = []

    def run(stream):
        result = run_ffmpeg(stream)
        logs.append(result.log)
        return result

    monkeypatch.setattr("segue.media.decode.run_ffmpeg", run)
    return logs


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.avi", "film.ts"])
def test_no_picture_of_a_film_is_decoded(open_media, tmp_path, decoding_log, name):
    path = media_seeds.write_seed(name, str(tmp_path))
    assert open_media(path).audio().duration_s == pytest.approx(0.4, abs=0.1)
    assert re.search(r"Codec \((mpeg4|mpeg2video)\) not on whitelist", decoding_log[0])


def test_a_cover_is_not_decoded(open_media, tmp_path, decoding_log):
    cover, path = str(tmp_path / "cover.png"), str(tmp_path / "a.flac")
    media_seeds.run_bundled_ffmpeg("-f", "lavfi", "-i", "testsrc=d=1", "-frames:v", "1", cover)
    tone = ("-f", "lavfi", "-i", "sine=d=0.5")
    media_seeds.run_bundled_ffmpeg(
        *tone, "-i", cover, "-c:v", "copy", "-disposition:v", "attached_pic", path
    )
    assert open_media(path).audio().duration_s == 0.5
    assert "Codec (png) not on whitelist" in decoding_log[0]


def test_a_codec_that_programs_decode_differently_is_refused(open_media, tmp_path):
    path = str(tmp_path / "a.wav")
    soundfile.write(path, sound.tone(duration_s=1.0, sr=8000).y, 8000, "G721_32", format="WAV")
    with pytest.raises(CorruptMedia, match=r"coded as g726, which Segue does not decode"):
        open_media(path).audio()


def test_integers_that_were_written_as_floats_are_refused(open_media, tmp_path):
    path = str(tmp_path / "a.wav")
    y = sound.tone(duration_s=0.1).y
    soundfile.write(path, y * 32768, 44100, "FLOAT")
    with pytest.raises(CorruptMedia, match=r"its samples reach 164\d\d.*Divide them"):
        open_media(path).audio()
    soundfile.write(path, y * 20, 44100, "FLOAT")
    assert open_media(path).audio().y.max() == pytest.approx(10.0, abs=0.1)


def test_a_truncated_wav_is_seen_wherever_it_is_cut(open_media, written, music):
    path = written(music, "a.wav")
    for size in (1_000_000, 999_998, 700_001, 46, 45):
        os.truncate(path, size)
        with pytest.raises(CorruptMedia, match=r"truncated|no samples"):
            open_media(path).audio()


def test_an_m4a_that_was_cut_before_its_index_has_lost_it(open_media, written, music):
    path = written(music, "a.m4a")
    with open(path, "rb") as file:
        index = file.read().index(b"moov") - 4
    os.truncate(path, index)
    with pytest.raises(CorruptMedia, match=r"truncated: the index at the end of the file is miss"):
        open_media(path).audio()


def test_a_truncated_m4a_with_its_index_in_front_is_seen_too(open_media, written, music, tmp_path):
    whole = written(music, "a.m4a")
    path = str(tmp_path / "b.m4a")
    run_ffmpeg(ffmpeg.input(whole).output(path, **{"c:a": "copy", "movflags": "+faststart"}))
    open_media(path).audio()
    with pytest.raises(CorruptMedia, match=r"truncated: .* before its mdat box does"):
        open_media(cut(path, 0.6)).audio()


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
    "fast": (wav_header(rate=7_000_000, data=bytes(4000)), r"rate is 7000000 Hz"),
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


@pytest.mark.parametrize("name", ["song.mp3", "clip.mp4", "song.wav"])
def test_text_is_called_text_whatever_its_name_promises(open_media, tmp_path, name):
    path = tmp_path / name
    path.write_text("<!DOCTYPE html>\n<html><body>404 Not Found</body></html>")
    with pytest.raises(CorruptMedia, match=r"not audio, but text, such as a playlist or a web"):
        open_media(path).audio()


def test_a_failure_leaves_no_file_behind(open_media, written, music):
    media = open_media(cut(written(music, "a.flac"), 0.5))
    with pytest.raises(CorruptMedia):
        media.audio()
    assert os.listdir(os.path.dirname(media._target)) == []


FILM = ("-f", "lavfi", "-i", "testsrc=d=0.4:s=64x64:r=25")
SILENT = {
    "a.mp4": ("mpeg4", "video/mp4"),
    "a.mkv": ("mpeg4", "video/x-matroska"),
    "a.webm": ("libvpx", "video/webm"),
    "a.avi": ("mpeg4", "video/x-msvideo"),
    "a.ts": ("mpeg2video", "video/mp2t"),
    "a.mpg": ("mpeg2video", "video/mpeg"),
    "a.wmv": ("wmv2", "video/x-ms-asf"),
    "a.flv": ("flv1", "video/x-flv"),
    "a.ogv": ("libtheora", "video/ogg"),
}


@pytest.mark.parametrize("name", SILENT)
def test_a_film_without_sound_is_not_for_a_job_that_needs_sound(open_media, tmp_path, name):
    codec, content_type = SILENT[name]
    path = str(tmp_path / name)
    media_seeds.run_bundled_ffmpeg(*FILM, "-c:v", codec, path)
    what = rf"/{name} is a film without sound \({content_type}\)$"
    media = open_media(path)
    with pytest.raises(NotApplicable, match=what) as first:
        media.audio()
    with pytest.raises(NotApplicable) as second:
        media.decode_to_wav()
    assert first.value is second.value
    assert os.listdir(os.path.dirname(media._target)) == []


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_an_image_is_not_for_a_job_that_needs_sound(open_media, tmp_path, form):
    path = str(tmp_path / "song.mp3")
    Image.new("RGB", (64, 64), "red").save(path, form)
    with pytest.raises(
        NotApplicable, match=rf"is an image \(image/{form.lower()}\), which has no so"
    ):
        open_media(path).audio()
    cut(path, 0.8)  # whatever is left of it, it is an image
    with pytest.raises(NotApplicable):
        open_media(path).audio()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%PDF-1.7\n" + b"1 0 obj << >> endobj\n" * 500, r"a document \(application/pdf\)"),
        (b"MThd\0\0\0\6\0\1\0\2\1\xe0MTrk" + bytes(5000), r"notes \(audio/midi\)"),
    ],
)
def test_a_document_is_not_for_a_job_that_needs_sound(open_media, tmp_path, data, what):
    (tmp_path / "a.mp3").write_bytes(data)
    with pytest.raises(NotApplicable, match=what):
        open_media(tmp_path / "a.mp3").audio()


def test_an_archive_of_songs_is_not_decoded_as_one_song(open_media, written, music, tmp_path):
    song = written(music, "a.mp3")
    with zipfile.ZipFile(tmp_path / "songs.mp3", "w", zipfile.ZIP_STORED) as archive:
        archive.write(song, "1.mp3")
        archive.write(song, "2.mp3")
    with pytest.raises(NotApplicable, match=r"a document \(application/zip\)"):
        open_media(tmp_path / "songs.mp3").audio()


def test_a_film_whose_list_of_streams_is_lost_is_corrupt(open_media, tmp_path):
    path = str(tmp_path / "a.mp4")
    media_seeds.run_bundled_ffmpeg(*FILM, "-c:v", "mpeg4", path)
    with open(path, "rb") as file:
        index = file.read().index(b"moov") - 4
    os.truncate(path, index)
    with pytest.raises(CorruptMedia, match="the index at the end of the file is missing"):
        open_media(path).audio()


def test_a_file_that_is_gone_is_missing_not_corrupt(open_media, tmp_path):
    with pytest.raises(MissingInput, match="No such file"):
        open_media(tmp_path / "gone.mp3").audio()
    with pytest.raises(MissingInput, match="Is a directory"):
        open_media(tmp_path).audio()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (os.mkfifo, CorruptMedia, "not a file, but a pipe or a device"),
        (lambda path: os.symlink("/dev/zero", path), CorruptMedia, "a pipe or a device"),
        (lambda path: os.symlink("/dev/null", path), CorruptMedia, "a pipe or a device"),
        (lambda path: os.symlink(path, path), MissingInput, "Too many levels"),
    ],
    ids=["pipe", "/dev/zero", "/dev/null", "loop"],
)
def test_what_is_no_file_is_not_waited_for(open_media, tmp_path, make, error, message):
    make(tmp_path / "radio.wav")
    with pytest.raises(error, match=message):
        open_media(tmp_path / "radio.wav").audio()


def test_a_header_that_asks_for_too_much_memory_is_damage(open_media, tmp_path):
    form = struct.pack("<HHIIHHH", 2, 1, 22_050, 22_050, 512, 4, 52_000)
    data = b"RIFF" + struct.pack("<I", 20_000) + b"WAVEfmt " + struct.pack("<I", 52_018) + form
    (tmp_path / "a.wav").write_bytes(data + bytes(16_000))
    with pytest.raises(CorruptMedia):
        open_media(tmp_path / "a.wav").audio()


def test_memory_that_the_machine_lacks_is_no_damage(open_media, written, music, monkeypatch):
    def refuse(_stream):
        raise OutOfMemory("ffmpeg ran out of memory")

    media = open_media(written(music, "a.flac"))
    monkeypatch.setattr("segue.media.decode.run_ffmpeg", refuse)
    with pytest.raises(CorruptMedia, match="declares blocks or tables that no sound needs"):
        media.audio()
    monkeypatch.setattr("segue.media.memory.AMPLE_MEMORY_BYTES", 1 << 62)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, hard))
    try:
        with pytest.raises(OutOfMemory):
            open_media(media.path).audio()
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


# Limits


def test_what_is_longer_than_the_limit_is_too_large(open_media, written, music, monkeypatch):
    path = written(music, "a.flac")
    monkeypatch.setattr("segue.media.decode.MAX_DURATION_S", 9.0)
    with pytest.raises(TooLarge, match=r"longer than 0\.0025 hours; cut it"):
        open_media(path).audio()
    monkeypatch.setattr("segue.media.decode.MAX_DURATION_S", 10.0)
    assert open_media(path).audio().duration_s == 10.0


@pytest.fixture
def bomb(tmp_path) -> str:
    """Silence in FLAC: 60 kB that become 20 MB."""
    return sound.write(sound.silence(60.0, channels=2), str(tmp_path / "bomb.flac"))


def test_what_decodes_to_more_than_the_limit_is_too_large_and_stopped(
    open_media, bomb, monkeypatch
):
    written: list[int] = []
    media = open_media(bomb)
    monkeypatch.setenv("SEGUE_MAX_DECODED_GIB", "0.001")
    monkeypatch.setattr(
        "segue.media.decode.os.unlink", lambda path: written.append(os.path.getsize(path))
    )
    with pytest.raises(TooLarge, match=r"decodes to more than 0\.001 GiB.*SEGUE_MAX_DECODED_GIB"):
        media.audio()
    with pytest.raises(TooLarge):  # not decoded again
        media.audio()
    assert len(written) == 1
    assert written[0] < 2 * 2**20


@pytest.mark.parametrize("setting", ["no", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_no_size_is_refused(open_media, bomb, monkeypatch, setting):
    monkeypatch.setenv("SEGUE_MAX_DECODED_GIB", setting)
    with pytest.raises(ConfigurationError, match="SEGUE_MAX_DECODED_GIB"):
        open_media(bomb).audio()


@pytest.mark.parametrize(
    ("free", "total", "error", "message"),
    [
        (8 * 2**20, 2**30, DiskFull, "are free for temporary files"),
        (8 * 2**20, 16 * 2**20, TooLarge, "the whole disk for temporary files holds"),
        (0, 2**30, DiskFull, "no space is free"),
    ],
)
def test_what_fits_no_disk_is_too_large_and_what_does_not_fit_now_is_transient(
    open_media, bomb, monkeypatch, free, total, error, message
):
    usage = SimpleNamespace(total=total, used=total - free, free=free)
    monkeypatch.setattr("segue.media.decode.shutil.disk_usage", lambda _folder: usage)
    media = open_media(bomb)
    with pytest.raises(error, match=message):
        media.audio()
    assert os.listdir(os.path.dirname(media._target)) == []


def test_a_small_file_is_read_where_little_is_free(open_media, written, monkeypatch):
    path = written(sound.tone(duration_s=0.1), "a.flac")
    usage = SimpleNamespace(total=2**20, used=0, free=2**15)
    monkeypatch.setattr("segue.media.decode.shutil.disk_usage", lambda _folder: usage)
    assert open_media(path).audio().y.shape == (4410,)


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
