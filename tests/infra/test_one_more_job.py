"""A job that is added to the graph gets its own resources, and no other job's is made anew."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from rig import environment, plan, tools
from rig.tree import Tree

from segue.model.graph import parse_graph

pytestmark = pytest.mark.xdist_group("infra")

JOB = """
  mood:
    run: segue.features.dynamics:energy
    needs: {audio: downsample, beats: beats}
    writes: application/json
    owner: research
"""
BEFORE = (tools.ROOT / "shared" / "segue" / "features" / "jobs.yaml").read_text()
PIPELINE = 'google_dataflow_flex_template_job.this["streaming"]'
IMAGE = f"europe-docker.pkg.dev/acme/segue/segue@sha256:{'0' * 64}"
PARENTS = ("beats", "downsample")
LANES = ("live", "requests")
TOLD = tuple(f"mood-{lane}" for lane in LANES)
OWN = {
    *(
        f'module.ledger.google_firestore_index.query["mood/{of}"]'
        for of in ("state", "fingerprint")
    ),
    *(f'module.queue.google_pubsub_topic.lane["{topic}"]' for topic in TOLD),
    *(f'module.queue.google_pubsub_subscription.lane["{topic}"]' for topic in TOLD),
    'module.queue.google_pubsub_topic.dead["mood"]',
    'module.queue.google_pubsub_subscription.dead["mood"]',
    'module.pipeline["mood"].google_service_account.this',
    f'module.pipeline["mood"].{PIPELINE}',
    'module.pipeline["mood"].google_artifact_registry_repository_iam_member.image',
    *(f'module.pipeline["mood"].google_project_iam_member.{of}' for of in ("ledger", "worker")),
    'module.pipeline["mood"].google_project_iam_member.launcher[0]',
    *(
        f'module.pipeline["mood"].google_storage_bucket_iam_member.{of}'
        for of in ("artifacts", "catalogue", "work")
    ),
    *(
        f'module.pipeline["mood"].google_pubsub_subscription_iam_member.{of}["{topic}"]'
        for of in ("subscriber", "viewer")
        for topic in TOLD
    ),
    # It tells itself and asks its parents.
    *(
        f'module.pipeline["mood"].google_pubsub_topic_iam_member.publisher["{topic}"]'
        for topic in (*TOLD, "mood-dead", *(f"{p}-{lane}" for p in PARENTS for lane in LANES))
    ),
    # Others may tell it: its parents, and the functions that send requests and repair.
    *(
        f'module.pipeline["{parent}"].google_pubsub_topic_iam_member.publisher["{topic}"]'
        for parent in PARENTS
        for topic in TOLD
    ),
    'module.function["request"].google_pubsub_topic_iam_member.publisher["mood-requests"]',
    *(f'module.function["sweep"].google_pubsub_topic_iam_member.publisher["{t}"]' for t in TOLD),
}


def changes(tree: Tree, *options: str) -> dict[str, str]:
    """What is planned when a job is added to an environment that is there."""
    tree.graph.write_text(tree.graph.read_text() + JOB)
    planned, warnings = tree.plan("prod", *options)
    assert warnings == []
    return plan.changes(planned)


def test_it_makes_exactly_what_is_its_own(tmp_path, stand_in_providers):
    image = f"-var=image={IMAGE}"
    built = environment.build("prod", tmp_path, stand_in_providers, image)
    assert changes(built.tree, image) == dict.fromkeys(sorted(OWN), "create")


def test_an_image_that_is_built_from_the_sources_reaches_all_pipelines_in_place(prod, tmp_path):
    shutil.copytree(prod.tree.root, tmp_path / "tree")  # with its state
    found = changes(replace(prod.tree, root=tmp_path / "tree"))
    assert {a for a, what in found.items() if what == "create"} == OWN
    running = (f'module.pipeline["{job}"].{PIPELINE}' for job in parse_graph(BEFORE).jobs)
    assert {a: what for a, what in found.items() if a not in OWN} == {
        "module.images.terraform_data.build[0]": "replace",  # the graph is baked into the image
        "module.images.google_storage_bucket_object.template": "update",
        **dict.fromkeys(running, "update"),
    }
