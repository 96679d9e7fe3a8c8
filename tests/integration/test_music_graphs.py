"""The graphs separation and tags run over songs, recordings, covers and films without a failure."""

from __future__ import annotations

import json
import re
from pathlib import Path

import ffmpeg
import numpy as np
import pytest
import soundfile

from segue.media.ffmpeg import find_ffmpeg
from segue.models.musicnn import TAGS
from segue.testing.music import music
from segue.testing.sound import write
from segue_support.model_commands import run_segue

SR = 44_100
SOUNDS = {"song.mp3", "silence.flac", "click.wav", "surround.wav", "interview.mp4", "phone.ogg"}
OTHERS = {"cover.png", "silent.mp4"}
PICTURES = {"cover.png", "cover.jpg"}  # which these graphs do not include
LONG_ENOUGH = {"song.mp3", "surround.wav", "interview.mp4", "phone.ogg"}  # and not silent
STEP = 2**-15  # of 16 bits: each stem is rounded to half of it


def run(folder: Path, *arguments: str) -> str:
    return run_segue(folder, *arguments, models=folder.parent / "models")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a mixed catalogue in ``media``."""
    place = tmp_path_factory.mktemp("place")
    media = place / "media"
    media.mkdir()
    write(music(1, bpm=120, duration_s=5.0), str(media / "song.wav"))
    soundfile.write(media / "silence.flac", np.zeros((4 * SR, 2), np.float32), SR)
    soundfile.write(media / "click.wav", np.ones(1, np.float32), 192_000)
    noise = np.random.default_rng(0).normal(0, 0.1, (192_000 * 3, 8))
    soundfile.write(media / "surround.wav", noise, 192_000)
    song = ffmpeg.input(str(media / "song.wav"))
    film = ffmpeg.input("testsrc=s=64x64:r=5:d=5", f="lavfi")
    for output in (
        ffmpeg.output(song, str(media / "song.mp3")),
        ffmpeg.output(song, str(media / "phone.ogg"), ar=8000, ac=1, acodec="libvorbis"),
        ffmpeg.output(film, song, str(media / "interview.mp4"), vcodec="mpeg4", acodec="aac"),
        ffmpeg.output(film, str(media / "silent.mp4"), vcodec="mpeg4"),
        ffmpeg.output(film, str(media / "cover.png"), vframes=1),
    ):
        output.run(cmd=find_ffmpeg(), quiet=True)
    (media / "song.wav").unlink()
    return place


def backfill(place: Path, graph: str) -> Path:
    """Run a shipped graph over everything, covers too; return the folder of its artifacts."""
    run(place, "init", "--graph", graph, graph)
    project = place / graph
    path = project / "jobs.yaml"
    path.write_text(
        re.sub(r"^include: .*$", 'include: ["*"]', path.read_text(), flags=re.MULTILINE)
    )
    run(project, "models", "get")
    found = json.loads(run(project, "backfill", "--prefix", "../media", "--all", "--json"))
    expected = {"done": len(SOUNDS), "not_applicable": len(OTHERS - PICTURES)}
    for job, result in found["jobs"].items():
        assert result["statuses"] == expected, job
    return project / ".segue" / graph / "artifacts"


def read_sound(folder: Path, job: str, name: str, output: str = "") -> np.ndarray:
    (path,) = (folder / job).rglob(f"{name}/*{output}.flac")
    samples, sample_rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    assert sample_rate_hz == SR
    return samples


def test_the_graph_separation_splits_all_sounds_of_a_mixed_folder(place):
    artifacts = backfill(place, "separation")
    for name in SOUNDS:
        whole = read_sound(artifacts, "stereo_44khz", name)
        vocals = read_sound(artifacts, "separation", name, ".vocals")
        rest = read_sound(artifacts, "separation", name, ".accompaniment")
        assert vocals.shape == rest.shape == whole.shape
        assert whole.shape[1] == 2
        is_clipped = np.maximum(abs(vocals), abs(rest)) > 1 - 2 * STEP
        assert is_clipped.mean() < 1e-3
        assert abs(vocals + rest - whole)[~is_clipped].max() <= 1.01 * STEP, name
    found = {
        path.parent.name: json.loads(path.read_text())["instrumentalness"]
        for path in (artifacts / "instrumentalness_by_vocals").rglob("*.json")
    }
    assert found["song.mp3"] == 1.0
    # There is no voice in it.
    vocals = read_sound(artifacts, "separation", "song.mp3", ".vocals")
    song = read_sound(artifacts, "stereo_44khz", "song.mp3")
    assert np.square(vocals).mean() < 0.1 * np.square(song).mean()


def test_the_graph_tags_tags_all_sounds_of_a_mixed_folder(place):
    artifacts = backfill(place, "tags")
    found = {
        path.parent.name: json.loads(path.read_text())
        for path in (artifacts / "tags").rglob("*.json")
    }
    assert found.keys() == SOUNDS
    for name in LONG_ENOUGH:
        assert {tag["name"] for tag in found[name]["tags"]} == set(TAGS)
        assert len(found[name]["embedding"]) == 200
        assert found[name]["reason"] is None
    assert found["silence.flac"]["reason"] == "the file is silent"
    assert found["click.wav"]["reason"] == "the file is shorter than 2.976 s"
    # Formats that sound alike have tags that are alike.
    ranks = [[tag["name"] for tag in found[n]["tags"][:3]] for n in ("song.mp3", "interview.mp4")]
    assert set(ranks[0]) & set(ranks[1])
