"""CPU of downsampling a stereo MP3 of three and a half minutes: fetch, decode, resample, encode,
and write.
"""

from __future__ import annotations

import os
import tempfile

from bench.measure import report

SONG_S = 210.0
COPIES = 6


def main() -> None:
    """Measure and print."""
    from bench.run import run_segue
    from segue.stack import SHIPPED_GRAPH
    from segue.testing.music import music
    from segue.testing.sound import write

    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(f"{folder}/catalogue")
        song = music(1, bpm=120, duration_s=SONG_S, sr=44100, channels=2)
        for i in range(COPIES):
            write(song, f"{folder}/catalogue/{i}.mp3")
        totals = run_segue(SHIPPED_GRAPH, f"{folder}/catalogue", f"{folder}/work", ["downsample"])
    assert totals.total("done") == COPIES, totals
    cpu_s = totals.cpu_seconds["downsample"] / COPIES
    report(
        benchmark="downsample",
        song_s=SONG_S,
        cpu_s=round(cpu_s, 3),
        ratio_to_duration=round(cpu_s / SONG_S, 5),
    )


if __name__ == "__main__":
    main()
