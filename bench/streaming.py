"""The streaming pipeline on the embedded stack, with jobs that do nothing: how soon, how many, at
what cost, and what a kill loses.

latency      100 files arrive together; from then to the last artifact of three hops, for each file
throughput   a full queue is worked off; CPU a file and job is the slope between a small and a large
             one, beside that of the backfill and of a bare loop that makes the same calls of queue
             and ledger, without pipeline, child processes or artifacts
kills        a worker is killed again and again in the middle of a bundle; what is lost then, and
             what was computed twice although no lease was lost
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

from bench.catalogue import empty_files, memory_folder, noop_graph, noted_graph
from bench.measure import report, usage_of

HOPS = 3
TOGETHER, ROUNDS = 100, 5
MEDIAN_S, PERCENTILE_95_S, JOBS_A_SECOND = 0.5, 1.5, 200.0  # what it must reach
SMALL, LARGE = 1_000, 6_000
KILLS, FILES_A_KILL = 10, 150


class Place:
    """A folder with a catalogue, a graph and an embedded stack."""

    def __init__(self, folder: str, graph: str) -> None:
        from segue.adapters.connect import connect_ledger, connect_queue
        from segue.model.graph import load

        self.folder = folder
        self.graph = load(graph)
        self.urls = {
            "graph": graph,
            "ledger": f"sqlite:///{folder}/ledger.db",
            "queue": f"sqlite:///{folder}/queue.db",
            "artifacts": f"{folder}/artifacts",
        }
        self.ledger = connect_ledger(self.urls["ledger"])
        self.queue = connect_queue(self.urls["queue"])

    def arrive(self, name: str, count: int) -> dict[str, float]:
        """Put files into the catalogue; returns when each was there, and its jobs told."""
        from segue.adapters.connect import connect_store
        from segue.ingest.arrivals import Arrivals
        from segue.model.media_file import MediaFile

        folder = f"{self.folder}/catalogue/{name}"
        began_s = time.monotonic()
        empty_files(folder, count)
        store = connect_store(folder)
        files = [
            MediaFile(uri=store.uri(o.name), generation=o.generation, size_bytes=o.size_bytes)
            for o in store.list()
        ]
        Arrivals(graph=self.graph, ledger=self.ledger, queue=self.queue).take(files)
        return {file.uri: began_s for file in files}

    def command(self, *more: str) -> list[str]:
        """The command line of a streaming pipeline."""
        options = [word for name, url in self.urls.items() for word in (f"--{name}", url)]
        return [f"{os.path.dirname(sys.executable)}/segue", "stream", "--all", *options, *more]

    @contextmanager
    def streaming(self, environ: dict[str, str] | None = None) -> Iterator[Follower]:
        """A pipeline that runs, and what it tells."""
        process = subprocess.Popen(
            [sys.executable, *self.command()],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environ or {})},
        )
        follower = Follower(process)
        try:
            follower.started.wait()
            yield follower
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait()
            follower.join()


class Follower(threading.Thread):
    """Reads what a pipeline logs, and when."""

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
            told = json.loads(line)
            if told["action"] == "started":
                self.started.set()
            elif told["action"] == "done":
                self.done[told["job"], told["file"]] = now_s
        self.started.set()

    def wait_for(self, job: str, files: Iterable[str]) -> None:
        """Wait until a job is done on all of some files."""
        for file in files:
            while (job, file) not in self.done:
                assert self.process.poll() is None, "the pipeline has ended"
                time.sleep(0.002)


def latency() -> None:
    """From a file's arrival to its last artifact."""
    found: list[float] = []
    with memory_folder() as folder:
        place = Place(folder, noop_graph(folder, HOPS))
        with place.streaming() as follower:
            follower.wait_for(f"j{HOPS}", place.arrive("warm", 4))
            for turn in range(ROUNDS):
                arrived = place.arrive(f"round{turn}", TOGETHER)
                follower.wait_for(f"j{HOPS}", arrived)
                found += [follower.done[f"j{HOPS}", f] - at for f, at in arrived.items()]
            alone = place.arrive("alone", 1)
            follower.wait_for(f"j{HOPS}", alone)
            single = [follower.done[f"j{HOPS}", f] - at for f, at in alone.items()]
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


def throughput() -> None:
    """A full queue, worked off."""
    cpu: dict[str, dict[int, float]] = {"stream": {}, "backfill": {}, "bare": {}}
    wall: dict[int, float] = {}
    for files in (SMALL, LARGE):
        with memory_folder() as folder:
            place = Place(folder, noop_graph(folder, HOPS))
            place.arrive("full", files)
            used = usage_of(place.command("--until-idle", "0.5"))
            assert used.printed.count('"done"') == files * HOPS
            cpu["stream"][files], wall[files] = used.cpu_s, used.wall_s
        for kind in ("backfill", "bare"):
            with memory_folder() as folder:
                empty_files(f"{folder}/catalogue", files)
                graph = noop_graph(folder, HOPS)
                if kind == "backfill":
                    case = ["-m", "bench.overhead", "case", "segue", f"{folder}/catalogue", graph]
                    case += [str(HOPS), f"{folder}/work"]
                else:
                    case = ["-m", "bench.streaming", "bare", folder, graph, str(files)]
                cpu[kind][files] = usage_of(case).cpu_s
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


def bare(folder: str, graph: str, count: int) -> None:
    """Make the calls of queue and ledger that streaming cannot do without; nothing else."""
    from datetime import UTC, datetime

    from segue.model.ledger import Change, Result, claim, settle
    from segue.model.message import Message, decode
    from segue.model.queue import letter, topics_of
    from segue.model.record import State

    place = Place(folder, graph)
    place.arrive("full", count)
    topics, children = topics_of(place.graph), place.graph.children
    done = 0

    def claiming(m: Message):
        now = datetime.now(UTC)
        return lambda found: (
            claim(found, place.graph, [m.job], owner="me", now=now, lease_s=60),
            None,
        )

    def settling(m: Message):
        result = Result(job=m.job, state=State.DONE, artifact="file:///x", checksum="x")
        return lambda found: settle(found, generation=m.generation, owner="me", results=[result])

    while deliveries := place.queue.pull(topics, limit=256):
        messages = {m.uri: m for m in (decode(d.data) for d in deliveries)}.values()
        snapshots = place.ledger.read([m.uri for m in messages])
        claimed = place.ledger.change(
            [
                Change(uri=m.uri, known=s, transition=claiming(m))
                for m, s in zip(messages, snapshots, strict=True)
            ]
        )
        place.ledger.change(
            [
                Change(uri=m.uri, known=c.snapshot, transition=settling(m))
                for m, c in zip(messages, claimed, strict=True)
            ]
        )
        place.queue.publish(
            [
                letter(Message(uri=m.uri, generation=m.generation, job=child))
                for m in messages
                for child in children[m.job]
            ]
        )
        place.queue.acknowledge(deliveries)
        done += len(messages)
    assert done == count * len(place.graph.jobs), done


def kills() -> None:
    """Kill a worker in the middle of its bundles, and count."""
    from segue.model.ledger import Query
    from segue.model.queue import topics_of
    from segue.model.record import State

    rng = random.Random(5)
    with memory_folder() as folder:
        place = Place(folder, noted_graph(folder, HOPS))
        environ = {"BENCH_RUNS": f"{folder}/runs"}
        open(f"{folder}/runs", "w").close()
        killed = 0
        for turn in range(KILLS):
            with place.streaming(environ) as follower:
                seen = os.path.getsize(f"{folder}/runs")
                place.arrive(f"kill{turn}", FILES_A_KILL)
                while os.path.getsize(f"{folder}/runs") == seen:
                    time.sleep(0.002)
                time.sleep(rng.random() * 0.15)
                follower.process.send_signal(signal.SIGKILL)
                killed += follower.process.wait() == -signal.SIGKILL
        with place.streaming(environ):
            while sum((place.queue.depth(topics_of(place.graph)) or {}).values()):
                time.sleep(0.05)
        with open(f"{folder}/runs") as file:
            runs = Counter(file.read().splitlines())
        records = place.ledger.find(Query(), limit=1_000_000)
        entries = {f"{j} {r.uri}": e for r in records for j, e in r.jobs.items()}
        done = sum(e.state is State.DONE and not e.wanted for e in entries.values())
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
        bare(sys.argv[2], sys.argv[3], int(sys.argv[4]))
        return
    parts = {"latency": latency, "throughput": throughput, "kills": kills}
    for name in sys.argv[1:] or parts:
        parts[name]()


if __name__ == "__main__":
    main()
