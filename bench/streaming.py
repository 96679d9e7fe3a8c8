"""The streaming pipeline on the embedded stack, with jobs that do nothing: latency, throughput and
cost.

latency      100 files arrive together; the time to the last artifact of three hops, for each file
throughput   a full queue is processed; CPU per file and job is the slope between a small and large
             queue, compared with the backfill
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO

from bench.catalogue import create_memory_folder, write_empty_files, write_noop_graph
from bench.measure import ROOT, Usage, measure_usage, report
from bench.overhead import measure_case

HOPS = 3
TOGETHER, ROUNDS = 100, 5
MEDIAN_S, PERCENTILE_95_S, JOBS_A_SECOND = 0.5, 1.5, 200.0  # targets
SMALL, LARGE = 1_000, 6_000


class Workspace:
    """A folder with a catalogue, a graph and an embedded stack."""

    def __init__(self, folder: str, graph: str) -> None:
        from segue.adapters.connect import connect_ledger, connect_queue
        from segue.model.graph import read_graph

        self.folder = folder
        self.graph = read_graph(graph)
        self.urls = {
            "graph": graph,
            "ledger": f"sqlite:///{folder}/ledger.db",
            "queue": f"sqlite:///{folder}/queue.db",
            "artifacts": f"{folder}/artifacts",
        }
        self.ledger = connect_ledger(self.urls["ledger"], self.graph.namespace)
        self.queue = connect_queue(self.urls["queue"], self.graph)

    def arrive(self, name: str, count: int) -> dict[str, float]:
        """Write files to the catalogue, notify their jobs, and return when each was written."""
        from segue.adapters.connect import connect_store
        from segue.ingest.events import Arrivals

        folder = f"{self.folder}/catalogue/{name}"
        started_s = time.monotonic()
        write_empty_files(folder, count)
        store = connect_store(folder)
        found = [store.identify(o.name) for o in store.list()]
        files = [o.to_media_file(store.uri(o.name)) for o in found]
        Arrivals(graph=self.graph, ledger=self.ledger, queue=self.queue).record(files)
        return {file.uri: started_s for file in files}

    def build_command(self, *more: str) -> list[str]:
        """Build the command line of a streaming pipeline."""
        options = [word for name, url in self.urls.items() for word in (f"--{name}", url)]
        return [f"{os.path.dirname(sys.executable)}/segue", "stream", *options, *more]

    @contextmanager
    def run_pipeline(self) -> Iterator[LogReader]:
        """Run a pipeline, and yield a reader of its log."""
        process = subprocess.Popen(
            [sys.executable, *self.build_command("--all")],
            stdout=subprocess.PIPE,
            text=True,
            # The graph's jobs are in bench, and the repository is not on the path of a command.
            env={**os.environ, "PYTHONPATH": ROOT},
        )
        reader = LogReader(process)
        try:
            reader.started.wait()
            yield reader
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait()
            reader.join()


class LogReader(threading.Thread):
    """Reads a pipeline's log, and records when each line came."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__(daemon=True)
        self.process = process
        self.started = threading.Event()
        self.done: dict[tuple[str, str], float] = {}  # job and file → when
        self.start()

    def run(self) -> None:
        out: IO[str] | None = self.process.stdout
        assert out is not None
        for line in out:
            now_s = time.monotonic()
            event = json.loads(line)
            if event["action"] == "started":
                self.started.set()
            elif event["action"] == "done":
                self.done[event["job"], event["file"]] = now_s
        self.started.set()

    def wait_for(self, job: str, files: Iterable[str]) -> None:
        """Wait until a job is done on all given files."""
        for file in files:
            while (job, file) not in self.done:
                assert self.process.poll() is None, "the pipeline has exited"
                time.sleep(0.002)


def measure_latency() -> None:
    """Measure the time from a file's arrival to its last artifact."""
    found: list[float] = []
    with create_memory_folder() as folder:
        workspace = Workspace(folder, write_noop_graph(folder, HOPS))
        with workspace.run_pipeline() as reader:
            reader.wait_for(f"j{HOPS}", workspace.arrive("warm", 4))
            for turn in range(ROUNDS):
                arrived = workspace.arrive(f"round{turn}", TOGETHER)
                reader.wait_for(f"j{HOPS}", arrived)
                found += [reader.done[f"j{HOPS}", f] - at for f, at in arrived.items()]
            alone = workspace.arrive("alone", 1)
            reader.wait_for(f"j{HOPS}", alone)
            single = [reader.done[f"j{HOPS}", f] - at for f, at in alone.items()]
    median, late = statistics.median(found), statistics.quantiles(found, n=20)[-1]
    report(
        benchmark="streaming latency",
        files_together=TOGETHER,
        median_s=round(median, 3),
        percentile_95_s=round(late, 3),
        one_file_alone_s=round(single[0], 3),
        median_to_target=round(median / MEDIAN_S, 3),
        percentile_95_to_target=round(late / PERCENTILE_95_S, 3),
    )


def measure_throughput() -> None:
    """Measure the rate and the cost of processing a full queue."""
    backfill = {n: measure_case("segue", n, HOPS) for n in (SMALL, LARGE)}
    _, backfill_us = _compute_slope(backfill)
    cases = {
        "one process": ["--all"],
        "a process for each pipeline": [f"--job=j{hop}" for hop in range(1, HOPS + 1)],
    }
    for case, processes in cases.items():
        rate, stream_us = _compute_slope(
            {n: _measure_streams(n, processes) for n in (SMALL, LARGE)}
        )
        report(
            benchmark="streaming throughput",
            case=case,
            file_jobs_per_s=round(rate),
            rate_to_target=round(rate / JOBS_A_SECOND, 2),
            stream_us_per_file_and_job=round(stream_us, 1),
            backfill_us_per_file_and_job=round(backfill_us, 1),
            ratio_to_backfill=round(stream_us / backfill_us, 2),
        )


def _measure_streams(files: int, processes: Iterable[str]) -> Usage:
    """Process a full queue with one process after another, and return the sum of their usage."""
    with create_memory_folder() as folder:
        workspace = Workspace(folder, write_noop_graph(folder, HOPS))
        workspace.arrive("full", files)
        used = [
            measure_usage(workspace.build_command(process, "--until-idle=0.5"))
            for process in processes
        ]
    assert sum(u.printed.count('"done"') for u in used) == files * HOPS
    return Usage(
        cpu_s=sum(u.cpu_s for u in used),
        wall_s=sum(u.wall_s for u in used),
        peak_mib=max(u.peak_mib for u in used),
        printed="",
    )


def _compute_slope(used: Mapping[int, Usage]) -> tuple[float, float]:
    """Return file-jobs per second, and CPU in microseconds for each, without the start-up."""
    more = (LARGE - SMALL) * HOPS
    rate = more / (used[LARGE].wall_s - used[SMALL].wall_s)
    return rate, (used[LARGE].cpu_s - used[SMALL].cpu_s) / more * 1e6


def main() -> None:
    """Measure and print."""
    parts = {"latency": measure_latency, "throughput": measure_throughput}
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
