"""The child process of `bench.light`: runs the jobs of the graph that ships with Segue on one file.

    python -P bench/stages.py SONG            a round for each line of the standard input
    python -P bench/stages.py SONG plain      the same, with the plain calls of libraries
    python -P bench/stages.py SONG first JOB  the first call of a job, behind all that it needs
    python -P bench/stages.py SONG list       the names of the jobs

It prints JSON: CPU of this process and its children in ms. It imports nothing but the library, so
any checkout's Python can run this file.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
SOURCE = "source"
WAV = ("-c:a", "pcm_f32le", "-f", "wav")


@dataclass(slots=True)
class Round:
    """What one round has used: CPU of this process and its children, in ms, by stage."""

    stages: dict[str, float] = field(default_factory=dict)

    def measure(self, stage: str, call: Callable[[], Any]) -> Any:
        """Call a function, and record its CPU."""
        started = read_cpu()
        result = call()
        spent_ms = (read_cpu() - started) * 1e3
        self.stages[stage] = self.stages.get(stage, 0.0) + spent_ms
        return result


def read_cpu() -> float:
    """Return the CPU that this process and the children that have ended have used, in seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@contextlib.contextmanager
def open_media(song: str) -> Iterator[Any]:
    """Open a song as a worker does."""
    from segue.media.decode import LocalMedia

    with tempfile.TemporaryDirectory() as folder:
        yield LocalMedia(uri=f"file://{song}", version="1", path=song, folder=folder)


def run_jobs(
    measured: Round,
    media: Any,
    jobs: list[Any],
    compare: Callable[[str, dict[str, Any]], None] = lambda _stage, _values: None,
) -> None:
    """Run jobs in their order, each on the values that a child job would get.

    The stages are the decoding, each job, and each content type: what encoding costs. After the
    decoding and after each job, `compare` gets its name and the values up to then.
    """
    from segue.codec import encode

    values = {SOURCE: media}
    measured.measure("decode", media.audio)
    compare("decode", values)
    for job in jobs:
        module, _, name = job.run.partition(":")
        function = getattr(import_module(module), name)
        inputs = {name: values[needed] for name, needed in job.needs.items()}
        value = measured.measure(job.name, lambda f=function, i=inputs, p=job.params: f(**i, **p))
        encoded = measured.measure(job.writes, lambda j=job, v=value: encode(j.writes, v))
        values[job.name] = encoded.value
        compare(job.name, values)


# What a job does, as anybody would call libraries for it


def decode_plainly(song: str, _values: dict[str, Any], folder: str) -> None:
    """Decode with ffmpeg."""
    _run_ffmpeg(song, "-vn", *WAV, os.path.join(folder, "plain.wav"))


def downsample_plainly(_song: str, values: dict[str, Any], _folder: str) -> None:
    """Mix and resample."""
    import librosa
    import soxr

    audio = values[SOURCE].audio()
    soxr.resample(librosa.to_mono(audio.y), audio.sr, values["downsample"].sr, quality="HQ")


def measure_loudness_plainly(_song: str, values: dict[str, Any], _folder: str) -> None:
    """Measure with ffmpeg's filter."""
    wav = values[SOURCE].decode_to_wav()
    _run_ffmpeg(wav, "-af", "ebur128=peak=true:framelog=verbose", "-f", "null", "-")


def track_beats_plainly(_song: str, values: dict[str, Any], _folder: str) -> None:
    """Track beats with librosa."""
    import librosa
    import numpy as np

    y, sr = values["downsample"].y, values["downsample"].sr
    envelope = librosa.onset.onset_strength(y=y, sr=sr, aggregate=np.median)
    librosa.beat.beat_track(onset_envelope=envelope, sr=sr)


def draw_spectrogram_plainly(_song: str, values: dict[str, Any], _folder: str) -> None:
    """Draw with librosa and matplotlib, of the size that the job has."""
    import librosa
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    y, sr = values["downsample"].y, values["downsample"].sr
    height_px, width_px, _ = values["spectrogram"].shape
    hop_length = len(y) // (2 * width_px)
    S = librosa.feature.melspectrogram(y=y, sr=sr, hop_length=hop_length, n_mels=224, fmin=27.5)
    figure = Figure(figsize=(width_px / 160, height_px / 160), dpi=160)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    levels = librosa.power_to_db(S, ref=np.max)
    picture = axes.imshow(levels, origin="lower", aspect="auto", cmap="magma")
    figure.colorbar(picture)
    canvas.draw()
    np.array(np.asarray(canvas.buffer_rgba())[..., :3])


def measure_energy_plainly(_song: str, values: dict[str, Any], _folder: str) -> None:
    """Compute the RMS of each beat in double precision."""
    import numpy as np

    y, sr = values["downsample"].y, values["downsample"].sr
    edges = [0, *(round(time_s * sr) for time_s in values["beats"]["beat_times_s"]), len(y)]
    for start, end in pairwise(edges):
        if end > start:
            np.sqrt(np.mean(np.square(y[start:end], dtype=np.float64)))


def probe_plainly(song: str, _values: dict[str, Any], _folder: str) -> None:
    """Read a file's headers with PyAV."""
    import av

    with av.open(song) as container:
        for stream in container.streams:
            _ = (stream.type, stream.codec_context.codec.name, stream.duration, stream.metadata)
        _ = (container.format.name, container.duration, container.metadata)


def find_key_plainly(_song: str, values: dict[str, Any], _folder: str) -> None:
    """Fold a constant-Q transform to pitch classes, in the tuning that librosa estimates."""
    import librosa

    librosa.feature.chroma_cqt(y=values["downsample"].y, sr=values["downsample"].sr)


def take_fingerprint_plainly(_song: str, values: dict[str, Any], _folder: str) -> None:
    """Take ffmpeg's fingerprint of what AcoustID looks at."""
    chromaprint = ("-ac", "1", "-ar", "11025", "-f", "chromaprint", "-")
    _run_ffmpeg(values[SOURCE].decode_to_wav(), "-t", "120", *chromaprint)


# No library has the danceability of such a licence that it could be compared here.
PLAIN = {
    "decode": decode_plainly,
    "downsample": downsample_plainly,
    "loudness": measure_loudness_plainly,
    "beats": track_beats_plainly,
    "energy": measure_energy_plainly,
    "key": find_key_plainly,
    "fingerprint": take_fingerprint_plainly,
    "spectrogram": draw_spectrogram_plainly,
    "probe": probe_plainly,
}


def _run_ffmpeg(source: str, *arguments: str) -> None:
    from segue.media.ffmpeg import find_ffmpeg

    quiet = [find_ffmpeg(), "-nostdin", "-v", "error", "-y", "-threads", "1", "-i", source]
    subprocess.run([*quiet, *arguments], check=True, stdout=subprocess.DEVNULL)


def run_rounds(song: str, jobs: list[Any], *, plain: bool) -> None:
    """Run a round for each line that comes in, and print it."""
    for _ in sys.stdin:
        measured, compared = Round(), Round()
        with open_media(song) as media, tempfile.TemporaryDirectory() as folder:

            def compare(
                stage: str, values: dict[str, Any], into: Round = compared, folder: str = folder
            ) -> None:
                if plain and stage in PLAIN:
                    into.measure(stage, lambda: PLAIN[stage](song, values, folder))

            run_jobs(measured, media, jobs, compare)
        print(json.dumps([measured.stages, compared.stages]), flush=True)


def run_first(song: str, graph: Any, jobs: list[Any], name: str) -> None:
    """Print what preloading a job and its line has used, and then the first call of each."""
    from segue.worker.preload import preload

    line = graph.add_ancestors([name])
    preload(graph, "file:///nowhere", line, ())
    preloaded_ms = read_cpu() * 1e3
    measured = Round()
    with open_media(song) as media:
        run_jobs(measured, media, [job for job in jobs if job.name in line])
    first_ms = measured.stages[name] + measured.stages[graph.jobs[name].writes]
    print(json.dumps({"preload_ms": preloaded_ms, "first_ms": first_ms}), flush=True)


def main(song: str, mode: str = "", name: str = "") -> None:
    """Run what the arguments name."""
    os.environ.update(dict.fromkeys(THREADS, "1"))
    from segue.model.graph import read_graph
    from segue.stack import SHIPPED_GRAPH
    from segue.worker.numba_cache import use_temporary_cache
    from segue.worker.preload import preload

    graph = read_graph(SHIPPED_GRAPH)
    jobs = [job for job in graph.jobs.values() if getattr(job, "on_arrival", True)]
    with use_temporary_cache():
        if mode == "list":
            print(json.dumps([job.name for job in jobs]))
        elif mode == "first":
            run_first(song, graph, jobs, name)
        else:
            preload(graph, "file:///nowhere", [job.name for job in jobs], ())
            run_rounds(song, jobs, plain=mode == "plain")


if __name__ == "__main__":
    main(*sys.argv[1:])
