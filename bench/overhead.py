"""The framework's cost: CPU per file and job, with jobs that do nothing, against a bare Beam
pipeline.

Each case is a separate process, measured with all its children; the cost of a file is the slope
between a small and a large catalogue, which excludes the start-up. Segue lists, reads the ledger,
claims, runs in a child process, writes an artifact with its lineage (to memory, to exclude the
disk), and settles. The bare pipeline lists, and maps once per job.
"""

from __future__ import annotations

import sys

from bench.catalogue import create_memory_folder, write_empty_files, write_noop_graph
from bench.measure import measure_usage, report

SMALL, LARGE = 2_000, 20_000


def run_case(kind: str, catalogue: str, graph: str, jobs: int, work: str) -> None:
    """Run one case, in a separate process."""
    from bench.run import run_bare, run_segue

    if kind == "segue":
        totals = run_segue(graph, catalogue, work, [f"j{jobs}"])
        assert totals.total("done") == totals.files * jobs, totals
    else:
        run_bare(catalogue, jobs)


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["case"]:
        _, _, kind, catalogue, graph, jobs, work = sys.argv
        run_case(kind, catalogue, graph, int(jobs), work)
        return
    for jobs in (1, 3):
        cost: dict[str, float] = {}
        for kind in ("segue", "beam"):
            cpu: dict[int, float] = {}
            for files in (SMALL, LARGE):
                with create_memory_folder() as folder:
                    write_empty_files(f"{folder}/catalogue", files)
                    graph = write_noop_graph(folder, jobs)
                    arguments = ["-m", "bench.overhead", "case", kind, f"{folder}/catalogue"]
                    used = measure_usage([*arguments, graph, str(jobs), f"{folder}/work"])
                    cpu[files] = used.cpu_s
            cost[kind] = (cpu[LARGE] - cpu[SMALL]) / (LARGE - SMALL) / jobs * 1e6
        report(
            benchmark="overhead",
            jobs=jobs,
            segue_us_per_file_and_job=round(cost["segue"], 1),
            beam_us_per_file_and_job=round(cost["beam"], 1),
            ratio=round(cost["segue"] / cost["beam"], 2),
        )


if __name__ == "__main__":
    main()
