"""Acoustic fingerprints: those of fpcalc 1.5.1, of ffmpeg's muxer, and of copies."""

from __future__ import annotations

import os
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from segue import codec
from segue.errors import CorruptMedia
from segue.features import chromaprint
from segue.features.chromaprint import fingerprint
from segue.media.audio import Audio
from segue.testing import sound

pytestmark = pytest.mark.slow

# AcoustID takes two fingerprints for the same recording up to about this share of other bits.
SAME_RECORDING = 0.15
# Half of the bits of unrelated recordings agree by chance, and in some pieces more.
OTHER_RECORDING = 0.3

# What fpcalc prints.
OF_MUSIC = (
    "AQAAS4k0MskSBvlTPEc_NGdw5fiO8og2ZoEWvDly4VOUMMH14fnQIxVDMH-HRxc0SYd91DuOHj6J_rgvXMSjpBWYWMc1wbpR"
    "HOF8Al9NeFKO_sePHqFH6OED5DrOJE-GVxkeo0cY58Jz4Q-0oE5y_EI_-OgT4-XxmAqOKUf94vht-LGQPwWaC_UOfDuakUG0"
    "Q1OTAwmYUQBBJQRwWjBjgCLAGGAJZ4BAAKBQCFhkBEAAEWGQMQQYoxwDFkgmjBEMGDCIAAYxoyARiAE"
)
OF_NOISE = "AQAAG0mUJJISJYkkBTqO4zh-HIchHj9O4IfPAIcPmscF_oSPmxZ0-MMB56wZw0hkEXRGC-GVBIwJAjg"
OF_LITTLE = "AQAAAYmURImUZGIA"


@pytest.fixture
def open_sound(open_media, tmp_path):
    """Write sound as floats, and open the file."""

    def opened(audio: Audio, name: str = "a.wav"):
        path = tmp_path / name
        path.write_bytes(codec.encode("audio/wav", audio).data)
        return open_media(path)

    return opened


def count_other_bits(one: np.ndarray, other: np.ndarray) -> float:
    """The share of bits that differ, where the two fit best."""
    shares = []
    for shift in range(-8, 9):
        a, b = one[max(0, shift) :], other[max(0, -shift) :]
        count = min(len(a), len(b))
        shares.append(float(np.unpackbits((a[:count] ^ b[:count]).view(np.uint8)).mean()))
    return min(shares)


def compute_values(media) -> np.ndarray:
    return chromaprint._compare_patterns(chromaprint._compute_chroma(chromaprint._resample(media)))


@pytest.fixture
def run_muxer(monkeypatch):
    """Compute the fingerprint of a file with ffmpeg, and the resampler of fpcalc."""
    program = imageio_ffmpeg.get_ffmpeg_exe()
    muxers = subprocess.run([program, "-muxers"], capture_output=True, text=True, check=True)
    if "chromaprint" not in muxers.stdout:
        pytest.skip(f"{program} has no muxer for Chromaprint")
    # Another version might decode the file to other samples.
    monkeypatch.setenv("SEGUE_FFMPEG", program)
    resample = ":".join(f"{name}={value}" for name, value in chromaprint.RESAMPLER.items())

    def run(path: str) -> str:
        command = [
            *(program, "-v", "error", "-i", path, "-t", "120"),
            *("-af", f"aresample=11025:ochl=mono:osf=s16:{resample}", "-f", "chromaprint", "-"),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return run


@pytest.mark.parametrize(
    ("audio", "expected"),
    [
        (sound.music(0, duration_s=12.0), OF_MUSIC),
        (sound.noise(0, 6.0), OF_NOISE),
        (sound.music(1, duration_s=2.8, sr=48000, channels=1), OF_LITTLE),
    ],
    ids=["music", "noise", "little"],
)
def test_the_fingerprint_is_the_one_that_fpcalc_prints(open_media, tmp_path, audio, expected):
    path = sound.write(audio, str(tmp_path / "a.wav"))
    assert fingerprint(open_media(path)) == {
        "fingerprint": expected,
        "duration_s": audio.duration_s,
        "algorithm": 1,
        "reason": None,
    }


@pytest.mark.parametrize("channels", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("sr", [8000, 44100, 48000, 192000])
def test_it_is_that_of_ffmpegs_muxer_at_any_rate_and_for_all_places(
    open_sound, run_muxer, sr, channels
):
    media = open_sound(sound.noise(sr + channels, 5.0, sr=sr, channels=channels))
    assert fingerprint(media)["fingerprint"] == run_muxer(media.path)


@pytest.mark.parametrize("suffix", ["flac", "mp3", "ogg", "m4a"])
def test_it_is_that_of_ffmpegs_muxer_in_any_format(open_media, tmp_path, run_muxer, suffix):
    path = sound.write(sound.music(3, duration_s=20.0), str(tmp_path / f"a.{suffix}"))
    assert fingerprint(open_media(path))["fingerprint"] == run_muxer(path)


def test_only_the_first_two_minutes_count_but_the_duration_is_of_the_whole(open_sound):
    minute = sound.music(0, duration_s=60.0, sr=16000, channels=1).y
    noise = sound.noise(0, 10.0, sr=16000).y
    whole = fingerprint(open_sound(Audio(y=np.concatenate([minute, minute, noise]), sr=16000)))
    two = fingerprint(open_sound(Audio(y=np.concatenate([minute, minute]), sr=16000), "b.wav"))
    assert whole == {**two, "duration_s": 130.0}
    assert two["duration_s"] == 120.0


def test_copies_are_recognised_and_other_pieces_are_not(open_media, open_sound, tmp_path):
    audio = sound.music(0, duration_s=30.0)
    values = compute_values(open_sound(audio))
    copies = [
        open_media(sound.write(audio, str(tmp_path / "a.mp3"))),
        open_sound(Audio(y=audio.y * np.float32(0.1), sr=audio.sr), "quiet.wav"),
        open_sound(Audio(y=audio.y[:, 22_050:], sr=audio.sr), "late.wav"),
        open_sound(sound.music(0, duration_s=30.0, sr=48000), "48.wav"),
    ]
    for copy in copies:
        assert count_other_bits(values, compute_values(copy)) < SAME_RECORDING
    other = open_sound(sound.music(5, key="E major", bpm=97.0, duration_s=30.0), "other.wav")
    assert count_other_bits(values, compute_values(other)) > OTHER_RECORDING


WITHOUT_FINGERPRINT = {
    "one sample": (sound.silence(1 / 44100), "shorter than 2.73 s"),
    "too short": (sound.noise(0, 2.7), "shorter than 2.73 s"),
    "silence": (sound.silence(10.0), "silent"),
    "little silence": (sound.silence(2.8), "silent"),
    "a constant": (Audio(y=np.full(441_000, 1e-5, np.float32), sr=44100), "silent"),
}


@pytest.mark.parametrize("name", WITHOUT_FINGERPRINT)
def test_what_has_no_fingerprint_has_a_reason(open_sound, name):
    audio, reason = WITHOUT_FINGERPRINT[name]
    found = fingerprint(open_sound(audio))
    assert (found["fingerprint"], found["reason"]) == (None, reason)
    assert found["duration_s"] == round(audio.duration_s, 3)


def test_channels_without_places_are_averaged(open_sound):
    mono = sound.music(0, duration_s=6.0, channels=1)
    one = compute_values(open_sound(mono))
    twelve = compute_values(open_sound(Audio(y=np.stack([mono.y] * 12), sr=44100), "12.wav"))
    assert count_other_bits(one, twelve) < 0.01


def test_nothing_is_left_beside_the_decoded_file(open_sound):
    media = open_sound(sound.noise(0, 3.0))
    fingerprint(media)
    folder = os.path.dirname(media.decode_to_wav())
    assert os.listdir(folder) == [os.path.basename(media.decode_to_wav())]


def test_a_damaged_file_has_none(open_media, tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(b"ID3" + bytes(1000))
    with pytest.raises(CorruptMedia):
        fingerprint(open_media(path))


def test_blocks_do_not_change_the_result(open_sound, monkeypatch):
    media = open_sound(sound.music(2, duration_s=5.0))
    found = fingerprint(media)
    monkeypatch.setattr(chromaprint, "BLOCK_FRAMES", 3)
    assert fingerprint(media) == found
