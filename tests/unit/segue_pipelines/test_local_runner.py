"""A pipeline that fails ends, even if one of its worker processes is still starting."""

from __future__ import annotations

import sys

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from segue_pipelines.local_runner import build_local_runner

# Workers are numbered, and the one with the even or the odd number starts late.
COMMAND = (
    "test $(( ${{WORKER_ID##*_}} % 2 )) = {late} && sleep 8; "
    "{python} -m apache_beam.runners.worker.sdk_worker_main"
)


class Fail(beam.DoFn):
    """Raises, whatever it gets."""

    def process(self, element):
        raise ValueError(element)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("default")  # Beam's own, about its threads
@pytest.mark.parametrize("late", [0, 1])  # one of them is the one that fails
def test_a_worker_that_starts_after_the_failure_stops_too(late):
    runner = build_local_runner()
    runner._default_environment = SubprocessSDKEnvironment.from_command_string(
        COMMAND.format(late=late, python=sys.executable)
    )
    options = PipelineOptions(["--direct_num_workers", "2"])
    pipeline = beam.Pipeline(runner=runner, options=options)
    pipeline | beam.Create(["a mistake"], reshuffle=False) | beam.ParDo(Fail())
    with pytest.raises(Exception, match="a mistake"):
        pipeline.run()
