"""The backfill in its cloud form: Firestore and Cloud Storage on emulators, and the job description
that Dataflow gets.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from segue.adapters.connect import connect_ledger, connect_store
from segue.errors import ConfigurationError
from segue.ingest.catalogue import MediaFilter
from segue.model.graph import read_graph
from segue.model.ledger import Query
from segue.model.run import RunState, load_run
from segue.model.transitions import is_current
from segue.testing.music import music
from segue.testing.sound import tone, write
from segue_pipelines.backfill import BackfillRun, build
from segue_pipelines.options import parse_pipeline_options
from segue_pipelines.sources import Selection

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
SHIPPED_GRAPH = os.path.join(os.path.dirname(__file__), "../../shared/segue/features/jobs.yaml")


def segue(folder, *arguments: str, code: int = 0) -> dict:
    done = subprocess.run(
        [SEGUE, *arguments, "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


@pytest.fixture
def catalogue(tmp_path):
    """A folder of sound files."""
    folder = tmp_path / "catalogue"
    (folder / "one album").mkdir(parents=True)
    write(music(1, bpm=120, duration_s=6.0), str(folder / "one album/ü song.mp3"))
    write(tone(440, 2.0, sr=16000), str(folder / "tone.wav"))
    write(music(2, bpm=100, duration_s=4.0), str(folder / "other.flac"))
    (folder / "empty.mp3").write_bytes(b"")
    return folder


def upload_all(folder, location: str) -> None:
    store = connect_store(location)
    for found in list(connect_store(str(folder)).list()):
        data = (folder / found.name).read_bytes()
        store.create(found.name, data, content_type="audio/x", metadata={})
    store.close()


def read_artifacts(location: str) -> dict[str, list[bytes]]:
    """The bytes of all artifacts of each job."""
    store = connect_store(location)
    found: dict[str, list[bytes]] = {}
    for artifact in store.list():
        found.setdefault(artifact.name.split("/")[0], []).append(store.read(artifact.name))
    store.close()
    found.pop("_runs", None)
    return {job: sorted(data) for job, data in found.items() if job != "_runs"}


def test_the_cloud_form_writes_the_same_bytes_and_the_same_ledger(
    catalogue, tmp_path, bucket, firestore_url
):
    upload_all(catalogue, f"gs://{bucket}/masters")
    cloud = ("--ledger", firestore_url, "--artifacts", f"gs://{bucket}/features")
    command = ("backfill", "--job", "energy", "--tolerate", "50%")
    there = segue(tmp_path, *command, "--prefix", f"gs://{bucket}/masters/", *cloud)
    here = segue(tmp_path, *command, "--prefix", str(catalogue))
    assert {j: v["statuses"] for j, v in there["jobs"].items()} == {
        j: v["statuses"] for j, v in here["jobs"].items()
    }
    assert read_artifacts(f"gs://{bucket}/features") == read_artifacts(
        str(tmp_path / ".segue/artifacts")
    )
    with contextlib.closing(connect_store(f"gs://{bucket}/features")) as store:
        run = load_run(store, there["run"])
    assert (run.state, run.counts.files) == (RunState.DONE, there["files"])
    ledger = connect_ledger(firestore_url)
    graph = read_graph(SHIPPED_GRAPH, {})
    found = ledger.find(Query(prefix=f"gs://{bucket}/masters/"))
    assert [r.media.name for r in found if is_current(graph, r, "energy")] == [
        "masters/one album/ü song.mp3",
        "masters/other.flac",
        "masters/tone.wav",
    ]
    ledger.close()
    again = segue(tmp_path, *command, "--prefix", f"gs://{bucket}/masters/", *cloud)
    assert again["jobs"]["energy"]["statuses"] == {"current": 3, "blocked": 1}


def test_a_listing_of_a_bucket_is_split_where_work_is_spread(
    catalogue, tmp_path, bucket, firestore_url
):
    upload_all(catalogue, f"gs://{bucket}/masters")
    summary = segue(
        tmp_path,
        *("backfill", "--job", "downsample", "--tolerate", "50%"),
        *("--prefix", f"gs://{bucket}/masters/", "--ledger", firestore_url),
        *("--artifacts", f"gs://{bucket}/features"),
        *("--direct_running_mode", "multi_threading", "--direct_num_workers", "2"),
    )
    assert summary["files"] == 4
    assert summary["jobs"]["downsample"]["statuses"] == {"done": 3, "failed": 1}


def test_a_prefix_of_a_bucket_that_nothing_has_is_a_mistake_and_an_empty_catalogue_is_not(
    tmp_path, bucket
):
    store = connect_store(f"gs://{bucket}")
    store.create("music/a.flac", b"x", content_type="audio/flac", metadata={})
    store.close()
    command = ("plan", "--job", "energy")
    assert segue(tmp_path, *command, "--prefix", f"gs://{bucket}/music")["files"] == 1
    done = subprocess.run(
        [SEGUE, *command, "--prefix", f"gs://{bucket}/mus"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert f"there is no object 'gs://{bucket}/mus', and none below it" in done.stderr
    assert segue(tmp_path, *command, "--catalogue", f"gs://{bucket}/new")["files"] == 0


OPTIONS = (
    *("--runner", "DataflowRunner", "--project", "acme-project", "--region", "europe-west1"),
    *("--sdk_container_image", "registry.example/segue:1", "--no_auth"),
)


@pytest.fixture
def dataflow_job(bucket, tmp_path, monkeypatch) -> tuple[dict, beam_runner_api_pb2.Pipeline]:
    """The job description that Dataflow would get, built without an account."""
    from apache_beam.internal.gcp import auth

    # Looking for credentials that are not there takes twenty seconds.
    monkeypatch.setattr(auth, "get_service_credentials", lambda _options: None)
    run = BackfillRun(
        graph=read_graph(SHIPPED_GRAPH),
        selection=Selection(
            prefix="gs://acme-audio/masters/", media_filter=MediaFilter(include=("*.flac",))
        ),
        targets=("energy",),
        ledger="firestore://acme-project",
        artifacts="gs://acme-features",
    )
    template = str(tmp_path / "job.json")
    places = (
        "--temp_location",
        f"gs://{bucket}/temp",
        "--staging_location",
        f"gs://{bucket}/stage",
    )
    options = parse_pipeline_options([*OPTIONS, *places, "--template_location", template])
    pipeline = beam.Pipeline(options=options)
    build(pipeline, run, spread=True)
    pipeline.run()
    with open(template) as file:
        job = json.load(file)
    store = connect_store(f"gs://{bucket}")
    (name,) = [o.name for o in store.list("stage/") if o.name.endswith("pipeline.pb")]
    proto = beam_runner_api_pb2.Pipeline()
    proto.ParseFromString(store.read(name))
    store.close()
    return job, proto


@pytest.mark.filterwarnings("default")  # Beam's own, about its options
def test_dataflow_is_asked_for_one_process_per_machine_in_our_container(dataflow_job):
    job, proto = dataflow_job
    environment = job["environment"]
    assert environment["version"]["job_type"] == "FNAPI_BATCH"
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    (pool,) = environment["workerPools"]
    assert pool["numThreadsPerWorker"] == 1
    (image,) = {i["containerImage"] for i in pool["sdkHarnessContainerImages"]}
    assert image == "registry.example/segue:1"
    labels = {t.unique_name for t in proto.components.transforms.values()}
    assert {
        "Read selection/Start",
        "Read selection/Split prefix",
        "Read selection/Spread shards",
        "Read selection/List",
        "Read selection/Spread files",
        "Compute",
    } <= labels


def test_dataflow_without_credentials_is_refused_at_once(monkeypatch, tmp_path):
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "GCE_METADATA_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(ConfigurationError, match="gcloud auth application-default login"):
        parse_pipeline_options([option for option in OPTIONS if option != "--no_auth"])


def test_dataflow_without_a_container_is_refused_with_the_remedy():
    with pytest.raises(ConfigurationError, match="--sdk_container_image"):
        parse_pipeline_options(["--runner", "DataflowRunner", "--project", "p", "--region", "r"])
