"""Files that are rare, and that each job has to have an answer to: odd sounds, pictures and films.

They are small, for tests that run every job on each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np
import soundfile
from PIL import Image

from segue.media.ffmpeg import find_ffmpeg
from segue.testing.music import music

SR = 44_100
H264 = {"vcodec": "libx264", "preset": "ultrafast", "pix_fmt": "yuv420p"}
DURATION_S = 3.2  # long enough for all networks


def make_song() -> np.ndarray:
    """Return the samples of a short piece of music [shape=(n,)]."""
    return music(1, bpm=120, duration_s=DURATION_S, sr=SR, channels=1).y


def write_sounds(folder: Path) -> set[str]:
    """Write sounds that can be decoded, as WAV files of floats; return their names."""
    song = make_song()
    n = len(song)
    noise = np.random.default_rng(0).normal(0, 0.1, (3 * 192_000, 8))
    sounds = {
        "silence": (np.zeros((n, 2)), SR),
        "one-sample": (np.ones(1), SR),
        "one-sample-stereo-192-khz": (np.ones((1, 2)), 192_000),
        "100-ms": (song[: SR // 10], SR),
        "one-second": (song[:SR], SR),
        "8-channels-192-khz": (noise, 192_000),
        "12-channels": (np.tile(song[:, np.newaxis], 12), SR),
        "8-khz": (song[:: SR // 8_000], 8_000),
        "1-khz": (song[:: SR // 1_000], 1_000),
        "opposite-phase": (np.stack([song, -song], axis=1), SR),
        "120-db-down": (song * 1e-6, SR),
        "denormal": (np.full(n, 1e-40), SR),
        "20-db-above-full-scale": (song / abs(song).max() * 10, SR),
        "direct-current": (np.full(n, 0.5), SR),
        "one-click": (np.eye(1, n, n // 2)[0], SR),
        "half-the-rate": (np.tile([0.9, -0.9], n // 2), SR),
    }
    for name, (y, sr) in sounds.items():
        soundfile.write(folder / f"{name}.wav", y.astype(np.float32), sr, subtype="FLOAT")
    return {f"{name}.wav" for name in sounds}


def write_damaged_sounds(folder: Path) -> set[str]:
    """Write what cannot be decoded, although its name says that it is sound; return the names."""
    for name, value in (("not-a-number", np.nan), ("infinite", np.inf), ("integers", 20_000.0)):
        y = make_song().copy()
        y[len(y) // 2] = value
        soundfile.write(folder / f"{name}.wav", y, SR, subtype="FLOAT")
    soundfile.write(folder / "no-samples.wav", np.zeros(0), SR)
    data = (folder / "integers.wav").read_bytes()
    others = {
        "truncated.wav": data[: len(data) // 2],
        "empty.wav": b"",
        "zeros.wav": bytes(5_000),
        "text.wav": b"buy milk\n" * 100,
    }
    for name, content in others.items():
        (folder / name).write_bytes(content)
    return {"not-a-number.wav", "infinite.wav", "integers.wav", "no-samples.wav", *others}


def write_pictures(folder: Path) -> set[str]:
    """Write pictures; return their names."""
    ramp = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)
    picture = Image.fromarray(ramp)
    turned = picture.getexif()
    turned[0x0112] = 6  # the orientation
    moving: dict[str, Any] = {"save_all": True, "append_images": [picture.rotate(90)]}
    writers: dict[str, Callable[[Path], None]] = {
        "one-pixel.png": Image.new("RGB", (1, 1)).save,
        "one-grey-pixel.gif": Image.new("L", (1, 1)).save,
        "one-row.png": Image.fromarray(ramp.reshape(1, -1, 3)).save,
        "one-column.jpg": Image.fromarray(ramp.reshape(-1, 1, 3)).save,
        "black.jpg": Image.new("RGB", (99, 99)).save,
        "cmyk.jpg": picture.convert("CMYK").save,
        "two-tones.png": picture.convert("1").save,
        "16-bits.png": Image.fromarray(ramp[..., 0].astype(np.uint16) << 8).save,
        "transparent.webp": Image.new("RGBA", (64, 48)).save,
        "turned.jpg": lambda path: picture.save(path, exif=turned),
        "moving.gif": lambda path: picture.save(path, **moving),
        "tiles.tif": picture.save,
        "cover.bmp": picture.save,
    }
    for name, save in writers.items():
        save(folder / name)
    return set(writers)


def write_damaged_pictures(folder: Path) -> set[str]:
    """Write what cannot be decoded, although its name says that it is a picture."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    for name in ("truncated.jpg", "truncated.png", "truncated.webp"):
        picture.save(folder / name)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
    return {"truncated.jpg", "truncated.png", "truncated.webp"}


def write_films(folder: Path) -> set[str]:
    """Write films without sound; return their names."""
    long_shot = str(folder / "long-shot.mp4")
    uneven = show("64x48", 3).filter("select", "lt(n,9)+not(mod(n,7))")
    black = ffmpeg.input("color=black:s=64x48:d=1", f="lavfi")
    four = {"vcodec": "libx264", "pix_fmt": "yuv444p"}
    films: dict[str, tuple[Any, dict[str, Any]]] = {
        "long-shot.mp4": (show("64x48", 9), {"g": 1_000, "sc_threshold": 0, **H264}),
        "one-frame.mp4": (show("64x48", 1), {"vframes": 1, **H264}),
        "odd-size.mp4": (show("33x17", 1), four),
        "two-pixels-wide.mp4": (show("2x2", 1), H264),
        "wide.webm": (show("1000x16", 1), {"vcodec": "libvpx"}),
        "black.mkv": (black, H264),
        "uneven.mkv": (uneven, {"fps_mode": "vfr", **H264}),
        "late.mkv": (show("64x48", 1), {"output_ts_offset": 100, **H264}),
        "turned.mp4": (ffmpeg.input(long_shot, display_rotation=90), {"c": "copy"}),
    }
    for name, (pictures, options) in films.items():
        film = ffmpeg.output(pictures, str(folder / name), **options)
        film.run(cmd=find_ffmpeg(), quiet=True)
    return set(films)


def write_films_with_sound(folder: Path) -> set[str]:
    """Write films with sound; return their names."""
    quiet = ffmpeg.input("anullsrc", f="lavfi")
    tone = ffmpeg.input("sine", f="lavfi")
    films = {
        "silent-track.mp4": (quiet, 2.0, {"acodec": "aac", **H264}),
        "short-track.mp4": (tone, 0.02, {"acodec": "aac", **H264}),
        "broadcast.ts": (tone, 2.0, {"acodec": "mp2", "vcodec": "mpeg2video"}),
    }
    for name, (sound, duration_s, options) in films.items():
        part = sound.filter("atrim", duration=duration_s)
        film = ffmpeg.output(show("64x48", 2), part, str(folder / name), **options)
        film.run(cmd=find_ffmpeg(), quiet=True)
    return set(films)


def show(size: str, duration_s: float) -> ffmpeg.Stream:
    """Return a test pattern at 10 frames a second."""
    return ffmpeg.input(f"testsrc=s={size}:r=10:d={duration_s}", f="lavfi")
