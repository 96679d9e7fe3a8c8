"""The makers of sound, whose truth other tests rely on."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import soundfile

from segue import codec
from segue.errors import ConfigurationError
from segue.media.audio import Audio
from segue.testing import sound

MAKERS = {
    "silence": lambda **how: sound.silence(1.0, **how),
    "tone": lambda **how: sound.tone(440.0, 1.0, **how),
    "noise": lambda **how: sound.noise(7, 1.0, **how),
    "sine_at_lufs": lambda **how: sound.sine_at_lufs(-23.0, 1.0, **how),
    "click_track": lambda **how: sound.click_track(120.0, 1.0, **how),
    "music": lambda **how: sound.music(7, duration_s=1.0, **how),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sr", [8000, 22050, 96000])
def test_a_maker_gives_what_was_asked_for_and_the_same_each_time(make, sr, channels):
    audio = make(sr=sr, channels=channels)
    assert audio.sr == sr
    assert audio.y.shape == ((sr,) if channels == 1 else (2, sr))
    assert audio.y.dtype == np.float32
    assert np.abs(audio.y).max() <= 1.0
    assert np.array_equal(audio.y, make(sr=sr, channels=channels).y)


def test_a_tone_has_its_frequency_level_and_phase():
    y = sound.tone(1000.0, 1.0, sr=8000, peak_dbfs=-20.0, phase_rad=np.pi / 2).y
    spectrum = np.abs(np.fft.rfft(y))
    assert spectrum.argmax() == 1000
    assert y[0] == np.float32(0.1)
    assert y.max() == pytest.approx(0.1)


def test_a_faded_tone_begins_and_ends_at_nothing():
    y = np.abs(sound.tone(1000.0, 1.0, fade_s=0.1, phase_rad=1.0).y)
    assert y[0] == y[-1] == 0.0
    assert y[:441].max() < 0.06
    assert y.max() == pytest.approx(10 ** (-6 / 20), rel=1e-3)


def test_noise_has_its_level_and_independent_channels():
    y = sound.noise(1, 10.0, rms_dbfs=-30.0, channels=2).y
    assert 20 * np.log10(np.sqrt(np.mean(y**2))) == pytest.approx(-30.0, abs=0.05)
    assert abs(np.corrcoef(y)[0, 1]) < 0.01
    assert not np.array_equal(y, sound.noise(2, 10.0, rms_dbfs=-30.0, channels=2).y)


def test_clicks_are_on_the_beats_and_nowhere_else():
    y = np.abs(sound.click_track(100.0, 5.0, sr=8000, first_beat_s=0.35).y)
    starts = np.flatnonzero((y[1:] > 0.5) & (y[:-1] == 0)) + 1
    assert (starts / 8000).tolist() == pytest.approx(
        sound.beat_times(100.0, 5.0, first_beat_s=0.35), abs=1 / 8000
    )


@pytest.mark.parametrize(
    ("bpm", "duration_s", "first_beat_s", "times"),
    [
        (60.0, 3.0, 0.0, [0.0, 1.0, 2.0]),
        (120.0, 1.2, 0.0, [0.0, 0.5, 1.0]),
        (60.0, 2.0, 0.5, [0.5, 1.5]),
        (60.0, 0.4, 0.5, []),
    ],
)
def test_beats_are_within_the_file(bpm, duration_s, first_beat_s, times):
    assert sound.beat_times(bpm, duration_s, first_beat_s=first_beat_s) == times


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("key", "tonic", "scale"),
    [
        ("C major", 0, {0, 2, 4, 5, 7, 9, 11}),
        ("F# major", 6, {6, 8, 10, 11, 1, 3, 5}),
        ("A minor", 9, {9, 11, 0, 2, 4, 5, 7}),
        ("D# minor", 3, {3, 5, 6, 8, 10, 11, 1}),
    ],
)
def test_music_is_in_its_key_and_begins_on_the_tonic(seed, key, tonic, scale):
    y = sound.music(seed, bpm=120.0, key=key, duration_s=16.0, sr=8000, channels=1).y
    # The bass of a bar, after the kick has died away: one note, below 120 Hz.
    roots = []
    for bar in range(8):
        beat = y[int((2.0 * bar + 0.65) * 8000) :][:2400]
        spectrum = np.abs(np.fft.rfft(beat * np.hanning(len(beat)), 1 << 16))
        hz = np.fft.rfftfreq(1 << 16, 1 / 8000)
        bass = hz[np.argmax(np.where((hz > 52) & (hz < 240), spectrum, 0))]
        roots.append(round(12 * np.log2(bass / 261.6256)) % 12)
    assert roots[0] == tonic
    assert set(roots) <= scale
    assert roots[:4] == roots[4:]


def test_music_differs_by_seed_and_its_channels_differ():
    one, other = (sound.music(seed, duration_s=4.0).y for seed in (1, 2))
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


def test_an_unknown_key_is_a_mistake():
    for key in ("H major", "A", "c minor"):
        with pytest.raises(ConfigurationError, match=rf"key '{key}' is unknown"):
            sound.music(key=key)


@pytest.mark.parametrize("suffix", sound.FORMATS)
def test_writing_gives_the_same_bytes_each_time(tmp_path, suffix):
    audio = sound.music(5, duration_s=1.0)
    digests = set()
    for name in ("a", "b"):
        with open(sound.write(audio, str(tmp_path / f"{name}.{suffix}")), "rb") as file:
            digests.add(hashlib.sha256(file.read()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_lossless_formats_hold_the_same_16_bits(tmp_path, suffix):
    audio = Audio(y=np.linspace(-1.2, 1.2, 5000, dtype=np.float32), sr=8000)
    path = sound.write(audio, str(tmp_path / f"a.{suffix}"))
    assert soundfile.info(path).subtype == "PCM_16"
    read, _ = soundfile.read(path, dtype="float32")
    assert np.array_equal(read, codec.encode("audio/flac", audio).value.y)


def test_the_format_can_be_named_apart_from_the_path(tmp_path):
    path = sound.write(sound.tone(), str(tmp_path / "no suffix"), "mp3")
    assert soundfile.info(path).format == "MP3"


def test_what_a_format_cannot_hold_is_a_mistake(tmp_path):
    with pytest.raises(ConfigurationError, match=r"format 'wma' is unknown: use one of wav"):
        sound.write(sound.tone(), str(tmp_path / "a.wma"))
    with pytest.raises(ConfigurationError, match=r"mp3 cannot hold 1 channels at 96000 Hz"):
        sound.write(sound.tone(sr=96000), str(tmp_path / "a.mp3"))
    with pytest.raises(ConfigurationError, match=r"m4a cannot hold .* 123456 Hz.* 96000 Hz"):
        sound.write(sound.tone(sr=123_456), str(tmp_path / "a.m4a"))


def test_what_ffmpeg_refuses_to_write_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_FFMPEG", "false")
    with pytest.raises(ConfigurationError, match=r"ffmpeg cannot write 1 channels .* as ogg"):
        sound.write(sound.tone(), str(tmp_path / "a.ogg"))
