"""Run each job of the graph once, on a made-up song, while the image is built.

What numba compiles on the way is kept in ``NUMBA_CACHE_DIR``: a worker's first file then takes as
long as any other. A job that can make nothing of the song is named, and is no reason to have no
image.
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
    """Run all jobs of a graph in this process; return those that made nothing of the song."""
    from segue.execution.trial_run import cut, rehearse
    from segue.ingest.media_stat import sight
    from segue.model.record import State

    media = sight(f"file://{song}").media
    assert media is not None
    failed: dict[str, None] = {}
    for job in graph.jobs:
        if graph.children[job]:
            continue  # it runs with those below it
        done = rehearse(cut(graph, job, {}), job, media, isolated=False)
        failed |= {n: None for n, r in done.results.items() if r.state is not State.DONE}
    return list(failed)


def main() -> None:
    """Make the song, and run the graph that the environment names."""
    from segue.model.settings import Settings
    from segue.stack import load_graph
    from segue.testing.music import music
    from segue.testing.sound import write

    with tempfile.TemporaryDirectory() as folder:
        song = write(music(duration_s=SONG_S), os.path.join(folder, "song.wav"))
        for job in warm(load_graph(Settings.of()), song):
            print(f"{job} made nothing of the song: it compiles on its first file", file=sys.stderr)


if __name__ == "__main__":
    main()
