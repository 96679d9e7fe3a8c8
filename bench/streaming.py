"""The streaming pipeline on the embedded stack, with jobs that do nothing: latency, throughput,
cost, and losses after a kill.

latency      100 files arrive together; the time to the last artifact of three hops, for each file
throughput   a full queue is processed; CPU per file and job is the slope between a small and large
             queue, compared with the backfill and with a bare loop that makes the same calls of
             queue and ledger, without pipeline, child processes or artifacts
kills        a worker is killed repeatedly in the middle of a bundle; how much is lost, and how much
             is computed twice although no lease was lost
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from bench.catalogue import (
    create_memory_folder,
    write_empty_files,
    write_noop_graph,
    write_recording_graph,
)
from bench.measure import ROOT, measure_usage, report

HOPS = 3
TOGETHER, ROUNDS = 100, 5
MEDIAN_S, PERCENTILE_95_S, JOBS_A_SECOND = 0.5, 1.5, 200.0  # targets
SMALL, LARGE = 1_000, 6_000
KILLS, FILES_A_KILL = 10, 150


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
        self.ledger = connect_ledger(self.urls["ledger"])
        self.queue = connect_queue(self.urls["queue"])

    def arrive(self, name: str, count: int) -> dict[str, float]:
        """Write files to the catalogue, notify their jobs, and return when each was written."""
        from segue.adapters.connect import connect_store
        from segue.ingest.arrivals import Arrivals

        folder = f"{self.folder}/catalogue/{name}"
        started_s = time.monotonic()
        write_empty_files(folder, count)
        store = connect_store(folder)
        files = [o.to_media_file(store.uri(o.name)) for o in store.list()]
        Arrivals(graph=self.graph, ledger=self.ledger, queue=self.queue).record(files)
        return {file.uri: started_s for file in files}

    def build_command(self, *more: str) -> list[str]:
        """Build the command line of a streaming pipeline."""
        options = [word for name, url in self.urls.items() for word in (f"--{name}", url)]
        return [f"{os.path.dirname(sys.executable)}/segue", "stream", "--all", *options, *more]

    @contextmanager
    def run_pipeline(self, environ: dict[str, str] | None = None) -> Iterator[LogReader]:
        """Run a pipeline, and yield a reader of its log."""
        process = subprocess.Popen(
            [sys.executable, *self.build_command()],
            stdout=subprocess.PIPE,
            text=True,
            # The graph's jobs are bench.jobs, and the repository is not on the path of a command.
            env={**os.environ, "PYTHONPATH": ROOT, **(environ or {})},
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
    cpu: dict[str, dict[int, float]] = {"stream": {}, "backfill": {}, "bare": {}}
    wall: dict[int, float] = {}
    for files in (SMALL, LARGE):
        with create_memory_folder() as folder:
            workspace = Workspace(folder, write_noop_graph(folder, HOPS))
            workspace.arrive("full", files)
            used = measure_usage(workspace.build_command("--until-idle", "0.5"))
            assert used.printed.count('"done"') == files * HOPS
            cpu["stream"][files], wall[files] = used.cpu_s, used.wall_s
        for kind in ("backfill", "bare"):
            with create_memory_folder() as folder:
                write_empty_files(f"{folder}/catalogue", files)
                graph = write_noop_graph(folder, HOPS)
                if kind == "backfill":
                    case = ["-m", "bench.overhead", "case", "segue", f"{folder}/catalogue", graph]
                    case += [str(HOPS), f"{folder}/work"]
                else:
                    case = ["-m", "bench.streaming", "bare", folder, graph, str(files)]
                cpu[kind][files] = measure_usage(case).cpu_s
    more = (LARGE - SMALL) * HOPS
    rate = more / (wall[LARGE] - wall[SMALL])
    cost = {kind: (c[LARGE] - c[SMALL]) / more * 1e6 for kind, c in cpu.items()}
    report(
        benchmark="streaming throughput",
        file_jobs_per_s=round(rate),
        rate_to_target=round(rate / JOBS_A_SECOND, 2),
        stream_us_per_file_and_job=round(cost["stream"], 1),
        backfill_us_per_file_and_job=round(cost["backfill"], 1),
        bare_us_per_file_and_job=round(cost["bare"], 1),
        ratio_to_backfill=round(cost["stream"] / cost["backfill"], 2),
        ratio_to_bare=round(cost["stream"] / cost["bare"], 2),
    )


def run_bare(folder: str, graph: str, count: int) -> None:
    """Make only the calls of queue and ledger that streaming needs."""
    from datetime import UTC, datetime

    from segue.model.ledger import Change
    from segue.model.message import Message, decode_message
    from segue.model.queue import list_topics, message_to_envelope
    from segue.model.record import State
    from segue.model.transitions import Result, claim, settle

    workspace = Workspace(folder, graph)
    workspace.arrive("full", count)
    topics, children = list_topics(workspace.graph), workspace.graph.children
    done = 0

    def build_claim(m: Message):
        now = datetime.now(UTC)
        return lambda found: (
            claim(found, workspace.graph, [m.job], owner="me", now=now, lease_s=60),
            None,
        )

    def build_settle(m: Message):
        result = Result(job=m.job, state=State.DONE, artifact="file:///x", checksum="x")
        return lambda found: settle(found, generation=m.generation, owner="me", results=[result])

    while envelopes := workspace.queue.pull(topics, limit=256):
        messages = {m.uri: m for m in (decode_message(d.data) for d in envelopes)}.values()
        snapshots = workspace.ledger.read([m.uri for m in messages])
        claimed = workspace.ledger.change(
            [
                Change(uri=m.uri, known=s, transition=build_claim(m))
                for m, s in zip(messages, snapshots, strict=True)
            ]
        )
        workspace.ledger.change(
            [
                Change(uri=m.uri, known=c.snapshot, transition=build_settle(m))
                for m, c in zip(messages, claimed, strict=True)
            ]
        )
        workspace.queue.publish(
            [
                message_to_envelope(Message(uri=m.uri, generation=m.generation, job=child))
                for m in messages
                for child in children[m.job]
            ]
        )
        workspace.queue.acknowledge(envelopes)
        done += len(messages)
    assert done == count * len(workspace.graph.jobs), done


def measure_kills() -> None:
    """Kill a worker in the middle of its bundles, and count the losses."""
    from segue.model.ledger import Query
    from segue.model.queue import list_topics
    from segue.model.record import State

    rng = random.Random(5)
    with create_memory_folder() as folder:
        workspace = Workspace(folder, write_recording_graph(folder, HOPS))
        environ = {"BENCH_RUNS": f"{folder}/runs"}
        open(f"{folder}/runs", "w").close()
        killed = 0
        for turn in range(KILLS):
            with workspace.run_pipeline(environ) as reader:
                size = os.path.getsize(f"{folder}/runs")
                workspace.arrive(f"kill{turn}", FILES_A_KILL)
                while os.path.getsize(f"{folder}/runs") == size:
                    time.sleep(0.002)
                time.sleep(rng.random() * 0.15)
                reader.process.send_signal(signal.SIGKILL)
                killed += reader.process.wait() == -signal.SIGKILL
        with workspace.run_pipeline(environ):
            while sum((workspace.queue.measure_depth(list_topics(workspace.graph)) or {}).values()):
                time.sleep(0.05)
        with open(f"{folder}/runs") as file:
            runs = Counter(file.read().splitlines())
        records = workspace.ledger.find(Query(), limit=1_000_000)
        entries = {f"{j} {r.uri}": e for r in records for j, e in r.jobs.items()}
        done = sum(e.state is State.DONE and not e.pending_targets for e in entries.values())
        report(
            benchmark="streaming kills",
            kills=killed,
            file_jobs=KILLS * FILES_A_KILL * HOPS,
            lost=KILLS * FILES_A_KILL * HOPS - done,
            computed_again_after_a_lost_lease=sum(runs.values()) - len(runs),
            computed_twice_without=sum(max(0, n - entries[k].attempts) for k, n in runs.items()),
        )


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["bare"]:
        run_bare(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    parts = {"latency": measure_latency, "throughput": measure_throughput, "kills": measure_kills}
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
