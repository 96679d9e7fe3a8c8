"""``segue doctor --cloud`` against the emulators: what is missing is named, with a way out."""

from __future__ import annotations

import json

import pytest
from google.cloud.firestore_v1.types import RunQueryRequest

from segue.adapters.cloud_inventory import find_index_faults, list_queue_contents
from segue.adapters.connect import connect_store
from segue.adapters.firestore_indexes import build_indexes
from segue.errors import ConfigurationError, Unavailable
from segue.model.graph import parse_graph
from segue.model.manifest import Lock, Manifest, PublishedJob, encode_manifest
from segue.model.queue import list_subscriptions, list_topics
from segue.model.settings import Settings
from segue_cli.health_checks.cloud import list_cloud_checks
from segue_cli.main import main
from segue_support import emulators
from segue_support.grpc_proxy import GrpcProxy, RpcFault

GRAPH = """
jobs:
  fine: {run: "segue_support.jobs:fine", needs: {media: source}, writes: application/json}
  after: {run: "segue_support.jobs:after", needs: {value: fine}, writes: application/json}
"""


class Deployed:
    """Topics and subscriptions of a project, made and unmade one by one."""

    def __init__(self, project: str) -> None:
        from google.cloud import pubsub_v1

        self.project = project
        self.publisher = pubsub_v1.PublisherClient()
        self.subscriber = pubsub_v1.SubscriberClient()

    def topic(self, name: str) -> str:
        return f"projects/{self.project}/topics/{name}"

    def make_topic(self, name: str) -> None:
        self.publisher.create_topic(name=self.topic(name))

    def delete_topic(self, name: str) -> None:
        self.publisher.delete_topic(topic=self.topic(name))

    def subscription(self, name: str) -> str:
        return f"projects/{self.project}/subscriptions/{name}"

    def make_subscription(self, name: str, topic: str) -> None:
        self.subscriber.create_subscription(name=self.subscription(name), topic=self.topic(topic))

    def delete_subscription(self, name: str) -> None:
        self.subscriber.delete_subscription(subscription=self.subscription(name))

    def close(self) -> None:
        self.publisher.transport.close()
        self.subscriber.close()


@pytest.fixture
def deployed(pubsub_emulator, project, monkeypatch):
    monkeypatch.setenv(emulators.PUBSUB.variable, pubsub_emulator)
    graph = parse_graph(GRAPH)
    there = Deployed(project)
    for name in list_topics(graph):
        there.make_topic(f"segue-{name}")
    for one in list_subscriptions(graph):
        there.make_subscription(f"segue-{one.name}", f"segue-{one.topic}")
    there.make_topic("segue-sweep")
    there.make_topic("segue-function-arrival-dead")
    there.make_subscription("segue-function-arrival-dead", "segue-function-arrival-dead")
    there.make_topic("other-source")
    yield there
    there.close()


@pytest.fixture
def doctor(deployed, project, bucket, firestore_url, tmp_path, monkeypatch, capfd):
    """Run it on the whole environment; returns its exit code, and what it found in the cloud."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.yaml").write_text(GRAPH)

    def run(**settings: str):
        places = {
            "queue": f"pubsub://{project}",
            "ledger": firestore_url,
            "catalogue": f"gs://{bucket}/masters",
            "artifacts": f"gs://{bucket}/features",
            **settings,
        }
        capfd.readouterr()
        options = [f"--{name}={place}" for name, place in places.items()]
        code = main(["doctor", "--cloud", "--json", *options])
        findings = json.loads(capfd.readouterr().out)["findings"]
        return code, {f["name"]: f for f in findings if f["group"] == "cloud"}

    return run


def test_an_environment_that_has_all_is_without_fault(doctor, bucket):
    store = connect_store(f"gs://{bucket}/features")
    store.create("_runs/r1.json", b"{}", content_type="application/json", metadata={})
    store.close()
    code, found = doctor()
    assert {name: f["status"] for name, f in found.items()} == dict.fromkeys(
        ["settings", "topics", "subscriptions", "former pipelines", "indexes", "runs"], "ok"
    )
    assert found["topics"]["detail"] == "6 topics, with that of the sweep"
    assert found["runs"]["detail"] == f"1 found below gs://{bucket}/features/_runs/"
    assert code == 0


def test_a_topic_and_a_subscription_that_are_missing_are_named(doctor, deployed):
    deployed.delete_topic("segue-sweep")
    deployed.delete_topic("segue-dead")
    deployed.delete_subscription("segue-fine.inbox")
    deployed.delete_subscription("segue-after.done-fine")
    code, found = doctor()
    assert code == 1
    assert found["topics"]["detail"] == "missing: segue-dead, segue-sweep"
    assert found["subscriptions"]["detail"] == "missing: segue-fine.inbox, segue-after.done-fine"
    assert "Terraform" in found["topics"]["remedy"]


def test_a_subscription_of_another_topic_is_a_fault(doctor, deployed):
    deployed.delete_subscription("segue-fine.source")
    deployed.make_subscription("segue-fine.source", topic="other-source")
    code, found = doctor()
    assert code == 1
    assert found["subscriptions"]["detail"].endswith("to the wrong topic: segue-fine.source")


def test_a_subscription_to_what_another_namespace_publishes_is_attached_to_its_topic(
    doctor, deployed, project, tmp_path
):
    there = Deployed(f"{project}-platform")
    there.make_topic("audio-done-down")
    down = PublishedJob(fingerprint="0" * 12, writes="application/json", pipeline="down")
    platform = Manifest(
        namespace="platform",
        ledger="",
        queue=f"pubsub://{there.project}/audio",
        artifacts="",
        jobs={"down": down},
    )
    lock = encode_manifest(Lock(namespaces={"platform": platform}))
    (tmp_path / "segue.lock").write_bytes(lock)
    (tmp_path / "jobs.yaml").write_text(GRAPH.replace("media: source", "x: platform/down"))
    deployed.make_subscription("segue-fine.platform.done-down", topic="segue-source")
    _, found = doctor()
    assert found["subscriptions"]["detail"].endswith(": segue-fine.platform.done-down")
    deployed.delete_subscription("segue-fine.platform.done-down")
    deployed.subscriber.create_subscription(
        name=deployed.subscription("segue-fine.platform.done-down"),
        topic=there.topic("audio-done-down"),
    )
    _, found = doctor()
    assert found["subscriptions"]["status"] == "ok"
    assert found["former pipelines"]["detail"].endswith(": segue-fine.source")
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    _, found = doctor()
    assert found["former pipelines"]["detail"].endswith(": segue-fine.platform.done-down")
    there.close()


def test_jobs_of_a_group_share_the_subscriptions_of_their_pipeline(doctor, deployed, tmp_path):
    (tmp_path / "jobs.yaml").write_text(f"pipelines: {{fine: [fine, after]}}\n{GRAPH}")
    code, found = doctor()
    assert code == 0
    assert found["topics"]["detail"] == "4 topics, with that of the sweep"
    assert found["subscriptions"]["detail"].startswith("3 subscriptions, ")
    assert found["former pipelines"]["status"] == "note"
    names = "segue-done-fine, segue-inbox-after, segue-after.done-fine, segue-after.inbox"
    assert found["former pipelines"]["detail"].endswith(f": {names}")


def test_topics_and_subscriptions_of_a_job_that_is_gone_are_noted(doctor, deployed):
    deployed.make_topic("segue-inbox-old")
    deployed.make_subscription("segue-old.source", topic="segue-source")
    code, found = doctor()
    assert code == 0
    assert found["former pipelines"]["status"] == "note"
    assert found["former pipelines"]["detail"].endswith(": segue-inbox-old, segue-old.source")


def test_places_on_this_machine_are_no_deployed_environment(doctor):
    code, found = doctor(queue="sqlite:///queue.db", artifacts="features")
    assert code == 1
    assert set(found) == {"settings", "indexes"}
    assert found["settings"]["detail"] == "artifacts is features; queue is sqlite:///queue.db"
    assert found["settings"]["remedy"] == "set SEGUE_ARTIFACTS=gs://..., SEGUE_QUEUE=pubsub://..."


def test_another_prefix_is_another_queue(doctor, project):
    code, found = doctor(queue=f"pubsub://{project}/music")
    assert code == 1
    assert found["topics"]["detail"].startswith("missing: music-source, music-done-fine, ")


def test_an_index_that_is_not_ready_is_named(firestore_emulator, project, monkeypatch):
    wanted = build_indexes()
    with GrpcProxy(firestore_emulator) as proxy:
        monkeypatch.setenv(emulators.FIRESTORE.variable, proxy.address)
        assert find_index_faults(f"firestore://{project}/segue") == {}
        assert proxy.calls["RunQuery"] == len(wanted)  # each index is asked for once
        proxy.fail("RunQuery", RpcFault(status="FAILED_PRECONDITION"))
        (index,) = find_index_faults(f"firestore://{project}/segue")
    assert index == wanted[0]


def test_an_index_that_is_being_built_is_told_from_one_that_is_missing(
    firestore_emulator, firestore_url, tmp_path, monkeypatch
):
    (tmp_path / "jobs.yaml").write_text(GRAPH)
    wanted = [f"({', '.join(index.fields)})" for index in build_indexes()]
    answers = (
        "The query requires an index. That index is currently building and cannot be used yet.",
        "The query requires an index. You can create it here: https://console.firebase.google.com/",
    )
    building, missing = (RpcFault(status="FAILED_PRECONDITION", message=text) for text in answers)
    settings = Settings(graph=str(tmp_path / "jobs.yaml"), ledger=firestore_url)
    with GrpcProxy(firestore_emulator) as proxy:
        monkeypatch.setenv(emulators.FIRESTORE.variable, proxy.address)
        (check,) = (c for c in list_cloud_checks(settings) if c.name == "indexes")
        proxy.fail("RunQuery", building, building)
        found = check.run()
        assert (found.status, found.detail) == ("fault", f"being built: {wanted[0]}, {wanted[1]}")
        assert found.hint.startswith("wait")
        proxy.fail("RunQuery", building, missing)
        found = check.run()
        assert found.detail.startswith(f"missing: {wanted[1]}; being built: {wanted[0]}\n")
        assert "Terraform" in found.hint
        assert check.run().status == "ok"


def test_each_index_is_asked_for_by_a_query_of_its_own_fields(firestore_emulator, monkeypatch):
    wanted = build_indexes()
    with GrpcProxy(firestore_emulator) as proxy:
        monkeypatch.setenv(emulators.FIRESTORE.variable, proxy.address)
        find_index_faults("firestore://acme-audio")
    asked = []
    for request in map(RunQueryRequest.deserialize, proxy.requests["RunQuery"]):
        query = request.structured_query
        filters = [f.field_filter.field.field_path for f in query.where.composite_filter.filters]
        asked.append((*filters, *(o.field.field_path for o in query.order_by)))
    assert asked == [index.fields for index in wanted]


def test_a_ledger_that_does_not_answer_is_told_as_such(firestore_emulator, project, monkeypatch):
    with GrpcProxy(firestore_emulator) as proxy:
        monkeypatch.setenv(emulators.FIRESTORE.variable, proxy.address)
        proxy.fail("BatchGetDocuments", RpcFault(status="PERMISSION_DENIED"), RpcFault())
        url = f"firestore://{project}"
        with pytest.raises(ConfigurationError, match=r"grant roles/datastore\.user"):
            find_index_faults(url)
        with pytest.raises(Unavailable, match="try again later"):
            find_index_faults(url)


def test_a_queue_that_may_not_be_listed_says_which_role_is_needed(
    pubsub_emulator, project, monkeypatch
):
    with GrpcProxy(pubsub_emulator) as proxy:
        monkeypatch.setenv(emulators.PUBSUB.variable, proxy.address)
        proxy.fail("ListTopics", RpcFault(status="PERMISSION_DENIED"))
        with pytest.raises(ConfigurationError, match=r"grant roles/pubsub\.viewer"):
            list_queue_contents(f"pubsub://{project}")


@pytest.mark.parametrize("url", ["sqlite:///queue.db", "pubsub://", "pubsub://a/b/c"])
def test_a_queue_elsewhere_is_refused(url):
    with pytest.raises(ConfigurationError, match="not a queue in Pub/Sub"):
        list_queue_contents(url)


def test_a_ledger_elsewhere_is_refused():
    with pytest.raises(ConfigurationError, match="not a ledger in Firestore"):
        find_index_faults("sqlite:///ledger.db")
