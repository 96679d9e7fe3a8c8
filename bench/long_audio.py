"""Peak memory of each built-in job on three and on six hours of stereo music: the resident memory
of its child process and of ffmpeg.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.measure import list_tree, report

HOURS = (3, 6)
SONG_S = 300.0
SAMPLE_S = 0.05


def main() -> None:
    """Measure each job on a file of each length, and print."""
    hours = [float(argument) for argument in sys.argv[1:]] or HOURS
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(f"{folder}/catalogue")
        for duration_h in hours:
            path = Path(folder, "catalogue", "long.mp3")
            _make_long_file(path, duration_h * 3600)
            _measure_jobs(folder, duration_h)
            path.unlink()


def _make_long_file(path: Path, duration_s: float) -> None:
    from segue.media.ffmpeg import find_ffmpeg
    from segue.testing.music import music
    from segue.testing.sound import write

    song = path.with_name("song.mp3")
    write(music(1, bpm=120, duration_s=SONG_S, sr=44100, channels=2), str(song))
    names = path.with_name("songs.txt")
    names.write_text(f"file '{song}'\n" * math.ceil(duration_s / SONG_S))
    # A second less, because an MP3 file ends with some silence, and six hours are the limit.
    cut = ["-c", "copy", "-t", str(duration_s - 1)]
    joined = ["-v", "error", "-f", "concat", "-safe", "0", "-i", names, *cut, path]
    subprocess.run([find_ffmpeg(), *joined], check=True)
    song.unlink()
    names.unlink()


def _measure_jobs(folder: str, duration_h: float) -> None:
    from segue.adapters.connect import connect_store
    from segue.model.graph import read_graph
    from segue.stack import SHIPPED_GRAPH
    from segue.worker.pool import Pool
    from segue.worker.protocol import Task

    graph = read_graph(SHIPPED_GRAPH)
    store = connect_store(f"{folder}/catalogue")
    media = store.identify("long.mp3").to_media_file(store.uri("long.mp3"))
    artifacts: dict[str, str] = {}
    for number, (name, job) in enumerate(graph.jobs.items()):
        inputs = {parent: artifacts[parent] for parent in job.parents if parent in artifacts}
        with Pool(graph, f"{folder}/{duration_h:g}", processes=1) as pool:
            sampler = _ChildSampler()
            started_s = time.perf_counter()
            pool.submit([Task(task_id=number, media=media, run=(name,), inputs=inputs)])
            results = []
            while pool.pending:
                results += [r for reported in pool.collect(1.0) for r in reported.results]
            seconds = time.perf_counter() - started_s
            sampler.stop()
        result = results[0]
        artifacts.update((name, artifact) for artifact in result.artifacts)
        report(
            benchmark="long_audio",
            hours=duration_h,
            job=name,
            memory_gib=job.resources.memory_gib,
            state=result.state,
            error=result.error.message if result.error is not None else None,
            peak_mib=round(sampler.peak_mib),
            private_mib=round(sampler.peak_private_mib),
            seconds=round(seconds, 1),
        )


class _ChildSampler(threading.Thread):
    """Samples the memory of the processes below the supervisor: the child, and ffmpeg."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mib = self.peak_private_mib = 0.0
        self._done = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            # This process, its supervisor, and what the supervisor has forked.
            used = [_read_memory_mib(pid) for pid in list_tree(os.getpid(), skip=2)]
            self.peak_mib = max(self.peak_mib, sum(resident for resident, _ in used))
            self.peak_private_mib = max(self.peak_private_mib, sum(private for _, private in used))

    def stop(self) -> None:
        self._done.set()
        self.join()


def _read_memory_mib(pid: int) -> tuple[float, float]:
    try:
        with open(f"/proc/{pid}/status") as file:
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return 0.0, 0.0
    kib = [int(lines.get(name, "0 kB").split()[0]) for name in ("VmRSS", "RssAnon")]
    return kib[0] / 1024, kib[1] / 1024


if __name__ == "__main__":
    main()
