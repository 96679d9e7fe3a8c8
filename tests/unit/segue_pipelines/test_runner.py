"""A pipeline that fails ends, with the error that a step raised, on any of Beam's workers."""

from __future__ import annotations

import logging
import sys
import tempfile

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from segue.errors import ConfigurationError, DiskFull
from segue_pipelines.runner import build_runner, run_pipeline, unwrap_beam_error

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
    parsed = PipelineOptions(options)
    pipeline = beam.Pipeline(runner=build_runner(parsed), options=parsed)
    pipeline | beam.Create([kind], reshuffle=False) | "Step" >> beam.ParDo(Raise())
    with pytest.raises((Exception, KeyboardInterrupt)) as found:
        pipeline.run()
    return found.value


@pytest.mark.filterwarnings("default")  # Beam's own, about its threads
@pytest.mark.parametrize("place", PLACES)
def test_an_error_of_ours_keeps_its_class_and_message(place):
    error = unwrap_beam_error(caught("full", PLACES[place]))
    assert type(error) is DiskFull
    assert str(error) == "no room is left;\nfree some [now]"
    error = unwrap_beam_error(caught("wrong", PLACES[place]))
    assert type(error) is ConfigurationError


@pytest.mark.filterwarnings("default")
def test_an_interruption_is_one():
    assert type(unwrap_beam_error(caught("interrupted", []))) is KeyboardInterrupt


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("place", PLACES)
def test_any_other_exception_is_not_recovered(place):
    assert unwrap_beam_error(caught("mistake", PLACES[place])) is None


# Workers are numbered. The one with the even or the odd number starts when the other has failed, or
# after five seconds: the other has nothing to do.
COMMAND = (
    "if test $(( ${{WORKER_ID##*_}} % 2 )) = {late}; then "
    "for i in $(seq 50); do test -e {failed} && sleep 0.5 && break; sleep 0.1; done; fi; "
    "{python} -m apache_beam.runners.worker.sdk_worker_main"
)


class Fail(beam.DoFn):
    """Raises, whatever it gets, and leaves a file."""

    def __init__(self, failed):
        self._failed = failed

    def process(self, element):
        open(self._failed, "w").close()
        raise ValueError(element)


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("default")  # Beam's own, about its threads
@pytest.mark.parametrize("late", [0, 1])  # one of them is the one that fails
def test_a_worker_that_starts_after_the_failure_stops_too(late, tmp_path):
    failed = str(tmp_path / "failed")
    options = PipelineOptions(["--direct_num_workers", "2"])
    runner = build_runner(options)
    runner._default_environment = SubprocessSDKEnvironment.from_command_string(
        COMMAND.format(late=late, failed=failed, python=sys.executable)
    )
    pipeline = beam.Pipeline(runner=runner, options=options)
    pipeline | beam.Create(["a mistake"], reshuffle=False) | beam.ParDo(Fail(failed))
    with pytest.raises(Exception, match="a mistake"):
        pipeline.run()


def test_a_pipeline_leaves_no_folder_behind_if_it_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []
    options = PipelineOptions([])

    def build(pipeline: beam.Pipeline) -> None:
        seen.append(list(tmp_path.iterdir()))
        _ = pipeline | beam.Create([1])

    run_pipeline(build, options)
    assert seen == [[]]
