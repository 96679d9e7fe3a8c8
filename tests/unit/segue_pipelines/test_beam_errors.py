"""The error that a step raised is recovered from any of Beam's workers."""

from __future__ import annotations

import logging

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from segue.errors import ConfigurationError, DiskFull
from segue_pipelines.beam_errors import unwrap_beam_error
from segue_pipelines.local_runner import build_local_runner

pytestmark = pytest.mark.slow

PLACES = {
    "in this process": [],
    "in another process": [
        *("--direct_running_mode", "multi_processing", "--direct_num_workers", "2"),
    ],
}


class Raise(beam.DoFn):
    """Raises an error of the given kind."""

    def process(self, kind):
        if kind == "full":
            raise DiskFull("no room is left;\nfree some [now]")
        if kind == "wrong":
            raise ConfigurationError("a setting is wrong")
        if kind == "interrupted":
            raise KeyboardInterrupt
        raise ValueError("a mistake")


def caught(kind: str, options: list[str]) -> BaseException:
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    pipeline = beam.Pipeline(runner=build_local_runner(), options=PipelineOptions(options))
    pipeline | beam.Create([kind], reshuffle=False) | "Step" >> beam.ParDo(Raise())
    with pytest.raises((Exception, KeyboardInterrupt)) as found:
        pipeline.run()
    return found.value


@pytest.mark.filterwarnings("default")  # Beam's own, about its threads
@pytest.mark.parametrize("place", PLACES)
def test_an_error_of_ours_keeps_its_class_and_message(place):
    error = unwrap_beam_error(caught("full", PLACES[place]))
    assert type(error) is DiskFull
    assert str(error).startswith("no room is left;\nfree some [now]")
    error = unwrap_beam_error(caught("wrong", PLACES[place]))
    assert type(error) is ConfigurationError


@pytest.mark.filterwarnings("default")
def test_an_interruption_is_one():
    assert type(unwrap_beam_error(caught("interrupted", []))) is KeyboardInterrupt


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("place", PLACES)
def test_any_other_exception_is_not_recovered(place):
    assert unwrap_beam_error(caught("mistake", PLACES[place])) is None
