"""CPU of measuring the loudness of a decoded stereo song of three and a half minutes, against the
meters of ffmpeg and of pyloudnorm, which measures the integrated loudness only.
"""

from __future__ import annotations

import resource
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable

from bench.measure import report

SONG_S = 210.0
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    import numpy as np

    from segue.features.ebu_r128 import loudness
    from segue.media.decode import LocalMedia
    from segue.media.ffmpeg import find_ffmpeg
    from segue.testing.music import music
    from segue.testing.sound import write

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pyloudnorm

    with tempfile.TemporaryDirectory() as folder:
        song = music(1, bpm=120, duration_s=SONG_S, sr=44100, channels=2)
        path = write(song, f"{folder}/song.mp3")
        media = LocalMedia(uri=f"file://{path}", version="1", path=path, folder=folder)
        y = np.asarray(media.audio().y.T, np.float64)
        plain = [find_ffmpeg(), "-v", "error", "-i", media.decode_to_wav()]
        plain += ["-af", "ebur128=peak=true:framelog=quiet", "-f", "null", "-"]
        meter = pyloudnorm.Meter(44100)
        loudness(media)  # imports and compiles
        cpu_s = _measure_cpu(lambda: loudness(media))
        ffmpeg_cpu_s = _measure_cpu(lambda: subprocess.run(plain, check=True))
        pyloudnorm_cpu_s = _measure_cpu(lambda: meter.integrated_loudness(y))
    report(
        benchmark="loudness",
        song_s=SONG_S,
        cpu_s=round(cpu_s, 3),
        ffmpeg_cpu_s=round(ffmpeg_cpu_s, 3),
        pyloudnorm_cpu_s=round(pyloudnorm_cpu_s, 3),
        ratio_to_ffmpeg=round(cpu_s / ffmpeg_cpu_s, 3),
    )


def _measure_cpu(call: Callable[[], object]) -> float:
    """Return the least CPU of a call and its child processes."""
    spent = []
    for _ in range(ROUNDS):
        before = _read_cpu()
        call()
        spent.append(_read_cpu() - before)
    return min(spent)


def _read_cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main()
