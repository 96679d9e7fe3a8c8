"""What the Flex Template's launcher does: it describes a job for Dataflow, here with no account."""

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


def launcher():
    path = ROOT / "infra" / "container" / "launch.py"
    spec = importlib.util.spec_from_file_location("flex_template_launch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def launched(bucket, tmp_path, monkeypatch):
    """Launch with some parameters; returns the exit code, and what Dataflow would be asked to run.

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

    def launch(**parameters: str) -> tuple[int, dict, set[str]]:
        given = [f"--{name}={value}" for name, value in {**PLACES, **parameters}.items()]
        code = main(launcher().command([*given, *added]))
        described = json.loads(template.read_text())
        with contextlib.closing(connect_store(f"gs://{bucket}")) as store:
            (name,) = [o.name for o in store.list("stage/") if o.name.endswith("pipeline.pb")]
            pipeline = beam_runner_api_pb2.Pipeline.FromString(store.read(name))
        steps = {t.unique_name for t in pipeline.components.transforms.values()}
        return code, described, {s for s in steps if "/" not in s}

    return launch


def test_a_streaming_pipeline_is_launched_for_the_jobs_that_are_named(launched):
    code, job, steps = launched(jobs="beats,energy", queue="pubsub://acme-project/segue")
    assert (code, job["type"]) == (0, "JOB_TYPE_STREAMING")
    assert {step for step in steps if step.startswith("Read ")} == {
        *("Read beats live", "Read beats requests"),
        *("Read energy live", "Read energy requests"),
    }


def test_a_backfill_is_launched_from_the_same_template(launched):
    code, job, steps = launched(mode="backfill", jobs="energy", from_ledger="failed")
    assert (code, job["type"]) == (0, "JOB_TYPE_BATCH")
    assert {"Read selection", "Work off"} <= steps


def test_a_launch_with_a_job_that_the_image_does_not_have_fails(launched, capfd):
    with pytest.raises(FileNotFoundError):  # nothing was described
        launched(jobs="moods", queue="pubsub://acme-project/segue")
    assert "'moods' is no job of this graph" in capfd.readouterr().err
