"""Measures what is found in films that are joined from known parts: key frames, cuts, a thumbnail.

The parts are photographs of scikit-image, over which the camera moves, with noise. The truth is
the list of the frames at which a part begins. Some begin with a dissolve: no cut, and no key frame.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageFilter

from truth.caller import System
from truth.choices import choose, make_once
from truth.photographs import PHOTOS, find_photos
from truth.rows import Answer, Answers, Row
from truth.tables import Column, number, ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

WIDTH, HEIGHT, FRAMES_PER_S = 320, 180, 25
SHOTS, SHORTEST, LONGEST = 30, 20, 50  # frames of a shot
DISSOLVED, DISSOLVE = 0.2, 15  # share of the shots, and frames
NOISE = 4.0
MARGIN = 1.4  # by how much the photograph is larger than the film
NEAR_S = 0.1
CUTS = "segue.features.shots:cuts"
THRESHOLDS = (8.0, 12.0)  # besides the default
LONG = "100000"  # frames: no key frame but those that are asked for
# Container and codec → the arguments of ffmpeg.
CODECS: dict[str, tuple[str, list[str]]] = {
    "H.264 in MP4": (
        "mp4",
        ["-c:v", "libx264", "-crf", "26", "-bf", "2", "-g", LONG, "-sc_threshold", "0"],
    ),
    "MPEG-2 in a transport stream": (
        "ts",
        ["-c:v", "mpeg2video", "-q:v", "4", "-bf", "2", "-g", "600", "-sc_threshold", "1e9"],
    ),
}
SHOWN = ("chelsea", "coffee", "astronaut", "motorcycle_left", "rocket", "ihc")
PART_FRAMES = 40
SHARP = "sharp"
BLUR = 8
SMALL = (64, 36)

FEATURES = {
    "frames": "key frames of films, beside ffmpeg",
    "cuts": "cuts of films that are joined from known shots, beside ffmpeg's scdet",
    "thumbnail": "the picture that stands for a film, beside ffmpeg's thumbnail",
}
FOUND: tuple[Column, ...] = (
    ("film", lambda row: row["set"]),
    ("system", lambda row: row["system"]),
    ("found", lambda row: f"{row['found']} of {row['true']}"),
    ("false", lambda row: str(row["false"])),
    ("off by at most, ms", lambda row: number(row["off_ms"], 1)),
    ("CPU, s/min", lambda row: number(row["cpu_s_per_min"], 3)),
)
TABLES: dict[str, tuple[Column, ...]] = {
    "frames": FOUND,
    "cuts": FOUND,
    "thumbnail": (
        ("system", lambda row: row["system"]),
        ("shows the sharp shot", lambda row: ratio(row["right"], row)),
        ("CPU, s/min", lambda row: number(row["cpu_s_per_min"], 2)),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A film, when its parts begin after a cut, and how long it is."""

    codec: str
    file: str
    times_s: list[float]
    duration_s: float


def find_ffmpeg(python: str) -> str:
    """Return the ffmpeg that a checkout's Segue uses."""
    program = "from segue.media.ffmpeg import find_ffmpeg; print(find_ffmpeg())"
    done = subprocess.run([python, "-P", "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def match_times(found: Sequence[float], truth: Sequence[float]) -> tuple[int, int, list[float]]:
    """Return how many true times were found, how many are false, and how far off each is, in s.

    A time counts for the true one that is nearest, if that is within 0.1 s and still free.
    """
    distances: dict[int, float] = {}
    false = 0
    for time in found:
        nearest = min(range(len(truth)), key=lambda index: abs(truth[index] - time), default=None)
        if nearest is None or abs(truth[nearest] - time) > NEAR_S or nearest in distances:
            false += 1
        else:
            distances[nearest] = abs(truth[nearest] - time)
    return len(distances), false, list(distances.values())


def read_photo(name: str) -> Image.Image:
    """Return a photograph that is larger than the film by the margin."""
    image = Image.open(find_photos() / name).convert("RGB")
    scale = max(WIDTH / image.width, HEIGHT / image.height) * MARGIN
    return image.resize((round(image.width * scale), round(image.height * scale)))


def pan(photo: NDArray[np.uint8], frames: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return what a camera sees that moves over a photograph [shape=(frames, height, width, 3)]."""
    room = np.array([photo.shape[0] - HEIGHT, photo.shape[1] - WIDTH])
    start, end = rng.uniform(0, 1, (2, 2)) * room
    corners = (start + (end - start) * np.linspace(0, 1, frames)[:, np.newaxis]).astype(int)
    gain = rng.uniform(0.6, 1.1)
    cut = [photo[row : row + HEIGHT, column : column + WIDTH] for row, column in corners]
    return np.stack(cut).astype(np.float32) * np.float32(gain)


@cache
def make_noise() -> NDArray[np.float32]:
    """Return noise that is twice as wide and high as the film."""
    rng = np.random.default_rng(0)
    return (NOISE * rng.standard_normal((2 * HEIGHT, 2 * WIDTH, 3))).astype(np.float32)


def add_noise(shot: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the frames as a camera records them: each with another part of the noise."""
    corners = rng.integers((HEIGHT, WIDTH), size=(len(shot), 2))
    noise = make_noise()
    noisy = [
        frame + noise[row : row + HEIGHT, column : column + WIDTH]
        for frame, (row, column) in zip(shot, corners, strict=True)
    ]
    return np.clip(noisy, 0, 255).astype(np.uint8)


def join_shots(seed: int, photos_of: Iterable[str] = PHOTOS) -> tuple[NDArray[np.uint8], list[int]]:
    """Return the frames of a film, and those that begin after a cut."""
    rng = np.random.default_rng(seed)
    photos = [np.asarray(read_photo(name)) for name in photos_of]
    frames: list[NDArray[np.uint8]] = []
    cuts: list[int] = []
    last: NDArray[np.float32] | None = None
    before = -1
    count = 0
    for _ in range(SHOTS):
        chosen = (before + 1 + int(rng.integers(len(photos) - 1))) % len(photos)
        before = chosen
        shot = pan(photos[chosen], int(rng.integers(SHORTEST, LONGEST)), rng)
        if last is not None and rng.uniform() < DISSOLVED:
            weights = (np.arange(1, DISSOLVE + 1) / (DISSOLVE + 1))[:, None, None, None]
            mixed = (1 - weights) * last + weights * shot[0]
            shot = np.concatenate([mixed.astype(np.float32), shot])
        elif last is not None:
            cuts.append(count)
        frames.append(add_noise(shot, rng))
        count += len(shot)
        last = shot[-1]
    return np.concatenate(frames), cuts


def write_film(
    ffmpeg: str, frames: NDArray[np.uint8], key_frames: Sequence[int], codec: str, path: Path
) -> Path:
    """Write a film with key frames where they are asked for; return its path, with its suffix."""
    suffix, arguments = CODECS[codec]
    path = path.with_suffix(f".{suffix}")
    # A hair early: ffmpeg takes the first frame at or after a time.
    times = ",".join(f"{max(0.0, (frame - 0.4) / FRAMES_PER_S):.4f}" for frame in key_frames)
    given = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}"]
    given += ["-r", str(FRAMES_PER_S), "-i", "-", "-pix_fmt", "yuv420p"]
    subprocess.run(
        [ffmpeg, "-v", "error", *given, *arguments, "-force_key_frames", times, str(path)],
        input=frames.tobytes(),
        check=True,
    )
    return path


def write_films(folder: Path, ffmpeg: str) -> None:
    """Write a film of other shots for each codec, and ``films.json``."""
    films = []
    for seed, codec in enumerate(CODECS):
        frames, cuts = join_shots(seed)
        path = write_film(ffmpeg, frames, [0, *cuts], codec, folder / str(seed))
        times_s = [cut / FRAMES_PER_S for cut in cuts]
        film = Film(
            codec=codec, file=path.name, times_s=times_s, duration_s=len(frames) / FRAMES_PER_S
        )
        films.append(asdict(film))
    (folder / "films.json").write_text(json.dumps(films))


def score_film(system: str, feature: str, film: Film, answer: Answer) -> Row:
    """Return the row of a film and a system."""
    truth = [0.0, *film.times_s] if feature == "frames" else film.times_s
    found, false, off_s = match_times((answer.value or {"times_s": []})["times_s"], truth)
    return {
        "feature": feature,
        "set": film.codec,
        "system": system,
        "error": answer.error,
        "true": len(truth),
        "found": found,
        "false": false,
        "off_ms": 1000 * max(off_s) if off_s else None,
        "cpu_s_per_min": 60 * answer.cpu_s / film.duration_s,
    }


def measure_films(
    feature: str, systems: Sequence[System], given: argparse.Namespace, answers_of: Answers
) -> list[Row]:
    """Return a row for each film and system."""
    write = partial(write_films, ffmpeg=find_ffmpeg(given.python))
    folder = make_once(given.cache, "films", __file__, write)
    films = [Film(**fields) for fields in json.loads((folder / "films.json").read_text())]
    found = answers_of.ask(systems, [folder / film.file for film in films], feature)
    return [
        score_film(name, feature, film, answer)
        for name, answers in found.items()
        for film, answer in zip(films, answers, strict=True)
    ]


def list_ffmpeg(python: str, call: str) -> list[System]:
    """Return ffmpeg as a reference; it runs in Segue's environment."""
    call = f"truth.picture_references:{call}"
    return [System(name="ffmpeg", python=python, call=call, file=True)]


def measure_frames(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return the rows of ``frames``."""
    references = list_ffmpeg(given.python, "ffmpeg_key_frames")
    systems = choose(given, "segue.features.key_frames:frames", references, media=True)
    return measure_films("frames", systems, given, answers_of)


def measure_cuts(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return the rows of ``cuts``, for the default threshold and others."""
    systems = choose(given, CUTS, list_ffmpeg(given.python, "ffmpeg_cuts"), media=True)
    systems += [
        System(
            name=f"Segue, threshold {threshold:.0f}",
            python=given.python,
            call=CUTS,
            parameters={"threshold": threshold},
            media=True,
        )
        for threshold in THRESHOLDS
    ]
    return measure_films("cuts", systems, given, answers_of)


def iterate_parts(name: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield what each part of a film for thumbnails is, and its picture."""
    photo = read_photo(name).crop((0, 0, WIDTH, HEIGHT))
    sharp = np.asarray(photo, np.float32)
    blurred = np.asarray(photo.filter(ImageFilter.GaussianBlur(BLUR)), np.float32)
    yield "black", np.zeros_like(sharp)
    yield "blurred", blurred
    yield SHARP, sharp
    yield "dark", sharp * np.float32(0.05)
    yield "of one colour", np.broadcast_to(sharp.mean(axis=(0, 1)), sharp.shape).copy()


def shrink(rgb: NDArray[Any]) -> NDArray[np.float64]:
    """Return a picture in a size at which noise does not matter."""
    return np.asarray(Image.fromarray(rgb.astype(np.uint8)).resize(SMALL), np.float64)


def name_part(found: dict[str, Any], parts: dict[str, NDArray[np.float32]]) -> str:
    """Return which part of its film a thumbnail shows: the one that differs least."""
    height, width = found["shape"]
    rgb = np.frombuffer(base64.b64decode(found["rgb"]), np.uint8).reshape(height, width, 3)
    small = shrink(rgb)
    return min(parts, key=lambda part: float(np.abs(shrink(parts[part]) - small).mean()))


def write_parts(ffmpeg: str, folder: Path) -> list[tuple[Path, dict[str, NDArray[np.float32]]]]:
    """Write films of parts of which one is sharp and lit; return them with their parts."""
    films = []
    for seed, name in enumerate(SHOWN):
        (file,) = (file for file in PHOTOS if Path(file).stem == name)
        parts = dict(iterate_parts(file))
        rng = np.random.default_rng(seed)
        shots = [
            add_noise(np.broadcast_to(parts[part], (PART_FRAMES, HEIGHT, WIDTH, 3)), rng)
            for part in np.roll(list(parts), seed)
        ]
        keys = [PART_FRAMES * index for index in range(len(shots))]
        codec = list(CODECS)[seed % len(CODECS)]
        films.append((write_film(ffmpeg, np.concatenate(shots), keys, codec, folder / name), parts))
    return films


def measure_thumbnail(given: argparse.Namespace, answers_of: Answers) -> list[Row]:
    """Return a row for each system: how often it takes the one part that shows something."""
    references = list_ffmpeg(given.python, "ffmpeg_thumbnail")
    systems = choose(given, "truth.media_jobs:thumbnail", references, media=True)
    with tempfile.TemporaryDirectory() as scratch:
        films = write_parts(find_ffmpeg(given.python), Path(scratch))
        found = answers_of.ask(systems, [path for path, _ in films], "thumbnail")
    seconds = sum(len(parts) for _, parts in films) * PART_FRAMES / FRAMES_PER_S
    return [
        {
            "feature": "thumbnail",
            "system": name,
            "files": len(films),
            "errors": [answer.error for answer in answers if answer.error],
            "right": sum(
                name_part(answer.value, parts) == SHARP
                for answer, (_, parts) in zip(answers, films, strict=True)
                if answer.value
            ),
            "cpu_s_per_min": 60 * sum(answer.cpu_s for answer in answers) / seconds,
        }
        for name, answers in found.items()
    ]


MEASURES: dict[str, Callable[[argparse.Namespace, Answers], list[Row]]] = {
    "frames": measure_frames,
    "cuts": measure_cuts,
    "thumbnail": measure_thumbnail,
}
