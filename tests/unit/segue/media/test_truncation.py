"""Whether a decoded file is all there."""

from __future__ import annotations

import pytest

from segue.media.truncation import find_truncation

AUDIO = "  Stream #0:0: Audio: mp3, 44100 Hz, stereo, fltp, 144 kb/s"
COVER = "  Stream #0:1: Video: mjpeg (Baseline), yuvj420p, 500x500, 90k tbr (attached pic)"
FILM = "  Stream #0:1[0x2](und): Video: h264 (High), yuv420p, 640x480, 25 fps"
SPEECH = "  Stream #0:1(eng): Audio: aac (LC), 48000 Hz, mono, fltp"


def log(*streams: str, duration: str = "00:00:10.00", before: str = "", after: str = "") -> str:
    return "\n".join(
        [
            before,
            "Input #0, mp3, from 'file:/x.mp3':",
            "  Metadata:",
            "    title           : Duration: 09:00:00.00, start",
            f"  Duration: {duration}, start: 0.025057, bitrate: 144 kb/s",
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
    assert find_truncation(path, log(AUDIO), 4.1) == "truncated: 4.1 s of 10.0 s decoded"


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
