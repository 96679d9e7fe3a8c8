"""Each environment is exactly what its golden file says, without a warning, and stays as it is."""

from __future__ import annotations

import json

import pytest
from rig import plan, tools

pytestmark = pytest.mark.xdist_group("infra")

GOLDEN = tools.ROOT / "tests" / "golden" / "infra"
BASIC = {"roles/owner", "roles/editor", "roles/viewer", "roles/browser"}
PUBLIC = {"allUsers", "allAuthenticatedUsers"}
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
    found = plan.summary(plan.resources(built.state))
    again = "see the difference, and run 'python tests/golden/make_infra.py'"
    assert found["counts"] == golden["counts"], again
    assert found["names"] == golden["names"], again
    assert found["grants"] == golden["grants"], again


def test_planning_and_applying_warn_of_nothing(built):
    assert built.warnings == []


def test_what_was_applied_needs_no_further_change(built):
    assert plan.changes(built.again) == {}
    outputs = built.again["output_changes"].values()
    assert {tuple(o["actions"]) for o in outputs} == {("no-op",)}


def test_planning_twice_gives_the_same(environments, another_tree):
    (first, _), (second, _) = another_tree.plan("dev"), another_tree.plan("dev")
    for part in ("configuration", "planned_values", "resource_changes", "output_changes"):
        assert first[part] == second[part]
    assert plan.changes(first) == plan.changes(environments("dev").plan)


def test_everything_is_made_and_nothing_else_happens(built):
    assert set(plan.changes(built.plan).values()) == {"create"}


def test_nobody_has_a_basic_role_and_nothing_is_public(built):
    found = plan.grants(plan.resources(built.state))
    assert found
    assert {g.role for g in found} & BASIC == set()
    assert {g.member for g in found} & PUBLIC == set()


def test_members_are_only_added_and_there_are_no_keys(built):
    types = {r.type for r in plan.resources(built.state)}
    assert not [t for t in types if t.endswith(("_iam_binding", "_iam_policy"))]
    assert "google_service_account_key" not in types
    assert "google_storage_hmac_key" not in types


def test_every_bucket_is_closed(built):
    buckets = [r for r in plan.resources(built.state) if r.type == "google_storage_bucket"]
    assert len(buckets) == 4
    for bucket in buckets:
        assert bucket.values["public_access_prevention"] == "enforced"
        assert bucket.values["uniform_bucket_level_access"] is True


def test_what_costs_money_says_for_whom(built):
    costly = [r for r in plan.resources(built.state) if r.type in COSTLY]
    assert {r.type for r in costly} == COSTLY
    for resource in costly:
        labels = resource.values["labels"]
        assert labels["environment"] == built.name, resource.address
        assert labels["team"], resource.address


def test_what_a_job_uses_bears_its_name(built):
    jobs = {"downsample", "loudness", "beats", "energy", "spectrogram"}
    for type_ in ("google_pubsub_topic", "google_pubsub_subscription"):
        found = {
            r.name: r.values["labels"].get("job")
            for r in plan.resources(built.state)
            if r.type == type_
        }
        of_jobs = {name: job for name, job in found.items() if job is not None}
        assert set(of_jobs.values()) == jobs
        assert all(name.startswith(f"segue-{job}-") for name, job in of_jobs.items())


def test_workers_have_no_public_address(built):
    jobs = [r for r in plan.resources(built.state) if r.type == "google_dataflow_flex_template_job"]
    assert {j.values["ip_configuration"] for j in jobs} == {"WORKER_IP_PRIVATE"}
    (network,) = [r for r in plan.resources(built.state) if r.type == "google_compute_subnetwork"]
    assert network.values["private_ip_google_access"] is True


def test_only_production_is_protected(environments):
    protected = {}
    for name in ("dev", "staging", "prod"):
        found = plan.resources(environments(name).state)
        (database,) = [r.values for r in found if r.type == "google_firestore_database"]
        destroyed = {r.values["force_destroy"] for r in found if r.type == "google_storage_bucket"}
        protected[name] = (database["delete_protection_state"], destroyed)
    assert protected["dev"][0] == protected["staging"][0] == "DELETE_PROTECTION_DISABLED"
    assert protected["prod"][0] == "DELETE_PROTECTION_ENABLED"


def test_development_has_one_pipeline_and_production_one_a_job(environments):
    def pipelines(name: str) -> list[str]:
        return plan.names(
            plan.resources(environments(name).state), "google_dataflow_flex_template_job"
        )

    jobs = ["beats", "downsample", "energy", "loudness", "spectrogram"]
    assert pipelines("dev") == ["segue-job-all"]
    assert pipelines("staging") == pipelines("prod") == [f"segue-job-{job}" for job in jobs]


def test_what_terraform_cannot_do_is_done_once_by_gcloud(built):
    done = [call.split(" ")[:3] for call in built.gcloud]
    assert done == [
        ["artifacts", "docker", "tags"],
        ["builds", "submit", "."],  # as the tag is not there yet
        *[["pubsub", "subscriptions", "update"]] * 3,
    ]
