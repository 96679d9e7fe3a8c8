"""Peak private memory of all processes together, as the catalogue grows tenfold."""

from __future__ import annotations

from bench.catalogue import create_memory_folder, write_empty_files, write_noop_graph
from bench.measure import measure_usage, report

SMALL, LARGE = 5_000, 50_000


def main() -> None:
    """Measure and print."""
    peak: dict[int, float] = {}
    for files in (SMALL, LARGE):
        with create_memory_folder() as folder:
            write_empty_files(f"{folder}/catalogue", files)
            graph = write_noop_graph(folder, 1)
            arguments = ["-m", "bench.overhead", "case", "segue", f"{folder}/catalogue"]
            peak[files] = measure_usage([*arguments, graph, "1", f"{folder}/work"]).peak_mib
    report(
        benchmark="memory",
        files=[SMALL, LARGE],
        peak_mib=[round(peak[SMALL]), round(peak[LARGE])],
        ratio=round(peak[LARGE] / peak[SMALL], 3),
    )


if __name__ == "__main__":
    main()
