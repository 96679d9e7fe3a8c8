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
from bench.measure import Usage, measure_usage, report

SMALL, LARGE = 2_000, 20_000


def run_case(kind: str, catalogue: str, graph: str, jobs: int, work: str) -> None:
    """Run one case, in a separate process."""
    from bench.run import run_segue

    if kind == "segue":
        totals = run_segue(graph, catalogue, work, [f"j{jobs}"])
        assert totals.total("done") == totals.files * jobs, totals
    else:
        run_bare(catalogue, jobs)


def run_bare(catalogue: str, jobs: int) -> None:
    """List the same files, and map each through functions that do nothing, one per job."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    from segue.model.media_file import parse_prefix
    from segue_pipelines.sources import Selection, list_files

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        step = (
            pipeline
            | beam.Create([parse_prefix(catalogue + "/")], reshuffle=False)
            | "List" >> beam.FlatMap(lambda prefix: list_files(Selection(prefix=prefix)))
        )
        for i in range(jobs):
            step = step | f"Job {i}" >> beam.Map(lambda media: media)


def measure_case(kind: str, files: int, jobs: int) -> Usage:
    """Measure one case over empty files."""
    with create_memory_folder() as folder:
        write_empty_files(f"{folder}/catalogue", files)
        arguments = ["-m", "bench.overhead", "case", kind, f"{folder}/catalogue"]
        graph = write_noop_graph(folder, jobs)
        return measure_usage([*arguments, graph, str(jobs), f"{folder}/work"])


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["case"]:
        _, _, kind, catalogue, graph, jobs, work = sys.argv
        run_case(kind, catalogue, graph, int(jobs), work)
        return
    for count in (1, 3):
        cost = {}
        for kind in ("segue", "beam"):
            small, large = (measure_case(kind, files, count).cpu_s for files in (SMALL, LARGE))
            cost[kind] = (large - small) / (LARGE - SMALL) / count * 1e6
        report(
            benchmark="overhead",
            jobs=count,
            segue_us_per_file_and_job=round(cost["segue"], 1),
            beam_us_per_file_and_job=round(cost["beam"], 1),
            ratio=round(cost["segue"] / cost["beam"], 2),
        )


if __name__ == "__main__":
    main()
