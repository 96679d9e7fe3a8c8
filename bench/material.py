"""What `bench.jobs` runs on: a song, a voice and a film that are synthesised, and a picture."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.light import SONG_S, make_song
from segue.media.ffmpeg import find_ffmpeg
from segue_support.photos import CHINA, FLOWER, HOPPER, find_photo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILM_S, SHOT_S, FRAMES_PER_S = 60, 5, 25
WIDTH, HEIGHT = 1280, 720
# What a minute of the media is; of a picture, the picture.
MINUTES = {"song": SONG_S / 60, "voice": SONG_S / 60, "film": FILM_S / 60, "picture": 1.0}
SR = 16_000
# Formants of vowels in Hz (Peterson and Barney, 1952: means of men), and bands of consonants.
VOWELS = (
    (270, 2290, 3010),
    (530, 1840, 2480),
    (730, 1090, 2440),
    (570, 840, 2410),
    (300, 870, 2240),
)
CONSONANTS = ((3500, 7500), (2000, 5000), (800, 3000), (300, 1500))
WORDS = ("when", "all", "letters", "are", "read", "by", "machine", "this", "film", "ends")


def make_material(kind: str, folder: str, voice: str | None) -> str:
    """Make a kind of media in a folder, once, and return its path.

    Parameters
    ----------
    kind : str
        ``song`` and ``voice`` are stereo MP3 at 44.1 kHz of 3 1/2 minutes. ``film`` is a minute of
        H.264 at 2 Mbit/s, 1280 x 720 at 25 frames a second, with a cut and a key frame every 5 s:
        photographs that move, with four lines of text. ``picture`` is a photograph of 640 x 427.
    folder : str
        Where it is made.
    voice : str, optional
        A recording that is repeated in place of the synthesised voice.
    """
    if kind == "picture":
        return find_photo(CHINA)
    path = os.path.join(folder, kind + (".mp4" if kind == "film" else ".mp3"))
    if os.path.exists(path):
        return path
    if kind == "song":
        return make_song(folder)
    if kind == "film":
        _write_film(path)
    else:
        _write_voice(path, folder, voice)
    return path


def _run_ffmpeg(*arguments: str, data: bytes | Iterator[bytes] = b"") -> None:
    command = [find_ffmpeg(), "-nostdin", "-v", "error", "-y", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for block in [data] if isinstance(data, bytes) else data:
            process.stdin.write(block)
        process.stdin.close()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}")


def _write_film(path: str) -> None:
    raw = (
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{WIDTH}x{HEIGHT}",
        "-r",
        str(FRAMES_PER_S),
    )
    keys = ("-g", str(SHOT_S * FRAMES_PER_S), "-sc_threshold", "0")
    grain = ("-vf", "noise=alls=8:allf=t:all_seed=1")
    coded = (*grain, "-c:v", "libx264", "-preset", "veryfast", "-b:v", "2M", "-pix_fmt", "yuv420p")
    _run_ffmpeg(*raw, "-i", "-", *coded, *keys, path, data=_iterate_frames())


def _iterate_frames() -> Iterator[bytes]:
    """Yield the frames of shots, each of a photograph across which the view moves."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    margin = SHOT_S * FRAMES_PER_S
    photos = (CHINA, HOPPER, FLOWER)
    for shot in range(FILM_S // SHOT_S):
        with Image.open(find_photo(photos[shot % len(photos)])) as photo:
            image = photo.convert("RGB").resize((WIDTH + margin, HEIGHT + margin))
        draw = ImageDraw.Draw(image)
        for line, size in enumerate((28, 36, 48, 64)):
            text = " ".join(WORDS[(shot + line + n) % len(WORDS)] for n in range(4))
            place, font = (margin + 80, margin + 60 + 140 * line), ImageFont.load_default(size)
            draw.text(place, text, "white", font, stroke_width=2, stroke_fill="black")
        pixels = np.asarray(image)
        for step in range(margin):
            yield pixels[step : step + HEIGHT, step : step + WIDTH].tobytes()


def _write_voice(path: str, folder: str, voice: str | None) -> None:
    import soundfile

    if voice is None:
        voice = os.path.join(folder, "voice.wav")
        soundfile.write(voice, _synthesise_voice(), SR)
    elif not os.path.isfile(voice):
        raise SystemExit(f"{voice!r} is not a file: name a recording of speech with --voice")
    stereo = ("-t", str(SONG_S), "-ar", "44100", "-ac", "2", "-b:a", "192k")
    _run_ffmpeg("-stream_loop", "-1", "-i", voice, *stereo, path)


def _synthesise_voice() -> NDArray[np.float64]:
    """Babble of syllables in phrases, with pauses: pulses and noise through resonators."""
    import numpy as np

    rng = np.random.default_rng(1)
    parts = []
    while sum(map(len, parts)) < SONG_S * SR:
        count = int(rng.integers(5, 11))
        for number in range(count):
            parts.append(_synthesise_consonant(rng))
            parts.append(_synthesise_vowel(rng, 135.0 - 40.0 * number / count))
        parts.append(np.zeros(round(rng.uniform(0.3, 0.7) * SR)))
    y = np.concatenate(parts)
    return 0.5 * y / np.abs(y).max()


def _synthesise_consonant(rng: np.random.Generator) -> NDArray[np.float64]:
    import numpy as np
    import scipy.signal

    size = round(rng.uniform(0.04, 0.1) * SR)
    band = CONSONANTS[rng.integers(len(CONSONANTS))]
    sos = scipy.signal.butter(2, band, "bandpass", fs=SR, output="sos")
    hiss: NDArray[np.float64] = scipy.signal.sosfilt(sos, rng.normal(0, 0.15, size))
    return hiss * np.hanning(size)


def _synthesise_vowel(rng: np.random.Generator, f0_hz: float) -> NDArray[np.float64]:
    import numpy as np
    import scipy.signal

    size = round(rng.uniform(0.09, 0.22) * SR)
    f0 = f0_hz * np.linspace(1.1, 0.92, size) * rng.uniform(0.95, 1.1)
    pulses = np.diff(np.floor(np.cumsum(f0 / SR)), prepend=0.0) + rng.normal(0, 0.005, size)
    y = scipy.signal.lfilter([1], [1, -1.7, 0.72], pulses)  # the glottis: 12 dB less per octave
    for formant_hz in (*VOWELS[rng.integers(len(VOWELS))], 3500):
        radius = np.exp(-np.pi * (50 + 0.03 * formant_hz) / SR)
        poles = [1, -2 * radius * np.cos(2 * np.pi * formant_hz / SR), radius**2]
        y = scipy.signal.lfilter([sum(poles)], poles, y)
    y = np.diff(y, prepend=0.0)  # the lips radiate high frequencies
    fade = np.minimum(1, np.minimum(np.arange(size), np.arange(size)[::-1]) / (0.015 * SR))
    return y * fade / max(1e-9, float(np.abs(y).max()))
