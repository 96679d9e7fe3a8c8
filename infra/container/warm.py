"""Runs each job of the graph once on a synthetic song, while the image is built.

The code that numba compiles is kept in ``NUMBA_CACHE_DIR``, so a worker's first file takes no
longer than others. A job that fails on the song is reported, but does not fail the build.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segue.model.graph import Graph

SONG_S = 12.0


def warm(graph: Graph, song: str) -> list[str]:
    """Run all jobs of a graph in this process; return those that failed on the song."""
    from segue.execution.trial_run import subgraph_for, try_job
    from segue.ingest.catalogue import look_up
    from segue.model.record import State

    media = look_up(f"file://{song}").media
    assert media is not None
    failed: dict[str, None] = {}
    for job in graph.jobs:
        if graph.children[job]:
            continue  # it runs with its children
        trial = try_job(subgraph_for(graph, job, {}), job, media, isolated=False)
        failed |= {n: None for n, r in trial.results.items() if r.state is not State.DONE}
    return list(failed)


def main() -> None:
    """Synthesize the song, and run the graph of the environment."""
    from segue.model.settings import Settings
    from segue.stack import load_graph
    from segue.testing.music import music
    from segue.testing.sound import write

    with tempfile.TemporaryDirectory() as folder:
        song = write(music(duration_s=SONG_S), os.path.join(folder, "song.wav"))
        for job in warm(load_graph(Settings.load()), song):
            print(f"{job} failed on the song; it will compile on its first file", file=sys.stderr)


if __name__ == "__main__":
    main()
