"""The stand-in tells the provider's whole schema, so the real Terraform finds every fault in it.

It also forgets, replaces and gives up as the real provider does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from harness import plan
from harness.environment import serve_provider
from harness.launched_job import FLAGS, publish_options
from harness.terraform import Terraform, TerraformError
from provider.flex_jobs import OPTIONS

pytestmark = pytest.mark.xdist_group("infra")

HEAD = """
terraform {
  required_providers {
    google = { source = "hashicorp/google" }
    google-beta = { source = "hashicorp/google-beta" }
  }
}
provider "google" {
  project        = "acme"
  default_labels = { team = "platform" }
}
"""
TOPIC = 'resource "google_pubsub_topic" "t" {{\n  name = "x"\n{}\n}}\n'
SUBSCRIPTION = 'resource "google_pubsub_subscription" "s" {{\n  name = "x"\n{}\n}}\n'
FAULTS = {
    "a misspelled argument": (
        TOPIC.format("  message_retention_durration = 1"),
        "Unsupported argument",
    ),
    "a missing argument": (SUBSCRIPTION.format(""), "Missing required argument"),
    "a value of another type": (
        SUBSCRIPTION.format('  topic = "t"\n  ack_deadline_seconds = "ten"'),
        "Incorrect attribute value type",
    ),
    "an unknown block": (
        SUBSCRIPTION.format('  topic = "t"\n  dead_leter_policy {}'),
        "Unsupported block type",
    ),
    "a block in the place of an argument": (
        TOPIC.format('  labels {\n    a = "b"\n  }'),
        "Unsupported block type",
    ),
    "a block too many": (
        SUBSCRIPTION.format('  topic = "t"\n  retry_policy {}\n  retry_policy {}'),
        "Too many retry_policy blocks",
    ),
    "a missing argument of a block": (
        SUBSCRIPTION.format('  topic = "t"\n  push_config {}'),
        "Missing required argument",
    ),
    "a missing block": (
        'resource "google_firestore_index" "i" {\n  collection = "c"\n}\n',
        "Insufficient fields blocks",
    ),
    "an unknown type": (
        'resource "google_pubsub_topick" "t" {\n  name = "x"\n}\n',
        "Invalid resource type",
    ),
    "a value that the provider decides": (
        TOPIC.format('  effective_labels = { a = "b" }'),
        "Value for unconfigurable attribute",
    ),
    "a reference to nothing": (
        TOPIC.format("") + 'output "o" {\n  value = google_pubsub_topic.t.self_linkk\n}\n',
        "Unsupported attribute",
    ),
    "an unknown setting of the provider": (
        TOPIC.format("  provider = google-beta") + 'provider "google-beta" {\n  projekt = "p"\n}\n',
        "Unsupported argument",
    ),
    "an unknown argument of a data source": (
        'data "google_storage_bucket" "b" {\n  nam = "x"\n}\n',
        "Missing required argument",
    ),
}


@pytest.fixture(scope="module")
def terraform(stand_in, tmp_path_factory) -> Terraform:
    folder = tmp_path_factory.mktemp("stand-in")
    (folder / "main.tf").write_text(HEAD)
    terraform = Terraform(folder, stand_in)
    terraform.init()
    return terraform


def write(terraform: Terraform, text: str) -> None:
    (terraform.folder / "main.tf").write_text(HEAD + text)
    for state in terraform.folder.glob("*.tfstate*"):
        state.unlink()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_schema_is_found(terraform, fault):
    text, summary = FAULTS[fault]
    write(terraform, text)
    (first, *_) = terraform.validate()
    assert first.startswith("error")
    assert summary in first


def test_what_is_right_has_no_fault(terraform):
    write(terraform, TOPIC.format("") + SUBSCRIPTION.format("  topic = google_pubsub_topic.t.id"))
    assert terraform.validate() == []


def test_what_the_provider_knows_beforehand_is_known_and_nothing_else(terraform):
    account = 'resource "google_service_account" "a" {\n  account_id = "worker"\n}\n'
    write(terraform, TOPIC.format('  labels = { job = "beats" }') + account)
    plan, warnings = terraform.plan()
    changes = {c["address"]: c["change"] for c in plan["resource_changes"]}
    worker = changes["google_service_account.a"]
    topic = changes["google_pubsub_topic.t"]
    assert warnings == []
    assert worker["after"]["member"] == "serviceAccount:worker@acme.iam.gserviceaccount.com"
    assert worker["after_unknown"]["unique_id"] is True
    assert topic["after"]["project"] == "acme"
    assert topic["after"]["terraform_labels"] == {
        "goog-terraform-provisioned": "true",
        "team": "platform",
        "job": "beats",
    }
    assert topic["after_unknown"]["id"] is True


def test_what_was_applied_is_planned_again_without_a_change(terraform):
    asked = (
        'data "google_project" "p" {}\n'
        'resource "google_project_iam_member" "m" {\n'
        '  project = data.google_project.p.project_id\n  role = "roles/viewer"\n'
        '  member = "serviceAccount:${data.google_project.p.number}@x"\n}\n'
    )
    write(
        terraform,
        asked + TOPIC.format("") + SUBSCRIPTION.format("  topic = google_pubsub_topic.t.id"),
    )
    terraform.plan()
    assert terraform.apply() == []
    state = json.loads(terraform.run("show", "-json").out)["values"]["root_module"]["resources"]
    values = {r["address"]: r["values"] for r in state}
    assert values["google_pubsub_subscription.s"]["topic"] == "projects/acme/topics/x"
    assert values["google_project_iam_member.m"]["member"] == "serviceAccount:123456789012@x"
    assert terraform.run("plan", "-detailed-exitcode", "-input=false").code == 0


def test_what_was_applied_can_be_removed(terraform):
    write(terraform, TOPIC.format(""))
    terraform.plan()
    terraform.apply()
    plan, _ = terraform.plan("-destroy")
    assert [c["change"]["actions"] for c in plan["resource_changes"]] == [["delete"]]
    assert terraform.apply() == []


def test_a_change_that_the_provider_cannot_make_replaces_the_resource(terraform):
    write(terraform, TOPIC.format(""))
    terraform.plan()
    terraform.apply()
    renamed = TOPIC.format("").replace('"x"', '"y"')
    (terraform.folder / "main.tf").write_text(HEAD + renamed)
    assert plan.list_changes(terraform.plan()[0]) == {"google_pubsub_topic.t": "replace"}
    labelled = TOPIC.format('  labels = { job = "beats" }')
    (terraform.folder / "main.tf").write_text(HEAD + labelled)
    assert plan.list_changes(terraform.plan()[0]) == {"google_pubsub_topic.t": "update"}


def test_an_index_that_is_waited_for_fails_on_a_large_ledger_then_and_later(terraform):
    write(
        terraform,
        'resource "google_firestore_index" "i" {\n  database = "large"\n  collection = "files"\n'
        '  fields {\n    field_path = "uri"\n    order = "ASCENDING"\n  }\n}\n',
    )
    for reason in ("timeout while waiting", "409"):
        terraform.plan()
        with pytest.raises(TerraformError, match=reason):
            terraform.apply()


FLEX_JOB = """
provider "google-beta" {
  project = "acme"
}
resource "google_dataflow_flex_template_job" "j" {
  provider                = google-beta
  name                    = "beats"
  region                  = "europe-west1"
  container_spec_gcs_path = "gs://code/template.json"
  temp_location           = "gs://work/temp"
  num_workers             = 2
  max_workers             = 5
}
"""


def plan_a_job_again(published: Iterable[str], folder: Path) -> list[str]:
    """What Terraform does to a running job that tells these options, after a refresh."""
    (folder / "main.tf").write_text(HEAD + FLEX_JOB)
    with serve_provider(list(published), [folder]) as variables:
        terraform = Terraform(folder, variables)
        terraform.init()
        terraform.plan()
        assert terraform.apply() == []
        terraform.run("apply", "-refresh-only", "-auto-approve", "-input=false")
        planned, _ = terraform.plan()
    return list(plan.list_changes(planned).values())


def test_a_job_keeps_the_settings_that_it_tells_and_loses_the_others(tmp_path):
    every = {option for option, _ in OPTIONS.values()}
    (tmp_path / "all").mkdir()
    (tmp_path / "none").mkdir()
    assert plan_a_job_again(every, tmp_path / "all") == []
    assert plan_a_job_again((), tmp_path / "none") == ["replace"]


def test_a_job_of_segue_tells_every_setting_that_the_provider_looks_for():
    published = publish_options()
    python_names = {"max_workers": "max_num_workers"}
    for setting, (option, _) in OPTIONS.items():
        given = FLAGS[python_names.get(setting, setting)]
        assert str(published[option]).removesuffix(".0") == given, option
    assert published["subnetwork"] == FLAGS["subnetwork"]  # Java and Python call it the same
