"""Memory as the catalogue grows ten times: the private memory of all processes together, at its
peak.
"""

from __future__ import annotations

from bench.catalogue import empty_files, memory_folder, noop_graph
from bench.measure import report, usage_of

SMALL, LARGE = 5_000, 50_000


def main() -> None:
    """Measure and print."""
    peak: dict[int, float] = {}
    for files in (SMALL, LARGE):
        with memory_folder() as folder:
            empty_files(f"{folder}/catalogue", files)
            graph = noop_graph(folder, 1)
            arguments = ["-m", "bench.overhead", "case", "segue", f"{folder}/catalogue"]
            peak[files] = usage_of([*arguments, graph, "1", f"{folder}/work"]).peak_mib
    report(
        benchmark="memory",
        files=[SMALL, LARGE],
        peak_mib=[round(peak[SMALL]), round(peak[LARGE])],
        ratio=round(peak[LARGE] / peak[SMALL], 3),
    )


if __name__ == "__main__":
    main()
