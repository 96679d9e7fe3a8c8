"""What the framework costs: CPU a file and job, with jobs that do nothing, against a bare Beam
pipeline.

Each case is a process of its own, measured with all its children; the cost of a file is the slope
between a small and a large catalogue, so that starting up does not count. Segue lists, reads the
ledger, claims, runs in a child process, writes an artifact with its lineage (to memory: a disk's
own cost is no framework's), and settles. The bare pipeline lists, and maps once a job.
"""

from __future__ import annotations

import sys

from bench.catalogue import empty_files, memory_folder, noop_graph
from bench.measure import report, usage_of

SMALL, LARGE = 2_000, 20_000


def case(kind: str, catalogue: str, graph: str, jobs: int, work: str) -> None:
    """Run one case; called in a process of its own."""
    from bench.run import bare, segue

    if kind == "segue":
        tally = segue(graph, catalogue, work, [f"j{jobs}"])
        assert tally.total("done") == tally.files * jobs, tally
    else:
        bare(catalogue, jobs)


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["case"]:
        _, _, kind, catalogue, graph, jobs, work = sys.argv
        case(kind, catalogue, graph, int(jobs), work)
        return
    for jobs in (1, 3):
        cost: dict[str, float] = {}
        for kind in ("segue", "beam"):
            cpu: dict[int, float] = {}
            for files in (SMALL, LARGE):
                with memory_folder() as folder:
                    empty_files(f"{folder}/catalogue", files)
                    graph = noop_graph(folder, jobs)
                    arguments = ["-m", "bench.overhead", "case", kind, f"{folder}/catalogue"]
                    used = usage_of([*arguments, graph, str(jobs), f"{folder}/work"])
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
