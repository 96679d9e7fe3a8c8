"""Each environment is exactly what its golden file says, without a warning, and stays as it is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import msgspec
import pytest
from harness import plan
from harness.terraform import TerraformError

from segue.model.manifest import LOCK_FILE, Lock, Manifest, PublishedJob, encode_manifest
from segue.model.settings import Settings
from segue_cli.function_archive import compile_graph
from segue_support.paths import ROOT

pytestmark = pytest.mark.xdist_group("infra")

GOLDEN = ROOT / "tests" / "golden" / "infra"
FIXTURES = sorted((ROOT / "infra" / "tests").glob("*/jobs.yaml"))
BASIC = {"roles/owner", "roles/editor", "roles/viewer", "roles/browser"}
PUBLIC = {"allUsers", "allAuthenticatedUsers"}
# Each is a pipeline of its own.
JOBS = {
    *("downsample", "loudness", "beats", "energy", "spectrogram", "probe"),
    *("key", "danceability", "fingerprint"),
}
# What takes labels by which cost is split; the others cost nothing of their own.
COSTLY = {
    "google_artifact_registry_repository",
    "google_cloudfunctions2_function",
    "google_dataflow_flex_template_job",
    "google_pubsub_subscription",
    "google_pubsub_topic",
    "google_storage_bucket",
}


def test_an_environment_is_what_its_golden_file_says(built):
    golden = json.loads((GOLDEN / f"{built.name}.json").read_text())
    found = plan.summarize(built.list_resources())
    remedy = "see the difference, and run 'python tests/golden/make_infra.py'"
    assert found["counts"] == golden["counts"], remedy
    assert found["names"] == golden["names"], remedy
    assert found["grants"] == golden["grants"], remedy


def test_planning_and_applying_warn_of_nothing(built):
    assert built.warnings == []


def test_what_was_applied_needs_no_further_change(built):
    assert plan.list_changes(built.second_plan) == {}
    outputs = built.second_plan["output_changes"].values()
    assert {tuple(o["actions"]) for o in outputs} == {("no-op",)}


def test_planning_twice_gives_the_same(environments, tmp_path):
    dev = environments("dev")
    without_state = shutil.ignore_patterns(".terraform", "*.tfstate*")
    shutil.copytree(dev.tree.root, tmp_path / "tree", ignore=without_state)
    first, (second, _) = dev.plan, replace(dev.tree, root=tmp_path / "tree").plan("dev")
    for part in ("configuration", "planned_values", "resource_changes", "output_changes"):
        assert first[part] == second[part]


@pytest.mark.parametrize("change", ["edit", "delete"])
def test_archives_of_an_older_graph_are_refused_with_the_remedy(tree, change):
    if change == "edit":
        tree.graph.write_text(tree.graph.read_text() + "# edited\n")
    else:
        (tree.root / "build" / "graph.json").unlink()
    with pytest.raises(TerraformError, match="run 'make archives'") as refused:
        tree.plan("prod")
    assert str(refused.value).count("error ") == 1


LOCKED = Manifest(
    namespace="platform",
    ledger="firestore://acme-platform/segue",
    queue="pubsub://acme-platform/segue",
    artifacts="gs://acme-platform-artifacts",
    jobs={
        "stems": PublishedJob(fingerprint="0123456789ab", writes="audio/flac", pipeline="stems"),
    },
)
FOREIGN = """
  vocals:
    run: segue.features.dynamics:energy
    needs: {audio: platform/stems, beats: beats}
    writes: application/json
"""


def test_a_graph_with_a_lock_is_deployed_with_that_lock(tree):
    graph = tree.root / "graphs" / "jobs.yaml"  # beside the other sources of the image
    options = ("dev", "-var=graph=../graphs/jobs.yaml")

    def write_lock(fingerprint: str) -> None:
        jobs = {"stems": msgspec.structs.replace(LOCKED.jobs["stems"], fingerprint=fingerprint)}
        manifest = msgspec.structs.replace(LOCKED, jobs=jobs)
        lock = encode_manifest(Lock(namespaces={"platform": manifest}))
        (graph.parent / LOCK_FILE).write_bytes(lock)

    def compile_it() -> None:
        (tree.root / "build" / "graph.json").write_bytes(compile_graph(Settings(graph=str(graph))))

    def read_images(planned: dict) -> set[str]:
        running = "google_dataflow_flex_template_job"
        found = [r for r in plan.list_resources(planned) if r.type == running]
        return {r.values["sdk_container_image"] for r in found}

    graph.parent.mkdir()
    graph.write_text(tree.graph.read_text() + FOREIGN)
    write_lock("0123456789ab")
    compile_it()
    first, warnings = tree.plan(*options)
    assert warnings == []
    own = 'module.pipeline["vocals"].google_storage_bucket_iam_member.parents["0"]'
    (readable,) = [r.values for r in plan.list_resources(first) if r.address == own]
    (condition,) = readable["condition"]
    assert "/objects/beats/" in condition["expression"]
    assert "platform" not in condition["expression"]  # those are in a bucket of that namespace
    there = 'module.queue.google_pubsub_subscription.this["vocals.platform.done-stems"]'
    (reads,) = [r.values for r in plan.list_resources(first) if r.address == there]
    assert reads["name"] == "segue-vocals.platform.done-stems"
    assert reads["topic"] == "projects/acme-platform/topics/segue-done-stems"
    write_lock("ba9876543210")
    with pytest.raises(TerraformError, match=r"segue\.lock .* changed; run 'make archives'"):
        tree.plan(*options)
    compile_it()
    second, _ = tree.plan(*options)
    assert read_images(first).isdisjoint(read_images(second))


@pytest.mark.parametrize("damage", ["older", "cut short"])
def test_a_compiled_graph_of_another_format_is_refused_with_the_remedy_alone(tree, damage):
    compiled = tree.root / "build" / "graph.json"
    graph = json.loads(compiled.read_text())
    del graph["format"], graph["pipelines"], graph["topics"], graph["subscriptions"]
    for job in graph["jobs"].values():
        del job["parents"], job["reads_source"]
    text = json.dumps(graph)
    compiled.write_text(text if damage == "older" else text[:-9])
    with pytest.raises(TerraformError, match="run 'make archives'") as refused:
        tree.plan("dev")
    assert "Unsupported attribute" not in str(refused.value)


def test_a_catalogue_of_another_project_notifies_the_functions_through_topics(environments):
    catalogue = '{bucket="masters",create=false,project="acme-media",prefix="music"}'
    planned, warnings = environments("dev").tree.plan("dev", f"-var=catalogue={catalogue}")
    assert warnings == []
    found = {r.address: r.values for r in plan.list_resources(planned)}
    notifications = "module.catalogue.google_storage_notification.notification"
    publishers = "module.catalogue.google_pubsub_topic_iam_member.notification"
    for function, event in {"arrival": "OBJECT_FINALIZE", "deletion": "OBJECT_DELETE"}.items():
        notification = found[f'{notifications}["{function}"]']
        assert notification["bucket"] == "masters"
        assert notification["event_types"] == [event]
        assert notification["object_name_prefix"] == "music/"
        publisher = found[f'{publishers}["{function}"]']
        assert "210987654321" in publisher["member"]  # the agent of the other project
        trigger = found[f'module.function["{function}"].google_eventarc_trigger.this[0]']
        (criterion,) = trigger["matching_criteria"]
        assert criterion["value"] == "google.cloud.pubsub.topic.v1.messagePublished"
        assert trigger["location"] == "europe-west1"


@pytest.mark.parametrize("graph", FIXTURES, ids=lambda path: path.parent.name)
def test_the_compiled_graphs_of_the_modules_tests_are_current(graph):
    compiled = compile_graph(Settings(graph=str(graph)))
    remedy = "run 'python tests/golden/make_infra.py'"
    assert (graph.parent / "graph.json").read_bytes() == compiled, remedy


def test_everything_is_made_and_nothing_else_happens(built):
    assert set(plan.list_changes(built.plan).values()) == {"create"}


def test_nobody_has_a_basic_role_and_nothing_is_public(built):
    found = plan.list_grants(built.list_resources())
    assert found
    assert {g.role for g in found} & BASIC == set()
    assert {g.member for g in found} & PUBLIC == set()


def test_members_are_only_added_and_there_are_no_keys(built):
    types = {r.type for r in built.list_resources()}
    assert not [t for t in types if t.endswith(("_iam_binding", "_iam_policy"))]
    assert "google_service_account_key" not in types
    assert "google_storage_hmac_key" not in types


def test_every_bucket_is_closed(built):
    buckets = built.list_resources("google_storage_bucket")
    assert len(buckets) == 4
    for bucket in buckets:
        assert bucket.values["public_access_prevention"] == "enforced"
        assert bucket.values["uniform_bucket_level_access"] is True


def test_what_costs_money_says_for_whom(built):
    costly = built.list_resources(*COSTLY)
    assert {r.type for r in costly} == COSTLY
    for resource in costly:
        labels = resource.values["labels"]
        assert labels["environment"] == built.name, resource.address
        assert labels["team"], resource.address


def test_what_a_pipeline_uses_bears_its_name(built):
    topics = {
        r.name: r.values["labels"].get("pipeline")
        for r in built.list_resources("google_pubsub_topic")
    }
    for name, pipeline in topics.items():
        kind, _, owner = name.removeprefix("segue-").partition("-")
        assert pipeline == (owner if kind in {"done", "inbox"} else None), name
    for resource in built.list_resources("google_pubsub_subscription"):
        pipeline, dot, _ = resource.name.removeprefix("segue-").partition(".")
        assert resource.values["labels"].get("pipeline") == (pipeline if dot else None)
    running = built.list_resources("google_dataflow_flex_template_job")
    assert {r.name: r.values["labels"]["pipeline"] for r in running} == {
        f"segue-job-{pipeline}": pipeline for pipeline in JOBS
    }


def test_workers_have_no_public_address(built):
    jobs = built.list_resources("google_dataflow_flex_template_job")
    assert {j.values["ip_configuration"] for j in jobs} == {"WORKER_IP_PRIVATE"}
    (network,) = built.list_resources("google_compute_subnetwork")
    assert network.values["private_ip_google_access"] is True


def test_only_production_is_protected(environments):
    protected = {}
    for name in ("dev", "staging", "prod"):
        (database,) = environments(name).list_resources("google_firestore_database")
        buckets = environments(name).list_resources("google_storage_bucket")
        state = database.values["delete_protection_state"].removeprefix("DELETE_PROTECTION_")
        kept = {bucket.name for bucket in buckets if not bucket.values["force_destroy"]}
        protected[name] = (state, {bucket.rpartition("-")[2] for bucket in kept})
    assert protected["dev"] == protected["staging"] == ("DISABLED", set())
    assert protected["prod"] == ("ENABLED", {"catalogue", "artifacts", "code"})


def test_environments_have_the_same_pipelines_with_other_numbers_of_workers(environments):
    def read_workers(name: str) -> dict[str, tuple[int, int]]:
        running = environments(name).list_resources("google_dataflow_flex_template_job")
        return {r.name: (r.values["num_workers"], r.values["max_workers"]) for r in running}

    names = [f"segue-job-{job}" for job in JOBS]
    assert read_workers("dev") == dict.fromkeys(names, (1, 2))
    assert read_workers("staging") == dict.fromkeys(names, (1, 3))
    assert read_workers("prod") == dict.fromkeys(names, (2, 20))


def test_what_terraform_cannot_do_is_done_once_by_gcloud(built):
    done = [call.split(" ")[:3] for call in built.gcloud]
    assert done == [
        ["artifacts", "docker", "tags"],
        ["builds", "submit", "."],  # as the tag is not there yet
        *[["pubsub", "subscriptions", "update"]] * 3,
    ]
