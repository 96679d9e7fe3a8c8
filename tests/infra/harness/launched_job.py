"""A streaming job of Segue as Dataflow is told of it, by Segue's own code and Beam's."""

from __future__ import annotations

import functools
from typing import Any

# How the launcher of the Flex Template calls Segue: settings of Terraform as Beam's options.
FLAGS = {
    "runner": "DataflowRunner",
    "project": "acme",
    "region": "europe-west1",
    "job_name": "segue-job-beats",
    "temp_location": "gs://work/temp/beats",
    "staging_location": "gs://work/staging/beats",
    "num_workers": "2",
    "max_num_workers": "20",
    "machine_type": "n2-standard-2",
    "sdk_container_image": "europe-docker.pkg.dev/acme/segue/segue:1",
    "subnetwork": "regions/europe-west1/subnetworks/segue-workers",
}


@functools.cache
def publish_options() -> dict[str, Any]:
    """Return the options by which the job describes itself to Dataflow; nothing is sent."""
    from apache_beam.runners.dataflow.internal import apiclient

    from segue_pipelines.options import parse_pipeline_options

    words = [*(f"--{name}={value}" for name, value in FLAGS.items()), "--no_auth"]
    options = parse_pipeline_options(words, streaming=True)
    proto = apiclient.Environment([], options, "1", "gs://work/graph").proto
    published: dict[str, Any] = type(proto).to_dict(proto)["sdk_pipeline_options"]["options"]
    return published


def list_published_options() -> list[str]:
    """Return the names of these options."""
    return sorted(publish_options())
