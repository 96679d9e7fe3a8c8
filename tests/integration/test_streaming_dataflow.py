"""The job description that Dataflow gets for a streaming pipeline, built without an account, and
how its workers process a bundle.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from segue.adapters.connect import connect_ledger, connect_store
from segue.adapters.sqlite_queue import SqliteQueue
from segue.errors import ConfigurationError
from segue.execution.reply import ClearNotify, Reply
from segue.execution.streaming_run import StreamingRun
from segue.execution.work import ReceivedMessage
from segue.ingest.events import Arrivals
from segue.log import Action
from segue.model.dead_letter import decode_dead_letter
from segue.model.graph import Graph, parse_graph, read_graph
from segue.model.ledger import Query
from segue.model.manifest import Manifest, PublishedJob
from segue.model.message import decode_message
from segue.model.queue import Envelope, Subscription
from segue.model.record import State
from segue.worker.pool import count_cores
from segue_pipelines.options import parse_pipeline_options
from segue_pipelines.streaming.dataflow import (
    CLEAR,
    ELSEWHERE,
    Elsewhere,
    PublishElsewhere,
    RespondInBundle,
    list_outputs,
    processes,
    publish_elsewhere,
    queues,
)
from segue_pipelines.streaming.pipeline import execute
from segue_support.queue import MemoryQueue
from segue_support.stream import build_graph

SHIPPED_GRAPH = os.path.join(os.path.dirname(__file__), "../../shared/segue/features/jobs.yaml")
GRAPH = read_graph(SHIPPED_GRAPH)
with open(SHIPPED_GRAPH) as file:
    GROUPED = parse_graph(f"pipelines: {{rhythm: [beats, energy]}}\n{file.read()}")
READ, WRITE = "beam:transform:pubsub_read:v1", "beam:transform:pubsub_write:v1"
OPTIONS = (
    *("--runner", "DataflowRunner", "--project", "acme-project", "--region", "europe-west1"),
    *("--sdk_container_image", "registry.example/segue:1", "--no_auth"),
)
NOTHING = """
jobs:
  a: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  b: {run: "segue_support.jobs:after", needs: {value: a}, writes: application/json}
"""
STACK = {
    "ledger": "firestore://acme-project",
    "artifacts": "gs://acme-features",
    "queue": "pubsub://acme-project/acme",
}


class JobDescription:
    """The pipeline that Dataflow is asked to run."""

    def __init__(self, job: dict, proto: beam_runner_api_pb2.Pipeline) -> None:
        self.environment = job["environment"]
        transforms = proto.components.transforms
        (root,) = proto.root_transform_ids
        self.steps = {transforms[t].unique_name for t in transforms[root].subtransforms}
        self.reads, self.writes = {}, {}
        for transform in transforms.values():
            label = transform.unique_name.partition("/")[0]
            payload = transform.spec.payload
            if transform.spec.urn == READ:
                read = beam_runner_api_pb2.PubSubReadPayload.FromString(payload)
                self.reads[label] = read.subscription
                assert read.with_attributes
            elif transform.spec.urn == WRITE:
                write = beam_runner_api_pb2.PubSubWritePayload.FromString(payload)
                self.writes[label] = write.topic


@pytest.fixture(autouse=True)
def _no_account(monkeypatch):
    """Looking for credentials that are not there takes twenty seconds."""
    from apache_beam.internal.gcp import auth

    monkeypatch.setattr(auth, "get_service_credentials", lambda _options: None)


@pytest.fixture(scope="module")
def descriptions():
    """What has been described already, by the pipelines."""
    return {}


@pytest.fixture
def describe_pipeline(bucket, tmp_path, descriptions):
    """Return a function that describes the Dataflow job of some pipelines."""

    def describe(*names: str, graph: Graph = GRAPH) -> JobDescription:
        if names not in descriptions:
            descriptions[names] = build(names, graph)
        return descriptions[names]

    def build(names: tuple[str, ...], graph: Graph) -> JobDescription:
        template = str(tmp_path / f"{'-'.join(names)}.json")
        stage = f"stage/{'-'.join(names)}"
        places = (
            *("--temp_location", f"gs://{bucket}/temp"),
            *("--staging_location", f"gs://{bucket}/{stage}"),
        )
        options = parse_pipeline_options(
            [*OPTIONS, *places, "--template_location", template], streaming=True
        )
        execute(StreamingRun(graph=graph, pipelines=names, **STACK), options)
        with open(template) as file:
            job = json.load(file)
        store = connect_store(f"gs://{bucket}")
        (name,) = [o.name for o in store.list(f"{stage}/") if o.name.endswith("pipeline.pb")]
        proto = beam_runner_api_pb2.Pipeline.FromString(store.read(name))
        store.close()
        return JobDescription(job, proto)

    return describe


pytestmark = [
    pytest.mark.filterwarnings("default"),  # Beam's own, about its options
    pytest.mark.xdist_group("dataflow"),  # each pipeline is described once
]


READS = {
    "downsample": ("downsample.source", "downsample.inbox"),
    "beats": ("beats.done-downsample", "beats.inbox"),
    "energy": ("energy.done-downsample", "energy.done-beats", "energy.inbox"),
    "spectrogram": ("spectrogram.done-downsample", "spectrogram.inbox"),
    "loudness": ("loudness.source", "loudness.inbox"),
    "probe": ("probe.source", "probe.inbox"),
    "key": ("key.done-downsample", "key.inbox"),
    "danceability": ("danceability.done-downsample", "danceability.inbox"),
    "fingerprint": ("fingerprint.source", "fingerprint.inbox"),
}


def subscriptions(*names: str) -> dict[str, str]:
    """The labels and subscriptions of what a pipeline reads."""
    return {f"Read {name}": f"projects/acme-project/subscriptions/acme-{name}" for name in names}


def publications(*topics: str) -> dict[str, str]:
    """The labels and topics of what a pipeline publishes."""
    return {f"Publish {name}": f"projects/acme-project/topics/acme-{name}" for name in topics}


@pytest.mark.parametrize("name", READS)
def test_a_pipeline_reads_its_subscriptions_and_writes_to_all_that_it_may_notify(
    describe_pipeline, name
):
    found = describe_pipeline(name)
    assert found.reads == subscriptions(*READS[name])
    # Where a job fails, those below it are blocked by the same pipeline.
    finished, asked = {
        "downsample": (
            ("downsample", "beats"),
            ("downsample", "beats", "energy", "spectrogram", "key", "danceability"),
        ),
        "beats": (("beats",), ("downsample", "beats", "energy")),
        "energy": ((), ("downsample", "beats", "energy")),
        "spectrogram": ((), ("downsample", "spectrogram")),
        "loudness": ((), ("loudness",)),
        "probe": ((), ("probe",)),
        "key": ((), ("downsample", "key")),
        "danceability": ((), ("downsample", "danceability")),
        "fingerprint": ((), ("fingerprint",)),
    }[name]
    topics = [*(f"done-{job}" for job in finished), *(f"inbox-{other}" for other in asked)]
    assert found.writes == publications(*topics, "dead")


def test_the_steps_keep_their_labels_so_that_a_running_pipeline_can_be_updated(describe_pipeline):
    assert describe_pipeline("beats").steps == {
        "Read beats.done-downsample",
        "Read beats.inbox",
        "Flatten",
        "Respond",
        "Publish done-beats",
        "Publish inbox-downsample",
        "Publish inbox-beats",
        "Publish inbox-energy",
        "Publish dead",
        "Publish elsewhere",
        "Flatten clear",
        "Commit",
        "Clear",
    }


def test_jobs_that_share_a_pipeline_share_its_subscriptions(describe_pipeline):
    found = describe_pipeline("rhythm", graph=GROUPED)
    assert found.reads == subscriptions("rhythm.done-downsample", "rhythm.inbox")
    assert found.writes == publications("inbox-downsample", "inbox-rhythm", "dead")


def test_all_pipelines_fit_into_one_dataflow_job(describe_pipeline):
    found = describe_pipeline(*GRAPH.pipelines)
    assert found.reads == subscriptions(*(name for names in READS.values() for name in names))
    done = ("done-downsample", "done-beats")
    assert found.writes == publications(*done, *(f"inbox-{name}" for name in READS), "dead")


def build_child(parent: str) -> Graph:
    """A graph whose one job needs platform/down."""
    down = PublishedJob(fingerprint="0" * 12, writes="audio/flac", pipeline="down")
    platform = Manifest(
        namespace="platform", ledger="", queue=parent, artifacts="", jobs={"down": down}
    )
    graph = build_graph({"mood": ["platform/down"]})
    return replace(graph, namespace="moods", imports={"platform": platform})


def test_what_other_namespaces_publish_is_read_from_subscriptions_in_the_own_project(
    describe_pipeline,
):
    found = describe_pipeline("mood", graph=build_child("pubsub://acme-platform/audio"))
    assert found.reads == subscriptions("mood.platform.done-down", "mood.inbox")
    assert found.writes == publications("inbox-mood", "dead")


def test_what_is_published_in_a_file_cannot_be_read_on_dataflow():
    options = parse_pipeline_options(OPTIONS, streaming=True)
    graph = build_child("sqlite:////srv/platform/queue.db")
    run = StreamingRun(graph=graph, pipelines=("mood",), **STACK)
    with pytest.raises(
        ConfigurationError, match=r"'done-down' is in the queue 'sqlite:.*'segue work'"
    ):
        execute(run, options)


def test_it_streams_with_one_process_per_machine_and_many_threads(describe_pipeline):
    environment = describe_pipeline("beats").environment
    assert environment["version"]["job_type"] == "FNAPI_STREAMING"
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    assert "enable_streaming_engine" in environment["experiments"]
    (pool,) = environment["workerPools"]
    assert pool["numThreadsPerWorker"] == 64
    (image,) = {i["containerImage"] for i in pool["sdkHarnessContainerImages"]}
    assert image == "registry.example/segue:1"


def test_an_option_that_beam_refuses_is_a_configuration_error(bucket):
    options = parse_pipeline_options(
        [*OPTIONS, "--update", "--temp_location", f"gs://{bucket}/temp"], streaming=True
    )
    with pytest.raises(ConfigurationError, match="job name must be provided"):
        execute(StreamingRun(graph=GRAPH, pipelines=("beats",), **STACK), options)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("ledger", "sqlite:///ledger.db"),
        ("queue", "sqlite:///queue.db"),
        ("artifacts", "file:///artifacts"),
    ],
)
def test_a_url_that_remote_workers_cannot_reach_is_refused(name, url):
    options = parse_pipeline_options(OPTIONS, streaming=True)
    run = StreamingRun(graph=GRAPH, pipelines=("beats",), **{**STACK, name: url})
    with pytest.raises(ConfigurationError, match=f"--{name}"):
        execute(run, options)


def test_until_idle_is_refused_on_dataflow():
    options = parse_pipeline_options(OPTIONS, streaming=True)
    run = StreamingRun(graph=GRAPH, pipelines=("beats",), until_idle_s=1.0, **STACK)
    with pytest.raises(ConfigurationError, match="drain the job"):
        execute(run, options)


def test_concurrent_bundles_share_one_pool(tmp_path):
    (tmp_path / "jobs.yaml").write_text(NOTHING)
    graph = read_graph(str(tmp_path / "jobs.yaml"))
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger, queue = connect_ledger(url), MemoryQueue()
    files = []
    for i in range(40):
        (tmp_path / f"{i}.wav").write_bytes(b"x")
        found = connect_store(str(tmp_path)).identify(f"{i}.wav")
        files.append(found.to_media_file(f"file://{tmp_path}/{i}.wav"))
    Arrivals(graph=graph, ledger=ledger, queue=queue).record(files)
    received = [ReceivedMessage(pipeline="a", data=x.data) for x in queue.queued.values()]
    run = StreamingRun(
        graph=graph, pipelines=("a",), ledger=url, artifacts=f"{tmp_path}/artifacts", queue="none"
    )
    options = PipelineOptions(
        ["--direct_num_workers", "4", "--direct_running_mode", "multi_threading"]
    )
    tags = ("done-a", "dead", CLEAR)
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        replies = (
            pipeline
            | beam.Create([*received, ReceivedMessage(pipeline="a", data=b"poison")])
            | "Respond" >> beam.ParDo(RespondInBundle(run)).with_outputs(*tags)
        )
        notified = replies["done-a"] | "URIs" >> beam.Map(lambda x: decode_message(x.data).uri)
        assert_that(notified, equal_to([f.uri for f in files]), label="notified")
        dead = replies["dead"] | "Letters" >> beam.Map(lambda x: decode_dead_letter(x.data).data)
        assert_that(dead, equal_to([b"poison"]), label="dead")
    resources, _ = processes.get_or_open(run)
    pool = resources.pool
    processes.close(run.name)
    assert pool.processes == count_cores()
    records = ledger.find(Query())
    entries = [record.results[graph.fingerprints["a"]] for record in records]
    assert [entry.state for entry in entries] == [State.DONE] * 40
    assert {entry.attempts for entry in entries} == {1}
    ledger.close()


class TestElsewhere:
    """What a reply has for other namespaces."""

    CLEAR = ClearNotify(uri="gs://b/a.wav", order=7, notified=())

    @pytest.fixture
    def run(self, tmp_path):
        queue = f"sqlite:///{tmp_path}/own/queue.db"
        places = {"ledger": f"sqlite:///{tmp_path}/ledger.db", "artifacts": f"{tmp_path}/artifacts"}
        run = StreamingRun(graph=build_graph({"a": ""}), pipelines=("a",), queue=queue, **places)
        yield run
        queues.close(run.name)

    @pytest.fixture
    def inboxes(self, tmp_path):
        """The queues of two other namespaces."""
        found = {name: SqliteQueue(f"{tmp_path}/{name}/queue.db") for name in ("moods", "charts")}
        for name, queue in found.items():
            queue.subscribe([Subscription(name="inbox", topic=f"inbox-{name}")])
        yield found
        for queue in found.values():
            queue.close()

    def address(self, folder, name: str, data: bytes = b"x") -> Envelope:
        return Envelope(
            topic=f"inbox-{name}", data=data, queue=f"sqlite:///{folder}/{name}/queue.db"
        )

    def publish(self, run, *replies: Elsewhere) -> list[object]:
        """Process one bundle, and return what it emits."""
        step = PublishElsewhere(run)
        step.setup()
        step.start_bundle()
        for reply in replies:
            step.process(reply, 0)
        return [value.value for value in step.finish_bundle()]

    def test_it_has_an_output_of_its_own_with_whom_to_clear_after_it(self, tmp_path):
        own = Envelope(topic="done-a", data=b"x")
        there = self.address(tmp_path, "moods")
        received = ReceivedMessage(pipeline="a", data=b"")
        reply = Reply(received=received, action=Action.DONE, envelopes=(own, there))
        assert [*list_outputs(reply)] == [
            ("done-a", own),
            (ELSEWHERE, Elsewhere(envelopes=(there,), clear=None)),
        ]
        assert [*list_outputs(replace(reply, clear=self.CLEAR))][1:] == [
            (ELSEWHERE, Elsewhere(envelopes=(there,), clear=self.CLEAR))
        ]
        alone = replace(reply, envelopes=(own,), clear=self.CLEAR)
        assert [*list_outputs(alone)] == [("done-a", own), (CLEAR, self.CLEAR)]

    def test_it_reaches_each_queue_before_anybody_is_cleared(self, run, inboxes, tmp_path):
        replies = [
            Elsewhere(
                envelopes=tuple(self.address(tmp_path, name, b"%d" % i) for name in inboxes),
                clear=replace(self.CLEAR, order=i) if i else None,
            )
            for i in range(20)
        ]
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            sent = pipeline | beam.Create(replies) | "Publish elsewhere" >> publish_elsewhere(run)
            assert_that(sent, equal_to([r.clear for r in replies if r.clear is not None]))
        for queue in inboxes.values():
            got = {one.data for one in queue.pull(["inbox"], limit=100)}
            assert got == {b"%d" % i for i in range(20)}

    @pytest.mark.parametrize(
        ("name", "action"), [("gone", "unavailable"), ("broken", "misconfigured")]
    )
    def test_a_queue_that_cannot_be_reached_keeps_nobody_waiting(
        self, run, inboxes, tmp_path, caplog, name, action
    ):
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken/queue.db").write_bytes(b"no database" * 100)
        envelopes = (self.address(tmp_path, name), self.address(tmp_path, "moods"))
        with caplog.at_level("WARNING", logger="segue"):
            cleared = self.publish(run, Elsewhere(envelopes=envelopes, clear=self.CLEAR))
        assert cleared == [self.CLEAR]
        assert [one.data for one in inboxes["moods"].pull(["inbox"], limit=9)] == [b"x"]
        (line,) = (record.segue for record in caplog.records)
        assert (line["action"], line["queue"]) == (action, envelopes[0].queue)
