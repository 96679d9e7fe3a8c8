"""An environment is applied again and again: what has not changed is not touched.

The stand-in forgets what the real provider forgets of a job, and replaces what it replaces.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness import plan
from harness.environment import Tree
from harness.terraform import INFRA, Terraform

pytestmark = pytest.mark.xdist_group("infra")

FLEX_JOB = "google_dataflow_flex_template_job"
IMAGES = [f"europe-docker.pkg.dev/acme/segue/segue@sha256:{digit * 64}" for digit in "12"]


@pytest.fixture
def running(prod, tmp_path) -> Tree:
    """A copy of production, as it runs."""
    shutil.copytree(prod.tree.root, tmp_path / "tree")  # with its state
    return replace(prod.tree, root=tmp_path / "tree")


def apply(tree: Tree, *options: str) -> dict[str, str]:
    """Plan and apply; return what the plan did, by address."""
    planned, warnings = tree.plan("prod", *options)
    assert warnings == []
    assert tree.terraform.apply() == []
    return plan.list_changes(planned)


def read_state(tree: Tree) -> list[plan.Resource]:
    return plan.list_resources(json.loads(tree.terraform.run("show", "-json").out))


def jobs_of(tree: Tree) -> Mapping[str, Mapping[str, Any]]:
    """The settings of each running job, by its address; each launch has another id."""
    return {r.address: r.values for r in read_state(tree) if r.type == FLEX_JOB}


def test_another_image_updates_every_job_in_place_and_then_all_is_at_rest(running):
    first, second = (f"-var=image={image}" for image in IMAGES)
    apply(running, first)
    before = jobs_of(running)
    assert len(before) == 9
    assert apply(running, first) == {}
    refresh = ("apply", "-refresh-only", "-auto-approve", "-input=false")
    running.terraform.run(*refresh, "-var-file=envs/prod.tfvars", first)
    assert jobs_of(running) == before
    assert apply(running, first) == {}
    changed = apply(running, second)
    after = jobs_of(running)
    assert changed == {
        "module.images.google_storage_bucket_object.template": "replace",  # named by its content
        **dict.fromkeys(before, "update"),
    }
    assert {job["sdk_container_image"] for job in after.values()} == {IMAGES[1]}
    assert not {job["id"] for job in after.values()} & {job["id"] for job in before.values()}
    assert apply(running, second) == {}
    assert jobs_of(running) == after


def test_another_machine_for_one_pipeline_touches_no_other(running):
    before = jobs_of(running)
    own = 'module.pipeline["beats"].google_dataflow_flex_template_job.this["streaming"]'
    changed = apply(running, '-var=pipelines={beats={machine_type="n2-standard-8"}}')
    after = jobs_of(running)
    assert changed == {own: "update"}
    assert after[own]["machine_type"] == "n2-standard-8"
    assert {a for a in before if before[a]["id"] != after[a]["id"]} == {own}


def test_another_number_of_workers_replaces_the_job_of_that_pipeline_only(running):
    own = 'module.pipeline["beats"].google_dataflow_flex_template_job.this["streaming"]'
    planned, _ = running.plan("prod", "-var=pipelines={beats={max_workers=50}}")
    assert plan.list_changes(planned) == {own: "replace"}


def test_what_is_no_longer_read_is_removed_once_the_pipelines_that_use_it_are_updated(running):
    needs = "needs: {audio: downsample, beats: beats}"
    graph = running.graph.read_text()
    assert graph.count(needs) == 1
    running.graph.write_text(graph.replace(needs, "needs: {audio: downsample}"))
    running.compile_graph()
    running.plan("prod")
    lines = running.terraform.run("apply", "-json", "-input=false", "plan").lines
    hooks = [line["hook"] for line in lines if line["type"] == "apply_complete"]
    order = {(hook["action"], hook["resource"]["addr"]): n for n, hook in enumerate(hooks)}
    updated = {
        job: order["update", f'module.pipeline["{job}"].{FLEX_JOB}.this["streaming"]']
        for job in ("beats", "energy")
    }
    read, published = "google_pubsub_subscription", "google_pubsub_topic"
    for removed, after in {
        f'module.pipeline["energy"].{read}_iam_member.subscriber["energy.done-beats"]': "energy",
        f'module.pipeline["energy"].{read}_iam_member.viewer["energy.done-beats"]': "energy",
        f'module.pipeline["beats"].{published}_iam_member.publisher["done-beats"]': "beats",
        f'module.queue.{read}.this["energy.done-beats"]': "energy",
        f'module.queue.{published}.this["done-beats"]': "beats",
    }.items():
        assert order["delete", removed] > updated[after], removed


def test_a_changed_function_is_built_from_the_archive_that_was_just_uploaded(running):
    def read_generations() -> tuple[float, float]:
        found = {r.address: r.values for r in read_state(running)}
        module = 'module.function["sweep"].'
        archive = found[f"{module}google_storage_bucket_object.archive"]
        (build,) = found[f"{module}google_cloudfunctions2_function.this"]["build_config"]
        return archive["generation"], build["source"][0]["storage_source"][0]["generation"]

    uploaded, built = read_generations()
    assert built == uploaded
    (running.root / "build" / "sweep.zip").write_text("changed")
    apply(running)
    uploaded_later, built = read_generations()
    assert built == uploaded_later != uploaded


def test_the_indexes_of_a_large_ledger_are_created_by_an_apply_that_does_not_wait(
    stand_in, tmp_path
):
    shutil.copytree(INFRA / "modules" / "ledger", tmp_path / "ledger")
    terraform = Terraform(tmp_path / "ledger", stand_in)
    terraform.init()
    given = {"project": "acme", "database": "large", "location": "eur3"}
    options = [f"-var={name}={value}" for name, value in given.items()]
    terraform.plan(*options)
    assert terraform.apply() == []
    planned, _ = terraform.plan(*options)
    assert plan.list_changes(planned) == {}


def test_every_type_of_resource_has_its_facts_about_replacement():
    from provider.replacement import MEMBER, REPLACING

    used = {
        line.split('"')[1]
        for path in Path(INFRA).rglob("*.tf")
        for line in path.read_text().splitlines()
        if line.startswith('resource "google_')
    }
    assert {type_ for type_ in used if not type_.endswith(MEMBER)} == set(REPLACING)
