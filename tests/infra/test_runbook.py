"""What the first deployment and the runbook say of an environment is what Terraform makes."""

from __future__ import annotations

import re

import pytest
from harness.terraform import INFRA

from segue_support.paths import ROOT

pytestmark = pytest.mark.xdist_group("infra")

FIRST = (ROOT / "docs" / "first-deployment.md").read_text()
RUNBOOK = FIRST + (ROOT / "docs" / "runbook.md").read_text()
COMMANDS = "\n".join(re.findall(r"^ *```console\n(.*?)^ *```", RUNBOOK, re.MULTILINE | re.DOTALL))
SENTENCES = RUNBOOK.replace("\n", " ")
# APIs that only some settings need.
OPTIONAL = {"cloudkms.googleapis.com", "secretmanager.googleapis.com"}


def section(title: str) -> str:
    (body,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    return body


def test_every_api_is_named(prod):
    rows = re.findall(r"^\| (.*?) \|", FIRST, re.MULTILINE)
    named = {api for row in rows for api in re.findall(r"`(\w+\.googleapis\.com)`", row)}
    enabled = set(prod.list_names("google_project_service"))
    assert named - OPTIONAL == enabled


def test_the_apis_that_are_enabled_by_hand_are_enabled_by_terraform_too(prod):
    (line,) = re.findall(r"gcloud services enable (.*)", COMMANDS)
    enabled = prod.list_names("google_project_service")
    assert set(line.split()) <= set(enabled)


def test_every_alert_is_explained_and_no_other(prod):
    rows = re.findall(r"^\| (.+?) \|.*\|.*\|$", section("Alerts"), re.MULTILINE)[1:]
    alerts = prod.list_names("google_monitoring_alert_policy")
    assert {*rows} - {"budget"} == {name.removeprefix("Segue prod: ") for name in alerts}
    assert prod.list_names("google_billing_budget") == ["Segue prod"]


def test_every_target_of_make_and_every_file_that_is_named_exists():
    targets = re.findall(r"^(\w+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake (\w+)", COMMANDS)) <= set(targets)
    for path in re.findall(r"-(?:var-file|backend-config)=(envs/\w+\S*)", COMMANDS):
        assert "ENV" in path or (INFRA / path).exists(), path


def test_every_output_and_address_that_is_named_exists(prod):
    outputs = set(prod.state["values"]["outputs"])
    named = set(re.findall(r"output -(?:raw|json) (\w+)", RUNBOOK))
    assert {"image", "settings", "template"} <= named <= outputs
    addresses = {r.address for r in prod.list_resources()}
    replaced = re.findall(r"-replace='(.*?)'", COMMANDS)
    imported = re.findall(r"terraform -chdir=infra import \S+ '?([^'\s]+)", COMMANDS)
    assert replaced
    assert imported
    assert {*replaced, *imported} <= addresses
    # The provider reads neither a job's region back nor that it uses Streaming Engine, and a change
    # of either replaces the job; nor on_delete, without which it cannot end the imported one.
    assert not [address for address in imported if "google_dataflow_flex_template_job" in address]


def test_names_in_its_commands_are_those_that_terraform_gives(prod, environments):
    names = {
        r.name
        for built in (prod, environments("dev"))
        for r in built.list_resources(
            "google_cloud_scheduler_job",
            "google_compute_subnetwork",
            "google_service_account",
            "google_storage_bucket",
        )
    }
    pattern = (
        r"jobs (?:pause|resume) (\S+)|subnetworks/(\S+)|account-email=([^@]+)|gs://([\w-]+-work)"
    )
    used = {name for found in re.findall(pattern, COMMANDS) for name in found if name}
    assert len(used) >= 4
    assert used <= names


def test_variables_that_it_sets_are_those_of_the_root():
    text = (INFRA / "variables.tf").read_text()
    known = set(re.findall(r'^variable "(\w+)"', text, re.MULTILINE))
    set_ = set(re.findall(r"`(\w+) = [{\"]", SENTENCES)) | set(re.findall(r"-var=(\w+)=", COMMANDS))
    assert set_
    assert set_ <= known


def test_a_request_reaches_the_function_in_the_way_that_is_shown(prod):
    assert "curl -X POST" in COMMANDS
    assert "gcloud auth print-identity-token" in COMMANDS
    found = {r.address: r.values for r in prod.list_resources()}
    function = found['module.function["request"].google_cloudfunctions2_function.this']
    (service,) = function["service_config"]
    assert service["ingress_settings"] == "ALLOW_ALL"  # from any machine
    invokers = 'module.function["request"].google_cloud_run_v2_service_iam_member.invoker'
    assert [address for address in found if address.startswith(invokers)] == [
        f'{invokers}["group:audio-curators@example.com"]'  # and only by who is named
    ]


def test_what_a_backfill_is_launched_with_is_what_its_identity_may_use(environments):
    dev = environments("dev")
    backfill = dev.state["values"]["outputs"]["backfill"]["value"]
    for option in ("staging", "temp"):
        assert f"--{option}-location={backfill[f'{option}_location']} " in COMMANDS
    assert backfill["service_account_email"] in COMMANDS


def test_indexes_are_created_before_a_ledger_is_imported():
    steps = [COMMANDS.index(s) for s in ("-target=module.ledger", "gcloud firestore import")]
    assert steps == sorted(steps)
