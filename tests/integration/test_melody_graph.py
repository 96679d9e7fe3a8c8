"""The graphs for melody and rhythm run over songs, recordings, covers and films without a failure,
and their models find the pitch and the notes of sounds that are known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ffmpeg
import mido
import numpy as np
import pytest
import soundfile
from pyarrow import parquet

from segue.features.notes import Notes
from segue.features.pitch import HOP_S, Pitch
from segue.media.audio import Audio
from segue.media.ffmpeg import find_ffmpeg
from segue.model.shipped_graphs import list_shipped_graphs
from segue.testing import sound
from segue.testing.music import music
from segue_support.model_commands import run_segue

SOUNDS = {"song.mp3", "voice.wav", "silence.flac", "click.wav", "interview.mp4"}
OTHERS = {"cover.png", "cover.jpg", "silent.mp4"}
PICTURES = {"cover.png", "cover.jpg"}  # which these graphs do not include
CENTS = 50.0  # as RPA, the usual measure of pitch trackers, counts a pitch as right
ONSET_S = 0.05  # as MIREX counts an onset as right
SCALE = (60, 64, 67, 72, 76, 72, 67, 64)


def run(folder: Path, *arguments: str) -> str:
    return run_segue(folder, *arguments, models=folder / "models")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with the models of both graphs, and a mixed catalogue in ``media``."""
    place = tmp_path_factory.mktemp("place")
    media = place / "media"
    media.mkdir()
    for graph in ("melody", "rhythm"):
        run(place, "models", "get", "--graph", graph)
    sound.write(music(1, bpm=120, duration_s=12.0), str(media / "song.wav"))
    voice, _ = sing(np.full(3 * 16_000, 220.0))
    soundfile.write(media / "voice.wav", voice.y, voice.sr)
    soundfile.write(media / "silence.flac", np.zeros((44_100, 2), np.float32), 44_100)
    soundfile.write(media / "click.wav", np.ones(1, np.float32), 192_000)
    song, talk = (ffmpeg.input(str(media / name)) for name in ("song.wav", "voice.wav"))
    film = ffmpeg.input("testsrc=s=64x64:r=5:d=2", f="lavfi")
    for output in (
        ffmpeg.output(song, str(media / "song.mp3")),
        ffmpeg.output(film, talk, str(media / "interview.mp4"), vcodec="mpeg4", acodec="aac"),
        ffmpeg.output(film, str(media / "silent.mp4"), vcodec="mpeg4"),
        ffmpeg.output(film, str(media / "cover.png"), vframes=1),
        ffmpeg.output(film, str(media / "cover.jpg"), vframes=1),
    ):
        output.run(cmd=find_ffmpeg(), quiet=True)
    (media / "song.wav").unlink()
    return place


def find_model(place: Path, name: str) -> Path:
    (path,) = (place / "models").glob(f"{name}@1/*/*.onnx")
    return path


@pytest.fixture(scope="module")
def pitch(place) -> Pitch:
    job = Pitch(model=find_model(place, "swift_f0"))
    job.setup()
    return job


@pytest.fixture(scope="module")
def notes(place) -> Notes:
    job = Notes(model=find_model(place, "basic_pitch"))
    job.setup()
    return job


def sing(f0_hz: np.ndarray, *, snr_db: float | None = None) -> tuple[Audio, np.ndarray]:
    """Return a sound with twelve harmonics at 16 kHz, and its frequency in each frame."""
    phase = 2 * np.pi * np.cumsum(f0_hz) / 16_000
    y = sum(np.sin(n * phase) * (n * f0_hz < 7_600) / n for n in range(1, 13))
    if snr_db is not None:
        rng = np.random.default_rng(0)
        y = y + rng.normal(0, np.sqrt(np.mean(y**2) / 10 ** (snr_db / 10)), len(y))
    return Audio(y=(0.1 * y).astype(np.float32), sr=16_000), f0_hz[::256]


def count_right(found: dict, true_hz: np.ndarray) -> tuple[float, float]:
    """Return how much of the time has a pitch, and how much of that has the right one."""
    f0_hz = np.array(found["contour"]["f0_hz"].to_pylist(), np.float64)
    heard = ~np.isnan(f0_hz)
    cents = 1200 * np.abs(np.log2(f0_hz[heard] / true_hz[: len(f0_hz)][heard]))
    return float(heard.mean()), float((cents <= CENTS).mean())


def test_the_pitch_of_a_glide_is_right_all_the_time(pitch):
    seconds = np.arange(6 * 16_000) / 16_000
    audio, true_hz = sing(80.0 * 2 ** (seconds / 6 * 3.5))
    found = pitch(audio)
    heard, right = count_right(found, true_hz)
    assert heard > 0.98
    assert right == 1.0
    assert found["summary"]["median_hz"] == pytest.approx(80 * 2**1.75, rel=0.02)
    assert found["summary"]["range_semitones"] == pytest.approx(0.9 * 42, abs=1)


@pytest.mark.parametrize("snr_db", [20.0, 10.0])
def test_the_pitch_of_notes_with_vibrato_is_right_in_noise(pitch, snr_db):
    seconds = np.arange(8 * 16_000) / 16_000
    midi = 50 + 3 * np.floor(seconds / 0.5) + 0.4 * np.sin(2 * np.pi * 5.5 * seconds)
    heard, right = count_right(*listen(pitch, 440 * 2 ** ((midi - 69) / 12), snr_db))
    assert heard > 0.98
    assert right > 0.99


def listen(pitch: Pitch, f0_hz: np.ndarray, snr_db: float) -> tuple[dict, np.ndarray]:
    audio, true_hz = sing(f0_hz, snr_db=snr_db)
    return pitch(audio), true_hz


@pytest.mark.parametrize("gain", [0.003, 30.0])
def test_a_pitch_is_found_at_any_level(pitch, gain):
    audio, true_hz = sing(np.full(3 * 16_000, 220.0))
    heard, right = count_right(pitch(Audio(y=audio.y * np.float32(gain), sr=16_000)), true_hz)
    assert heard > 0.97
    assert right == 1.0


NO_PITCH = {
    "silence": sound.silence(3.0, sr=16_000),
    "white noise": sound.noise(0, 20.0, sr=16_000),
    "a constant": Audio(y=np.full(16_000, 0.5, np.float32), sr=16_000),
    "one sample": Audio(y=np.ones(1, np.float32), sr=16_000),
    "clicks": sound.click_track(120.0, 3.0, sr=16_000),
}


@pytest.mark.parametrize("audio", NO_PITCH.values(), ids=NO_PITCH)
def test_silence_and_noise_have_no_pitch(pitch, audio):
    found = pitch(audio)
    assert found["summary"]["reason"] == "no pitch is heard"
    assert found["contour"]["f0_hz"].null_count == len(found["contour"])


def pluck(midi: int, duration_s: float) -> np.ndarray:
    t = np.arange(round(duration_s * 22_050)) / 22_050
    harmonics = [np.sin(2 * np.pi * n * 440 * 2 ** ((midi - 69) / 12) * t) for n in (1, 2, 3)]
    y = sum(wave * np.exp(-n) for n, wave in enumerate(harmonics, 1))
    return 0.4 * y * np.exp(-8 * t) * np.minimum(1, t / 0.005)


def play(notes: list[tuple[float, int]], duration_s: float) -> Audio:
    y = np.zeros(round((duration_s + 1) * 22_050))
    for start_s, midi in notes:
        tone = pluck(midi, 0.28)
        at = round(start_s * 22_050)
        y[at : at + len(tone)] += tone
    return Audio(y=y[: round(duration_s * 22_050)].astype(np.float32), sr=22_050)


def test_the_notes_of_an_arpeggio_are_exact(notes):
    true = [(0.2 + 0.31 * n, midi) for n, midi in enumerate(SCALE * 3)]
    found = notes(play(true, 8.0))["notes"]
    assert [note["midi"] for note in found] == [midi for _, midi in true]
    late_s = [note["start_s"] - start_s for note, (start_s, _) in zip(found, true, strict=True)]
    assert max(map(abs, late_s)) < ONSET_S
    assert abs(np.median(late_s)) < 0.01


def test_the_notes_of_chords_are_found(notes):
    chords = [(48, 55, 64, 71), (45, 52, 60, 67), (50, 57, 65, 72), (43, 50, 59, 65)]
    true = {(0.3 + 0.5 * n, midi) for n in range(8) for midi in chords[n % 4]}
    found = notes(play(sorted(true), 4.5))["notes"]
    hits = [
        (start_s, midi)
        for start_s, midi in true
        if any(n["midi"] == midi and abs(n["start_s"] - start_s) < ONSET_S for n in found)
    ]
    assert len(hits) / len(true) > 0.9
    assert len(hits) / len(found) > 0.8


NO_NOTES = {
    "silence": sound.silence(3.0, sr=22_050),
    "a constant": Audio(y=np.full(22_050, 0.5, np.float32), sr=22_050),
    "one sample": Audio(y=np.ones(1, np.float32), sr=22_050),
    "clicks": sound.click_track(120.0, 3.0),
}


@pytest.mark.parametrize("audio", NO_NOTES.values(), ids=NO_NOTES)
def test_silence_has_no_notes(notes, audio):
    assert notes(audio) == {"notes": [], "reason": "no note is heard"}


def backfill(place: Path, graph: str, jobs: set[str]) -> None:
    """Run a shipped graph that also takes covers over the catalogue."""
    text = Path(list_shipped_graphs()[graph]).read_text()
    own = re.sub(r"^include: .*$", 'include: ["*"]', text, flags=re.MULTILINE)
    (place / f"{graph}.yaml").write_text(own)
    arguments = ("--graph", f"{graph}.yaml", "--prefix", "media", "--all", "--json")
    found = json.loads(run(place, "backfill", *arguments))
    assert found["failed_files"] == 0
    expected = {"done": len(SOUNDS), "not_applicable": len(OTHERS - PICTURES)}
    assert {job: result["statuses"] for job, result in found["jobs"].items()} == dict.fromkeys(
        jobs, expected
    )


def read(place: Path, graph: str, job: str) -> dict[str, dict]:
    folder = place / ".segue" / graph / "artifacts" / job
    return {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("*.json")}


def test_the_graph_melody_is_for_sound_alone_in_a_mixed_folder(place):
    backfill(place, "melody", {"downsample_16khz", "pitch", "downsample", "notes", "midi"})
    summaries, found = read(place, "melody", "pitch"), read(place, "melody", "notes")
    assert set(summaries) == set(found) == SOUNDS
    for name in ("voice.wav", "interview.mp4"):
        assert summaries[name]["median_hz"] == pytest.approx(220, rel=0.01)
        assert 57 in {note["midi"] for note in found[name]["notes"]}
    assert len(found["song.mp3"]["notes"]) > 20
    for name in ("silence.flac", "click.wav"):
        assert summaries[name]["reason"] == "no pitch is heard"
        assert found[name]["reason"] == "no note is heard"
    (path,) = (place / ".segue/melody/artifacts/midi").rglob("song.mp3/*.mid")
    keys = [one.note for one in mido.MidiFile(path) if one.type == "note_on"]
    assert keys == [note["midi"] for note in found["song.mp3"]["notes"]]
    (path,) = (place / ".segue/melody/artifacts/pitch").rglob("voice.wav/*.parquet")
    contour = parquet.read_table(path)
    assert len(contour) * HOP_S == pytest.approx(3.0, abs=HOP_S)


def test_the_graph_rhythm_is_for_sound_alone_in_a_mixed_folder(place):
    backfill(place, "rhythm", {"downsample", "downbeats"})
    found = read(place, "rhythm", "downbeats")
    assert set(found) == SOUNDS
    assert found["song.mp3"]["beats_per_bar"] == 4
    assert found["silence.flac"]["beat_times_s"] == []
