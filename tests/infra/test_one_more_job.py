"""A job that is added to the graph gets its own resources, and no other job's is made anew.

A job that joins a pipeline changes only what that pipeline runs and may do.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import pytest
from harness import plan
from harness.environment import Tree

from segue.model.graph import parse_graph
from segue_support.paths import ROOT

pytestmark = pytest.mark.xdist_group("infra")

JOB = """
  mood:
    run: segue.features.dynamics:energy
    needs: {audio: downsample, beats: beats}
    writes: application/json
    owner: rhythm
"""
BEFORE = (ROOT / "shared" / "segue" / "features" / "jobs.yaml").read_text()
PIPELINE = 'google_dataflow_flex_template_job.this["streaming"]'
IMAGE = f"europe-docker.pkg.dev/acme/segue/segue@sha256:{'0' * 64}"
PARENTS = ("beats", "downsample")
SUBSCRIPTIONS = ("mood.inbox", *(f"mood.done-{parent}" for parent in PARENTS))
OWN = {
    'module.queue.google_pubsub_topic.this["inbox-mood"]',
    *(f'module.queue.google_pubsub_subscription.this["{name}"]' for name in SUBSCRIPTIONS),
    'module.pipeline["mood"].google_service_account.this',
    f'module.pipeline["mood"].{PIPELINE}',
    'module.pipeline["mood"].google_artifact_registry_repository_iam_member.image',
    *(f'module.pipeline["mood"].google_project_iam_member.{of}' for of in ("ledger", "worker")),
    'module.pipeline["mood"].google_project_iam_member.launcher[0]',
    *(
        f'module.pipeline["mood"].google_storage_bucket_iam_member.{of}'
        for of in ('artifacts["0"]', "catalogue", 'parents["0"]', "work")
    ),
    *(
        f'module.pipeline["mood"].google_pubsub_subscription_iam_member.{of}["{name}"]'
        for of in ("subscriber", "viewer")
        for name in SUBSCRIPTIONS
    ),
    *(
        f'module.pipeline["mood"].google_pubsub_topic_iam_member.publisher["{topic}"]'
        for topic in ("inbox-mood", "dead", *(f"inbox-{parent}" for parent in PARENTS))
    ),
    # Requests come down its lines, and from the functions that request and sweep.
    *(
        f'module.pipeline["{parent}"].google_pubsub_topic_iam_member.publisher["inbox-mood"]'
        for parent in PARENTS
    ),
    *(
        f'module.function["{name}"].google_pubsub_topic_iam_member.publisher["inbox-mood"]'
        for name in ("request", "sweep")
    ),
}


def add_job(tree: Tree, groups: str = "", job: str = JOB) -> None:
    tree.graph.write_text(groups + tree.graph.read_text() + job)
    tree.compile_graph()


def list_changes_by_address(planned: dict) -> dict[str, dict]:
    return {c["address"]: c["change"] for c in planned["resource_changes"]}


def test_it_makes_exactly_what_is_its_own(tree):
    image = f"-var=image={IMAGE}"
    before, _ = tree.plan("prod", image)
    add_job(tree)
    after, warnings = tree.plan("prod", image)
    assert warnings == []
    changes = list_changes_by_address(after)
    assert set(changes) - set(list_changes_by_address(before)) == OWN
    others = {address: change for address, change in changes.items() if address not in OWN}
    assert others == list_changes_by_address(before)


@pytest.mark.parametrize("is_published", [True, False])
def test_a_job_below_a_published_one_changes_no_topic_of_its_parent_and_not_what_runs(
    tree, is_published
):
    run = "    run: segue.features.ebu_r128:loudness\n"
    publish = f"    publish: {str(is_published).lower()}\n"
    graph = tree.graph.read_text()
    assert graph.count(run) == 1
    tree.graph.write_text(graph.replace(run, publish + run))
    tree.compile_graph()
    image = f"-var=image={IMAGE}"
    before, _ = tree.plan("prod", image)
    add_job(tree, job=JOB.replace("{audio: downsample, beats: beats}", "{level: loudness}"))
    after, warnings = tree.plan("prod", image)
    assert warnings == []
    was, now = list_changes_by_address(before), list_changes_by_address(after)
    assert {address: change for address, change in now.items() if address in was} == was
    new = set(now) - set(was)
    assert 'module.queue.google_pubsub_subscription.this["mood.done-loudness"]' in new
    # Within the graph, the parent passes requests on to its child. The job is the first to read
    # what the parent finishes, unless that is published anyway.
    topics = {"inbox-mood"} if is_published else {"inbox-mood", "done-loudness"}
    created = (re.search(r'google_pubsub_topic\.this\["(.*)"\]', address) for address in new)
    assert {found[1] for found in created if found} == topics
    assert {address for address in new if address.startswith('module.pipeline["loudness"]')} == {
        f'module.pipeline["loudness"].google_pubsub_topic_iam_member.publisher["{topic}"]'
        for topic in topics
    }


def test_a_job_that_joins_a_pipeline_changes_what_that_one_runs_and_may_write(tree):
    image = f"-var=image={IMAGE}"
    before, _ = tree.plan("prod", image)
    add_job(tree, "pipelines: {energy: [energy, mood]}\n")
    after, warnings = tree.plan("prod", image)
    assert warnings == []
    was, now = list_changes_by_address(before), list_changes_by_address(after)
    assert set(was) == set(now)
    results = 'module.pipeline["energy"].google_storage_bucket_iam_member.artifacts["0"]'
    running = f'module.pipeline["energy"].{PIPELINE}'
    assert {address for address, change in now.items() if change != was[address]} == {
        results,
        running,
    }
    assert now[running]["after"]["parameters"]["jobs"] == "energy,mood"
    (condition,) = now[results]["after"]["condition"]
    assert "/objects/energy/" in condition["expression"]
    assert "/objects/mood/" in condition["expression"]


def test_an_image_that_is_built_from_the_sources_reaches_all_pipelines_in_place(prod, tmp_path):
    shutil.copytree(prod.tree.root, tmp_path / "tree")  # with its state
    tree = replace(prod.tree, root=tmp_path / "tree")
    add_job(tree)
    planned, warnings = tree.plan("prod")
    assert warnings == []
    found = plan.list_changes(planned)
    assert {a for a, what in found.items() if what == "create"} == OWN
    running = (f'module.pipeline["{job}"].{PIPELINE}' for job in parse_graph(BEFORE).jobs)
    assert {a: what for a, what in found.items() if a not in OWN} == {
        "module.images.terraform_data.build[0]": "replace",  # the graph is baked into the image
        "module.images.google_storage_bucket_object.template": "replace",  # named by its content
        **dict.fromkeys(running, "update"),
    }
