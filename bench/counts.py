"""Documents and messages per file, counted in the requests to the emulators of Firestore and
Pub/Sub.

A proxy before each emulator records the requests. The jobs do nothing: their results are made up
in this process, by an engine for each pipeline.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.measure import report
from segue.adapters.connect import connect_ledger, connect_queue
from segue.adapters.firestore import CONTROLS
from segue.execution.engine import Engine
from segue.execution.stream_worker import StreamWorker
from segue.execution.work import Run
from segue.ingest.events import Arrivals
from segue.model.graph import Graph
from segue.model.ledger import Ledger
from segue.model.media_file import MediaFile
from segue.model.queue import Queue, list_subscriptions, list_topics
from segue_support import emulators
from segue_support.grpc_proxy import GrpcProxy
from segue_support.pubsub_topics import make_topics
from segue_support.recording_pool import RecordingPool
from segue_support.simulator.store import MemoryStore
from segue_support.stream import build_graph

FILES = 8
TURN_S = 0.3  # of waiting for messages
LINE = ("j1", "j2", "j3", "j4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was asked of the services."""

    reads: int  # documents, without the controls, which a process reads every few seconds
    writes: int
    published: int  # messages
    delivered: int


class Services:
    """A ledger and a queue in the emulators, for one graph, and what they are asked."""

    def __init__(self, graph: Graph, ledger: Ledger, queue: Queue, *proxies: GrpcProxy) -> None:
        self.graph = graph
        self.ledger = ledger
        self.queue = queue
        self.store = MemoryStore("gs://features")
        self.files = [
            MediaFile(uri=f"gs://catalogue/{i}.wav", version=str(i), order=i, size_bytes=1)
            for i in range(1, FILES + 1)
        ]
        self._proxies = proxies

    def build_engine(self, jobs: Sequence[str] | None = None) -> Engine:
        """Build an engine that runs some jobs; None: all."""
        return Engine(
            graph=self.graph,
            ledger=self.ledger,
            pool=RecordingPool(),
            artifacts=self.store,
            served=None if jobs is None else frozenset(jobs),
        )

    def run_backfill(self) -> None:
        """Compute what the files lack."""
        engine = self.build_engine()
        engine.add_files(self.files, Run(id=uuid.uuid4().hex, targets=tuple(self.graph.jobs)))
        assert len(list(engine.drain())) == FILES

    def run_streams(self) -> None:
        """Record that the files arrive, and run all pipelines until no message is left."""
        workers = [
            StreamWorker(
                queue=self.queue,
                ledger=self.ledger,
                engine=self.build_engine(jobs),
                subscriptions=[s.name for s in list_subscriptions(self.graph, (pipeline,))],
            )
            for pipeline, jobs in self.graph.pipelines.items()
        ]
        Arrivals(graph=self.graph, ledger=self.ledger, queue=self.queue).record(self.files)
        while sum(1 for worker in workers for _ in worker.work(TURN_S)):
            pass
        for worker in workers:
            worker.close()

    def reset(self) -> None:
        """Begin to count."""
        for proxy in self._proxies:
            proxy.reset()

    def count(self) -> Counts:
        """Return what was asked since then."""
        return count_requests(self._proxies)


def count_requests(proxies: Iterable[GrpcProxy]) -> Counts:
    """Return what was asked of the services since their proxies were reset."""
    from google.cloud.firestore_v1 import types
    from google.pubsub_v1 import AcknowledgeRequest, PublishRequest

    def find(method: str) -> Iterator[bytes]:
        return itertools.chain.from_iterable(p.requests.get(method, ()) for p in proxies)

    read, write = types.BatchGetDocumentsRequest, types.BatchWriteRequest
    return Counts(
        reads=sum(
            not name.endswith("/".join(CONTROLS))
            for request in find("BatchGetDocuments")
            for name in read.deserialize(request).documents
        ),
        writes=sum(len(write.deserialize(r).writes) for r in find("BatchWrite")),
        published=sum(len(PublishRequest.deserialize(r).messages) for r in find("Publish")),
        delivered=sum(len(AcknowledgeRequest.deserialize(r).ack_ids) for r in find("Acknowledge")),
    )


@contextlib.contextmanager
def connect(graph: Graph, firestore: GrpcProxy, pubsub: GrpcProxy) -> Iterator[Services]:
    """Connect to a project of its own; what that costs is not counted."""
    project = f"bench-{uuid.uuid4().hex[:16]}"
    with contextlib.ExitStack() as entered:
        ledger = connect_ledger(f"firestore://{project}", graph.namespace)
        entered.callback(ledger.close)
        queue = connect_queue(f"pubsub://{project}")
        entered.callback(queue.close)
        make_topics(queue, list_topics(graph), list_subscriptions(graph))  # type: ignore[arg-type]
        ledger.read(["gs://catalogue/none.wav"])
        services = Services(graph, ledger, queue, firestore, pubsub)
        services.reset()
        yield services


def build_lattice(layers: int) -> Mapping[str, Sequence[str]]:
    """Return a first job, and layers of three jobs that each need the whole layer above."""
    parents: dict[str, Sequence[str]] = {"first": ()}
    above: Sequence[str] = ("first",)
    for layer in range(1, layers + 1):
        names = [f"job{layer}{letter}" for letter in "abc"]
        parents |= dict.fromkeys(names, above)
        above = names
    return parents


def report_counts(case: str, counted: Counts) -> None:
    """Print the counts for each file."""
    report(
        benchmark="counts",
        case=case,
        reads=round(counted.reads / FILES, 2),
        writes=round(counted.writes / FILES, 2),
        published=round(counted.published / FILES, 2),
        delivered=round(counted.delivered / FILES, 2),
    )


def measure(firestore: GrpcProxy, pubsub: GrpcProxy) -> None:
    """Count all cases, each in an empty project."""
    line = {job: LINE[i - 1 : i] if i else () for i, job in enumerate(LINE)}
    streams = {
        "arrival, a line of 4 jobs in one pipeline": build_graph(line, {"all": LINE}),
        "arrival, a line of 4 jobs in a pipeline each": build_graph(line),
        "arrival, 4 layers of 3 jobs below one": build_graph(build_lattice(4)),
        "arrival, 5 layers of 3 jobs below one": build_graph(build_lattice(5)),
    }
    for case, graph in streams.items():
        with connect(graph, firestore, pubsub) as services:
            services.run_streams()
            report_counts(case, services.count())
    with connect(build_graph(line), firestore, pubsub) as services:
        for case in ("nothing is there", "all is current"):
            services.reset()
            services.run_backfill()
            report_counts(f"backfill, a line of 4 jobs, {case}", services.count())


@contextlib.contextmanager
def run_emulators(benchmark: str) -> Iterator[bool]:
    """Run the emulators, or print which one is not installed; yield whether they run."""
    with contextlib.ExitStack() as entered:
        used = (emulators.FIRESTORE, emulators.PUBSUB)
        if missing := [reason for one in used if (reason := emulators.describe_missing(one))]:
            report(benchmark=benchmark, skipped=missing[0])
            yield False
            return
        for emulator in used:
            os.environ[emulator.variable] = entered.enter_context(emulators.run_emulator(emulator))
        yield True


@contextlib.contextmanager
def run_proxies() -> Iterator[tuple[GrpcProxy, GrpcProxy]]:
    """Run a proxy before each emulator, for connections that are opened meanwhile."""
    variables = emulators.FIRESTORE.variable, emulators.PUBSUB.variable
    direct = {variable: os.environ[variable] for variable in variables}
    with GrpcProxy(direct[variables[0]]) as firestore, GrpcProxy(direct[variables[1]]) as pubsub:
        os.environ |= {variables[0]: firestore.address, variables[1]: pubsub.address}
        yield firestore, pubsub
    os.environ |= direct


def main() -> None:
    """Measure and print."""
    with run_emulators("counts") as are_running:
        if are_running:
            with run_proxies() as proxies:
                measure(*proxies)


if __name__ == "__main__":
    main()
