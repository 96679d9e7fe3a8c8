"""What many namespaces below one parent cost, and how long they wait for it, on the emulators of
Firestore and Pub/Sub.

Each namespace has its own database, topics and worker. As in ``bench.counts``, a proxy before each
emulator records the requests, and the jobs do nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.counts import Counts, count_requests, run_emulators, run_proxies
from bench.measure import report
from segue.adapters.connect import connect_ledger, connect_queue
from segue.execution.engine import Engine
from segue.execution.foreign import ForeignLedgers
from segue.execution.stream_worker import StreamWorker
from segue.ingest.catalogue import build_media_filter
from segue.ingest.events import Arrivals
from segue.ingest.requests import Request, Requests
from segue.model.graph import Graph, parse_graph
from segue.model.ledger import Ledger
from segue.model.manifest import Manifest
from segue.model.media_file import MediaFile
from segue.model.queue import Queue, list_subscriptions, list_topics
from segue.model.settings import Settings
from segue.model.transitions import is_current
from segue.registry.locking import build_lock
from segue.registry.publication import build_manifest
from segue.worker.protocol import Report
from segue_cli.cost import INPUTS
from segue_support.grpc_proxy import GrpcProxy
from segue_support.pubsub_topics import make_topics
from segue_support.recording_pool import RecordingPool
from segue_support.simulator.store import MemoryStore

TEAMS = 100
FILES = 4
ROUNDS = 3
WORKERS = (1, 4, 16)  # of the parent
TURN_S = 0.05  # of waiting for messages
IDLE_TURNS = 3
WORK_S = 0.5  # between two looks at whether it is over
ANSWER_S = 60.0
JOB_S = 0.5  # of the parent's job, while which the other requests come
CATALOGUE = "gs://catalogue"


def format_jobs(line: Mapping[str, str], published: str | None = None) -> str:
    """Return the jobs of a graph in one pipeline, each with what it needs."""
    jobs = "\n".join(
        f"  {job}: {{run: 'm:f', needs: {{x: {needs}}}, writes: application/json, "
        f"publish: {str(job == published).lower()}}}"
        for job, needs in line.items()
    )
    return f"pipelines: {{main: [{', '.join(line)}]}}\njobs:\n{jobs}\n"


PARENT = format_jobs({"a": "source"}, published="a")
CHILD = format_jobs({"b": "parent/a", "c": "b", "d": "c"})


class JobPool(RecordingPool):
    """A pool whose jobs take some time, and do nothing."""

    def __init__(self, job_s: float) -> None:
        super().__init__()
        self._job_s = job_s

    def collect(self, timeout_s: float) -> list[Report]:
        """Wait for the tasks, and report them."""
        time.sleep(self._job_s)
        return super().collect(timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """One namespace, and its connections."""

    graph: Graph
    settings: Settings
    ledger: Ledger
    queue: Queue
    foreign: ForeignLedgers
    pools: list[JobPool] = field(default_factory=list)

    def build_worker(self, opened: contextlib.ExitStack, job_s: float = 0.0) -> StreamWorker:
        """Build a worker with connections of its own, which are open already."""
        self.pools.append(JobPool(job_s))
        ledger = connect_ledger(self.settings.ledger, self.graph.namespace)
        opened.callback(ledger.close)
        ledger.read([f"{CATALOGUE}/none.wav"])
        queue = connect_queue(self.settings.queue, self.graph)
        opened.callback(queue.close)
        subscriptions = [s.name for s in list_subscriptions(self.graph, self.graph.pipelines)]
        queue.pull(subscriptions, limit=1)
        engine = Engine(
            graph=self.graph,
            ledger=ledger,
            pool=self.pools[-1],
            artifacts=MemoryStore("gs://features"),
            foreign=self.foreign,
            queue=self.settings.queue,
        )
        worker = StreamWorker(
            queue=queue, ledger=ledger, engine=engine, subscriptions=subscriptions
        )
        opened.callback(worker.close)
        return worker

    def count_tasks(self) -> int:
        """Return how often something was computed for a file."""
        return sum(len(pool.tasks) for pool in self.pools)

    def has_finished(self, files: Sequence[MediaFile]) -> bool:
        """Return whether all jobs are current for some files."""
        records = [snapshot.record for snapshot in self.ledger.read([f.uri for f in files])]
        return all(
            record is not None and is_current(self.graph, record, job)
            for record in records
            for job in self.graph.jobs
        )


class Teams:
    """Namespaces by name, each locked to those that were added before."""

    def __init__(self, proxies: Sequence[GrpcProxy], opened: contextlib.ExitStack) -> None:
        self.project = f"bench-{uuid.uuid4().hex[:16]}"
        self.teams: dict[str, Team] = {}
        self.catalogue = MemoryStore(CATALOGUE)
        self._proxies = proxies
        self._opened = opened
        self._manifests: dict[str, Manifest] = {}

    def add(self, name: str, jobs: str) -> Team:
        """Add a namespace and its topics; what that costs is not counted."""
        references = [
            word for word in jobs.replace("}", " ").replace(",", " ").split() if "/" in word
        ]
        published = [r for r in references if r.partition("/")[0] in self._manifests]
        graph = parse_graph(
            f"namespace: {name}\ncatalogue: {CATALOGUE}\nartifacts: gs://features/{name}\n{jobs}",
            lock=build_lock(published, self._manifests),
        )
        settings = Settings(
            ledger=f"firestore://{self.project}/{name}", queue=f"pubsub://{self.project}/{name}"
        )
        ledger = connect_ledger(settings.ledger, name)
        self._opened.callback(ledger.close)
        ledger.read([f"{CATALOGUE}/none.wav"])
        queue = connect_queue(settings.queue, graph)
        self._opened.callback(queue.close)
        make_topics(queue, list_topics(graph), list_subscriptions(graph))
        self._manifests[name] = build_manifest(graph, settings)
        self.teams[name] = Team(
            graph=graph,
            settings=settings,
            ledger=ledger,
            queue=queue,
            foreign=ForeignLedgers(graph, lambda _url, above: self.teams[above].ledger),
        )
        return self.teams[name]

    def add_files(self, count: int) -> list[MediaFile]:
        """Put files into the catalogue."""
        files = []
        for _ in range(count):
            name = f"{uuid.uuid4().hex}.wav"
            self.catalogue.create(name, b"", content_type="audio/wav", metadata={})
            found = self.catalogue.stat(name)
            files.append(found.to_media_file(self.catalogue.uri(name)))
        return files

    def arrive(self, name: str, files: Sequence[MediaFile]) -> None:
        """Let files arrive in a namespace."""
        team = self.teams[name]
        Arrivals(graph=team.graph, ledger=team.ledger, queue=team.queue).record(files)

    def request(self, name: str, files: Sequence[MediaFile]) -> None:
        """Request all jobs of a namespace for some files."""
        team = self.teams[name]
        Requests(
            graph=team.graph,
            ledger=team.ledger,
            queue=team.queue,
            media_filter=build_media_filter(team.graph, team.settings),
            open_store=lambda _location: self.catalogue,
            artifacts=MemoryStore("gs://features"),
        ).accept(Request(files=tuple(media.uri for media in files)))

    def reset(self) -> None:
        """Begin to count."""
        for proxy in self._proxies:
            proxy.reset()

    def count(self) -> Counts:
        """Return what was asked since then."""
        return count_requests(self._proxies)

    def check(self, files: Sequence[MediaFile], *names: str) -> None:
        """Check that namespaces have all results of some files."""
        unfinished = [name for name in names if not self.teams[name].has_finished(files)]
        assert not unfinished, f"{unfinished} have not finished"


def run_until_idle(workers: Sequence[StreamWorker]) -> None:
    """Let workers take turns until none has had a message for some turns."""
    idle = 0
    while idle < IDLE_TURNS:
        replies = sum(1 for worker in workers for _ in worker.work(TURN_S))
        idle = 0 if replies else idle + 1


def reply_once(worker: StreamWorker, media: MediaFile) -> None:
    """Let a worker work until it has replied to a message about a file."""
    while media.uri not in [r.message.uri for r in worker.work(TURN_S) if r.message is not None]:
        pass


@contextlib.contextmanager
def open_teams(proxies: Sequence[GrpcProxy] = ()) -> Iterator[Teams]:
    """Connect to a project of its own."""
    with contextlib.ExitStack() as opened:
        yield Teams(proxies, opened)


def report_counts(case: str, counted: Counts, files: int, jobs: int) -> None:
    """Print the counts for each file, and what the ledger costs for each million file-jobs."""
    dollars = counted.reads * INPUTS["$read"].value + counted.writes * INPUTS["$write"].value
    report(
        benchmark="teams",
        case=case,
        reads=round(counted.reads / files, 2),
        writes=round(counted.writes / files, 2),
        published=round(counted.published / files, 2),
        delivered=round(counted.delivered / files, 2),
        ledger_dollars_per_million_jobs=round(1e6 * dollars / (files * jobs), 3),
    )


def add_family(teams: Teams, names: Sequence[str]) -> None:
    """Add a parent, and children below it."""
    teams.add("parent", PARENT)
    for name in names:
        teams.add(name, CHILD)


def measure_arrivals(teams: Teams, names: Sequence[str]) -> None:
    """Count what an arrival costs that goes down to all children."""
    files = teams.add_files(FILES)
    with contextlib.ExitStack() as opened:
        workers = [teams.teams[name].build_worker(opened) for name in ("parent", *names)]
        teams.reset()
        teams.arrive("parent", files)
        run_until_idle(workers)
    counted = teams.count()
    teams.check(files, "parent", *names)
    jobs = sum(len(teams.teams[name].graph.jobs) for name in ("parent", *names))
    report_counts(f"arrival, {len(names)} teams x 3 jobs below one", counted, FILES, jobs)


def measure_requests(teams: Teams, names: Sequence[str], count: int) -> None:
    """Measure how long children wait that request the same missing result at once.

    The requests wait in the queue when the workers begin.
    """
    waits: list[float] = []
    before = teams.teams["parent"].count_tasks()
    with contextlib.ExitStack() as opened:
        children = [teams.teams[name].build_worker(opened) for name in names]
        parents = [teams.teams["parent"].build_worker(opened, JOB_S) for _ in range(count)]
        for _ in range(ROUNDS):
            [media] = teams.add_files(1)
            for name in names:
                teams.request(name, [media])
            for child in children:
                reply_once(child, media)
            waits += answer(parents, len(names))
            for child in children:
                reply_once(child, media)
            teams.check([media], "parent", *names)
    quantiles = statistics.quantiles(waits, n=100, method="inclusive")
    report(
        benchmark="teams",
        case=f"{len(names)} teams request one missing result at once, {count} workers",
        computed=(teams.teams["parent"].count_tasks() - before) / ROUNDS,
        answered=len(waits) / ROUNDS,
        p50_s=round(quantiles[49], 3),
        p99_s=round(quantiles[98], 3),
    )


def answer(workers: Sequence[StreamWorker], requests: int) -> list[float]:
    """Let workers answer what waits for them; returns after how long each child had its response.

    The responses are published then.
    """
    waits: dict[str, float] = {}  # by queue of the child
    lock, is_over = threading.Lock(), threading.Event()
    started_s = time.monotonic()

    def work(worker: StreamWorker) -> None:
        while not is_over.is_set():
            for reply in worker.work(WORK_S):
                now_s = time.monotonic() - started_s
                with lock:
                    for envelope in reply.envelopes:
                        if envelope.queue is not None:
                            waits.setdefault(envelope.queue, now_s)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    while len(waits) < requests and time.monotonic() - started_s < ANSWER_S:
        time.sleep(TURN_S)
    is_over.set()
    for thread in threads:
        thread.join()
    return list(waits.values())


def measure_line() -> None:
    """Count what a request costs that goes up to another namespace, of a file that nobody knows."""
    with run_proxies() as proxies, open_teams(proxies) as teams, contextlib.ExitStack() as opened:
        teams.add("parent", format_jobs({"a": "source", "b": "a"}, published="b"))
        teams.add("child", format_jobs({"c": "parent/b", "d": "c"}))
        workers = [team.build_worker(opened) for team in teams.teams.values()]
        files = teams.add_files(FILES)
        teams.reset()
        for media in files:
            teams.request("child", [media])
        run_until_idle(workers)
        opened.close()
        counted = teams.count()
        teams.check(files, "parent", "child")
        report_counts("request through two teams of 2 jobs each", counted, FILES, 4)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.teams", description=__doc__)
    parser.add_argument("--teams", type=int, default=TEAMS, help="below the parent")
    parser.add_argument("--counts", action="store_true", help="count only, and measure no time")
    given = parser.parse_args(arguments)
    names = [f"team-{number}" for number in range(given.teams)]
    with run_emulators("teams") as are_running:
        if not are_running:
            return
        measure_line()
        with run_proxies() as proxies, open_teams(proxies) as teams:
            add_family(teams, names)
            measure_arrivals(teams, names)
        if given.counts:
            return
        with open_teams() as teams:
            add_family(teams, names)
            for count in WORKERS:
                measure_requests(teams, names, count)


if __name__ == "__main__":
    main()
