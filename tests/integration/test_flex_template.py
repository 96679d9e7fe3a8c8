"""The Flex Template's launcher describes a Dataflow job, here without an account."""

from __future__ import annotations

import contextlib
import importlib.util
import json

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from segue.adapters.connect import connect_store
from segue_cli.main import main
from segue_support.paths import ROOT

pytestmark = pytest.mark.filterwarnings("default")  # Beam's own, about its options

PLACES = {
    "catalogue": "gs://acme-audio/masters",
    "artifacts": "gs://acme-features",
    "ledger": "firestore://acme-project/segue",
}


def load_launcher():
    path = ROOT / "infra" / "container" / "launch.py"
    spec = importlib.util.spec_from_file_location("flex_template_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def launch(bucket, tmp_path, monkeypatch):
    """Return a function that launches with some parameters; it returns exit code, job and steps.

    The launcher adds Beam's options to the parameters, as it does in the cloud.
    """
    from apache_beam.internal.gcp import auth

    # Looking for credentials that are not there takes twenty seconds.
    monkeypatch.setattr(auth, "get_service_credentials", lambda _options: None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGUE_GRAPH", str(ROOT / "shared" / "segue" / "features" / "jobs.yaml"))
    template = tmp_path / "job.json"
    added = (
        *("--runner=DataflowRunner", "--project=acme-project", "--region=europe-west1"),
        *("--job_name=segue-job", "--sdk_container_image=registry.example/segue:1", "--no_auth"),
        *(f"--temp_location=gs://{bucket}/temp", f"--staging_location=gs://{bucket}/stage"),
        f"--template_location={template}",
    )

    def run(**parameters: str) -> tuple[int, dict, set[str]]:
        given = [f"--{name}={value}" for name, value in {**PLACES, **parameters}.items()]
        code = main(load_launcher().build_command([*given, *added]))
        job = json.loads(template.read_text())
        with contextlib.closing(connect_store(f"gs://{bucket}")) as store:
            (name,) = [o.name for o in store.list("stage/") if o.name.endswith("pipeline.pb")]
            pipeline = beam_runner_api_pb2.Pipeline.FromString(store.read(name))
        steps = {t.unique_name for t in pipeline.components.transforms.values()}
        return code, job, {s for s in steps if "/" not in s}

    return run


def test_a_streaming_pipeline_is_launched_for_the_jobs_that_are_named(launch):
    code, job, steps = launch(jobs="beats,energy", queue="pubsub://acme-project/segue")
    assert (code, job["type"]) == (0, "JOB_TYPE_STREAMING")
    assert {step for step in steps if step.startswith("Read ")} == {
        *("Read beats.done-downsample", "Read beats.inbox"),
        *("Read energy.done-downsample", "Read energy.done-beats", "Read energy.inbox"),
    }


def test_a_backfill_is_launched_from_the_same_template(launch):
    code, job, steps = launch(mode="backfill", jobs="energy", from_ledger="failed")
    assert (code, job["type"]) == (0, "JOB_TYPE_BATCH")
    assert {"Read selection", "Compute"} <= steps


def test_a_launch_with_a_job_that_the_image_does_not_have_fails(launch, capfd):
    with pytest.raises(FileNotFoundError):  # no job was described
        launch(jobs="moods", queue="pubsub://acme-project/segue")
    assert "'moods' is not a job of this graph" in capfd.readouterr().err
