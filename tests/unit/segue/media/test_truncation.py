"""Whether a decoded file is all there."""

from __future__ import annotations

import struct

import pytest

from segue.media.truncation import find_truncation

AUDIO = "  Stream #0:0: Audio: mp3, 44100 Hz, stereo, fltp, 144 kb/s"
COVER = "  Stream #0:1: Video: mjpeg (Baseline), yuvj420p, 500x500, 90k tbr (attached pic)"
FILM = "  Stream #0:1[0x2](und): Video: h264 (High), yuv420p, 640x480, 25 fps"
SPEECH = "  Stream #0:1(eng): Audio: aac (LC), 48000 Hz, mono, fltp"


def log(
    *streams: str,
    demuxer: str = "mp3",
    duration: str = "00:00:10.00",
    start: str = "0.000000",
    before: str = "",
    after: str = "",
) -> str:
    return "\n".join(
        [
            before,
            f"Input #0, {demuxer}, from 'file:/x.mp3':",
            "  Metadata:",
            "    title           : Duration: 09:00:00.00, start",
            f"  Duration: {duration}, start: {start}, bitrate: 144 kb/s",
            *streams,
            "Stream mapping:",
            "  Stream #0:0 -> #0:0 (mp3 (mp3float) -> pcm_f32le (native))",
            "Output #0, wav, to 'file:/tmp/o.wav':",
            "  Stream #0:0: Audio: pcm_f32le, 44100 Hz, stereo, flt, 2822 kb/s",
            after,
        ]
    )


@pytest.fixture
def path(tmp_path):
    (tmp_path / "x.mp3").write_bytes(b"no header of ours")
    return str(tmp_path / "x.mp3")


def test_a_part_is_told_with_its_lengths(path):
    assert find_truncation(path, log(AUDIO), 4.1) == "truncated: 4.10 s of 10.00 s decoded"


def test_a_whole_file_is_whole(path):
    assert find_truncation(path, log(AUDIO), 10.0) is None
    assert find_truncation(path, log(AUDIO), 11.0) is None


@pytest.mark.parametrize(
    ("duration", "enough_s", "too_little_s"),
    [
        ("00:00:01.00", 0.76, 0.74),
        ("00:01:40.00", 99.1, 98.9),
        ("01:00:00.00", 3595.1, 3594.9),
    ],
)
def test_a_little_may_be_missing_but_never_more_than_five_seconds(
    path, duration, enough_s, too_little_s
):
    assert find_truncation(path, log(AUDIO, duration=duration), enough_s) is None
    assert find_truncation(path, log(AUDIO, duration=duration), too_little_s) is not None


def test_what_starts_late_is_as_long_as_what_follows(path):
    assert find_truncation(path, log(AUDIO, start="3.000000"), 7.0) is None
    assert find_truncation(path, log(AUDIO, start="3.000000"), 6.0) is not None
    assert find_truncation(path, log(AUDIO, start="-0.021333"), 9.0) is not None


@pytest.mark.parametrize(
    "after",
    [
        "size=     689kB time=00:00:10.00 bitrate=1411.3kbits/s speed= 600x",
        "size=     689KiB time=00:00:09.98 bitrate=1411.3kbits/s speed= 600x elapsed=0:00:00.01",
    ],
)
def test_pauses_between_packets_are_no_truncation_if_the_last_is_at_the_end(path, after):
    for demuxer in ("matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "flv", "asf"):
        whole = log(AUDIO, demuxer=demuxer, after=after)
        assert find_truncation(path, whole, 6.0) is None
        early = whole.replace("time=00:00:10.00", "time=00:00:06.00")
        early = early.replace("time=00:00:09.98", "time=00:00:06.00")
        assert find_truncation(path, early, 6.0) is not None
    assert find_truncation(path, log(AUDIO, after=after), 6.0) is not None  # MP3 has no pauses


def test_where_every_sample_is_counted_none_may_be_missing(path):
    for demuxer in ("flac", "tta", "wv", "ape"):
        counted = log(AUDIO, demuxer=demuxer)
        assert find_truncation(path, counted, 9.995) is None  # as it is printed
        assert find_truncation(path, counted, 9.98) == "truncated: 9.98 s of 10.00 s decoded"


@pytest.mark.parametrize("demuxer", ["mpegts", "mpeg", "wav", "aiff", "iff"])
def test_a_duration_from_fields_that_are_often_wrong_proves_nothing(path, demuxer):
    assert find_truncation(path, log(AUDIO, demuxer=demuxer), 4.1) is None


def test_an_estimated_duration_proves_nothing(path):
    estimated = "[mp3 @ 0x5] Estimating duration from bitrate, this may be inaccurate"
    assert find_truncation(path, log(AUDIO, before=estimated), 4.1) is None


def test_an_unknown_duration_proves_nothing(path):
    assert find_truncation(path, log(AUDIO, duration="N/A"), 4.1) is None


def test_a_cover_picture_does_not_hide_a_truncation(path):
    assert find_truncation(path, log(AUDIO, COVER), 4.1) is not None


@pytest.mark.parametrize("other", [FILM, SPEECH])
def test_the_duration_of_another_stream_proves_nothing(path, other):
    assert find_truncation(path, log(AUDIO, other), 4.1) is None


@pytest.mark.parametrize("streams", [(AUDIO,), (AUDIO, FILM)])
def test_an_index_that_points_behind_the_end_is_proof(path, streams):
    after = "[mov,mp4,m4a @ 0x5] stream 0, offset 0x11524a: partial file"
    assert find_truncation(path, log(*streams, after=after), 10.0) == (
        "truncated: 10.0 s decoded, then the index points past the end of the file"
    )


@pytest.mark.parametrize(
    "complaint",
    [
        "[flac @ 0x5] CRC error at PTS 99328",
        "[in#0/ogg @ 0x5] CRC mismatch!",
        "[ogg @ 0x5] CRC mismatch!",
        "[wavpack @ 0x5] CRC error",
    ],
)
def test_a_wrong_checksum_is_damage_however_long_the_sound_is(path, complaint):
    assert find_truncation(path, log(AUDIO, after=complaint), 10.0) == (
        "damaged: 10.0 s decoded, but a block's checksum is wrong"
    )


def test_the_checksums_of_mp3_frames_prove_nothing(path):
    complaint = "[mp3float @ 0x5] CRC mismatch!"
    assert find_truncation(path, log(AUDIO, after=complaint), 10.0) is None


def test_a_pause_that_ffmpeg_complains_about_is_damage(path):
    end = "size= 689kB time=00:00:09.90 bitrate=1411.3kbits/s speed= 600x"
    harmless = "[mp3float @ 0x5] Could not update timestamps for skipped samples."
    assert find_truncation(path, log(AUDIO, FILM, after=f"{harmless}\n{end}"), 8.0) is None
    for complaint in ("[matroska,webm @ 0x5] 0x00 at pos 7", "Error while decoding stream #0:0"):
        assert find_truncation(path, log(AUDIO, FILM, after=f"{complaint}\n{end}"), 8.0) == (
            "damaged: 8.0 s of 9.9 s decoded"
        )


@pytest.mark.parametrize("demuxer", ["ogg", "avi"])
def test_the_duration_of_ogg_and_avi_counts_if_there_is_damage_only(path, demuxer):
    assert find_truncation(path, log(AUDIO, demuxer=demuxer), 4.0) is None
    complaint = log(AUDIO, demuxer=demuxer, after="[vorbis @ 0x5] invalid")
    assert find_truncation(path, complaint, 4.0) is not None


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF])
def test_the_duration_of_avi_written_to_a_pipe_proves_nothing(tmp_path, size):
    path = tmp_path / "a.avi"
    path.write_bytes(b"RIFF" + struct.pack("<I", size) + b"AVI " + bytes(100))
    complaint = log(AUDIO, demuxer="avi", after="[mp3float @ 0x5] invalid")
    assert find_truncation(str(path), complaint, 4.0) is None
