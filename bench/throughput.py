"""Real jobs on all cores, against a plain multiprocessing pool that calls the same functions.

Both decode MP3, downsample, encode FLAC, find beats, and measure energy. A rate is the slope
between a small and a large catalogue, which excludes importing and compiling. Segue also lists,
claims, records, and isolates.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

from bench.catalogue import create_memory_folder
from bench.measure import measure_usage, report

SMALL, LARGE = 16, 96
ROUNDS = 2


def make_songs(folder: str) -> list[str]:
    """Write different songs of half a minute."""
    from segue.testing.music import music
    from segue.testing.sound import write

    return [
        write(music(seed, bpm=90 + 7 * seed, duration_s=30.0), f"{folder}/{seed}.mp3")
        for seed in range(4)
    ]


def fill_catalogue(songs: list[str], folder: str, count: int) -> None:
    """Fill a folder with copies of the songs."""
    os.makedirs(folder)
    for i in range(count):
        shutil.copy(songs[i % len(songs)], f"{folder}/{i:03}.mp3")


def compute(path: str) -> int:
    """Compute what the jobs compute from one file, and write the results."""
    from segue.codec import encode
    from segue.features.dynamics import energy
    from segue.features.resampling import downsample
    from segue.features.rhythm import beats
    from segue.media.decode import LocalMedia

    with tempfile.TemporaryDirectory() as folder:
        media = LocalMedia(uri=f"file://{path}", version="1", path=path, folder=folder)
        audio = encode("audio/flac", downsample(media))
        rhythm = encode("application/json", beats(audio.value))
        powers = encode("application/json", energy(audio.value, rhythm.value))
    for suffix, made in (("flac", audio), ("beats", rhythm), ("energy", powers)):
        with open(f"{path}.{suffix}", "wb") as file:
            file.write(made.data)
    return len(powers.data)


def use_own_cache(folder: str) -> None:
    """Use a separate numba cache in each process: concurrent compilation corrupts a shared one."""
    from segue.worker.numba_cache import use_private_cache

    use_private_cache(f"{folder}/numba-{os.getpid()}")


def run_case(kind: str, folder: str) -> None:
    """Run one case, in a separate process."""
    if kind == "segue":
        from bench.run import run_segue
        from segue.stack import SHIPPED_GRAPH

        totals = run_segue(SHIPPED_GRAPH, f"{folder}/catalogue", f"{folder}/work", ["energy"])
        assert totals.total("done") == 3 * totals.files, totals
        return
    import multiprocessing

    for name in ("OMP", "OPENBLAS", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = "1"
    paths = [f"{folder}/catalogue/{n}" for n in sorted(os.listdir(f"{folder}/catalogue"))]
    with multiprocessing.Pool(initializer=use_own_cache, initargs=(folder,)) as pool:
        for _ in pool.imap_unordered(compute, paths):
            pass


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["case"]:
        run_case(*sys.argv[2:4])
        return
    with tempfile.TemporaryDirectory() as folder:
        measure_rates(make_songs(folder))


def measure_rates(songs: list[str]) -> None:
    """Run all cases on the same songs."""
    wall: dict[tuple[str, int], float] = {}
    cpu: dict[tuple[str, int], float] = {}
    for _ in range(ROUNDS):
        # In turn, several times: other load on the machine then affects both alike.
        for count in (SMALL, LARGE):
            for kind in ("pool", "segue"):
                with create_memory_folder() as folder:
                    fill_catalogue(songs, f"{folder}/catalogue", count)
                    used = measure_usage(["-m", "bench.throughput", "case", kind, folder])
                key = (kind, count)
                wall[key] = min(used.wall_s, wall.get(key, used.wall_s))
                cpu[key] = min(used.cpu_s, cpu.get(key, used.cpu_s))
    files = LARGE - SMALL
    rate = {k: files / (wall[k, LARGE] - wall[k, SMALL]) for k in ("pool", "segue")}
    spent = {k: (cpu[k, LARGE] - cpu[k, SMALL]) / files for k in ("pool", "segue")}
    report(
        benchmark="throughput",
        cores=os.cpu_count(),
        pool_files_per_s=round(rate["pool"], 2),
        segue_files_per_s=round(rate["segue"], 2),
        ratio=round(rate["segue"] / rate["pool"], 3),
        cpu_ratio=round(spent["segue"] / spent["pool"], 3),
    )


if __name__ == "__main__":
    main()
