"""The graphs of speech run over songs, recordings, covers and films without a failure."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import ffmpeg
import numpy as np
import pytest
import soundfile

from segue.media.ffmpeg import find_ffmpeg
from segue.testing.music import music
from segue.testing.sound import write
from segue_support.model_commands import run_segue
from segue_support.paths import ROOT
from segue_support.tiny_whisper import use_tiny_whisper

SR = 16_000
SOUNDS = {"song.mp3", "talk.wav", "silence.flac", "click.wav", "interview.mp4", "phone.ogg"}
OTHERS = {"cover.png", "cover.jpg", "silent.mp4"}
PICTURES = {"cover.png", "cover.jpg"}  # which these graphs do not include


def run(folder: Path, *arguments: str) -> str:
    return run_segue(folder, *arguments, models=folder.parent / "models")


def make_talk() -> np.ndarray:
    """Return the buzz that a network takes for speech, four times."""
    path = ROOT / "tests/golden/make_firered_aed.py"
    spec = importlib.util.spec_from_file_location("make_firered_aed", path)
    assert spec is not None
    assert spec.loader is not None
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    return np.tile(golden.make_sound(), 4)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a mixed catalogue in ``media``."""
    place = tmp_path_factory.mktemp("place")
    media = place / "media"
    media.mkdir()
    write(music(1, bpm=120, duration_s=8.0), str(media / "song.wav"))
    soundfile.write(media / "talk.wav", make_talk(), SR)
    soundfile.write(media / "silence.flac", np.zeros((44_100, 2), np.float32), 44_100)
    soundfile.write(media / "click.wav", np.ones(1, np.float32), 192_000)
    song, talk = (ffmpeg.input(str(media / name)) for name in ("song.wav", "talk.wav"))
    film = ffmpeg.input("testsrc=s=64x64:r=5:d=2", f="lavfi")
    for output in (
        ffmpeg.output(song, str(media / "song.mp3")),
        ffmpeg.output(talk, str(media / "phone.ogg"), ar=8000, acodec="libvorbis"),
        ffmpeg.output(film, talk, str(media / "interview.mp4"), vcodec="mpeg4", acodec="aac"),
        ffmpeg.output(film, str(media / "silent.mp4"), vcodec="mpeg4"),
        ffmpeg.output(film, str(media / "cover.png"), vframes=1),
        ffmpeg.output(film, str(media / "cover.jpg"), vframes=1),
    ):
        output.run(cmd=find_ffmpeg(), quiet=True)
    (media / "song.wav").unlink()
    return place


def start(place: Path, graph: str) -> Path:
    """Begin a project with a shipped graph, which also takes covers."""
    run(place, "init", "--graph", graph, graph)
    path = place / graph / "jobs.yaml"
    path.write_text(
        re.sub(r"^include: .*$", 'include: ["*"]', path.read_text(), flags=re.MULTILINE)
    )
    return path


def backfill(project: Path) -> dict[str, dict[str, int]]:
    found = json.loads(run(project, "backfill", "--prefix", "../media", "--all", "--json"))
    assert found["failed_files"] == 0
    return {job: result["statuses"] for job, result in found["jobs"].items()}


def read(project: Path, graph: str, job: str) -> dict[str, dict]:
    folder = project / ".segue" / graph / "artifacts" / job
    return {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("*.json")}


def test_the_graph_speech_tells_speech_from_music_in_a_mixed_folder(place):
    project = start(place, "speech").parent
    run(project, "models", "get")
    expected = {"done": len(SOUNDS), "not_applicable": len(OTHERS - PICTURES)}
    found = backfill(project)
    assert found == dict.fromkeys(("downsample_16khz", "speech", "instrumentalness"), expected)
    speech = read(project, "speech", "speech")
    assert set(speech) == SOUNDS
    for name in ("talk.wav", "interview.mp4", "phone.ogg"):
        assert speech[name]["speechiness"] > 0.5, name
        assert read(project, "speech", "instrumentalness")[name]["instrumentalness"] == 0.0
    assert speech["song.mp3"]["music_share"] > 0.9
    assert speech["song.mp3"]["speechiness"] == 0.0
    assert read(project, "speech", "instrumentalness")["song.mp3"]["instrumentalness"] == 1.0
    assert speech["silence.flac"]["segments"] == []
    assert speech["click.wav"]["reason"] == "the file is shorter than 0.025 s"


def test_the_graph_transcript_works_with_a_model_of_the_user(place):
    """It has all jobs of the graph language, too."""
    path = start(place, "transcript")
    use_tiny_whisper(path)
    run(path.parent, "models", "get")
    expected = {"done": len(SOUNDS), "not_applicable": len(OTHERS - PICTURES)}
    jobs = ("downsample_16khz", "speech", "language", "transcript")
    assert backfill(path.parent) == dict.fromkeys(jobs, expected)
    language = read(path.parent, "transcript", "language")
    assert language["talk.wav"]["language"] == "fr"
    for name in ("song.mp3", "silence.flac", "click.wav"):
        assert language[name]["reason"] == "there are 0.0 s with a voice, and 3.0 are needed"
    said = read(path.parent, "transcript", "transcript")
    assert [segment["text"] for segment in said["talk.wav"]["segments"]] == ["hi", "à toi!"]
    assert said["song.mp3"]["segments"] == []
