"""Beam's options: nothing unknown passes, and workers get what they need."""

from __future__ import annotations

import pytest
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    SetupOptions,
    StandardOptions,
)

from segue.errors import ConfigurationError
from segue.model.graph import parse_graph
from segue_pipelines.options import (
    STREAMING_THREADS,
    JavaNames,
    check_secrets,
    is_dataflow,
    is_local,
    is_single_process,
    parse_pipeline_options,
)
from segue_pipelines.runner import build_runner

DATAFLOW = ("--runner", "DataflowRunner", "--sdk_container_image", "x/segue:1", "--no_auth")


def test_a_streaming_pipeline_on_dataflow_runs_many_bundles_in_one_process():
    options = parse_pipeline_options(DATAFLOW, streaming=True)
    assert is_dataflow(options)
    assert not is_local(options)
    assert options.view_as(StandardOptions).streaming is True
    assert options.view_as(SetupOptions).save_main_session is False
    assert options.view_as(GoogleCloudOptions).enable_streaming_engine is True
    debug = options.view_as(DebugOptions)
    assert debug.number_of_worker_harness_threads == STREAMING_THREADS
    assert "no_use_multiple_sdk_containers" in debug.experiments


def test_workers_on_dataflow_have_no_variables_of_this_machine():
    job = "run: 'm:f', needs: {media: source}, writes: application/json, secrets:"
    stored = "{key: projects/acme/secrets/key/versions/1}"
    graph = parse_graph(f"jobs: {{here: {{{job} {{key: 'env:K'}}}}, there: {{{job} {stored}}}}}")
    check_secrets(graph, ["here", "there"], parse_pipeline_options())
    check_secrets(graph, ["there"], parse_pipeline_options(DATAFLOW))
    message = r"^jobs\.here\.secrets\.key: is in an environment variable, .* keep it in Secret Man"
    with pytest.raises(ConfigurationError, match=message):
        check_secrets(graph, ["there", "here"], parse_pipeline_options(DATAFLOW))


def test_a_batch_pipeline_on_dataflow_runs_one_bundle_at_a_time():
    options = parse_pipeline_options(DATAFLOW)
    assert not options.view_as(StandardOptions).streaming
    assert options.view_as(DebugOptions).number_of_worker_harness_threads == 1


def test_options_that_the_caller_set_are_kept():
    more = ("--number_of_worker_harness_threads", "7", "--experiments", "use_sdk_containers=2")
    debug = parse_pipeline_options([*DATAFLOW, *more], streaming=True).view_as(DebugOptions)
    assert debug.number_of_worker_harness_threads == 7
    assert "no_use_multiple_sdk_containers" not in debug.experiments


@pytest.mark.parametrize(
    "runner",
    [
        (),
        ("--runner", "DirectRunner"),
        ("--runner", "FnApiRunner"),
        ("--runner", "directrunner"),
    ],
)
def test_the_local_runner_is_named(runner):
    options = parse_pipeline_options(runner, streaming=True)
    assert is_local(options)
    assert is_single_process(options)
    assert type(build_runner(options)).__name__ == "FnApiRunner"


def test_several_workers_are_not_a_single_process():
    assert not is_single_process(parse_pipeline_options(["--direct_num_workers", "2"]))
    assert not is_single_process(
        parse_pipeline_options(
            ["--direct_running_mode", "multi_threading", "--direct_num_workers", "1"]
        )
    )


@pytest.mark.parametrize("runner", ["Foo", "no_such.module.Runner", "os.NoSuchRunner"])
def test_a_runner_that_beam_cannot_load_is_refused(runner):
    with pytest.raises(ConfigurationError, match=f"--runner is '{runner}'"):
        parse_pipeline_options(["--runner", runner])


@pytest.mark.parametrize(
    ("word", "guess"), [("--proccesses", "--processes"), ("--runer", "--runner")]
)
def test_an_unknown_option_is_refused_with_a_suggestion(word, guess):
    with pytest.raises(ConfigurationError, match=f"did you mean {guess!r}"):
        parse_pipeline_options([word, "2"], ["--processes"], streaming=True)


def test_a_job_on_dataflow_has_its_settings_under_javas_names_too():
    more = ("--temp_location", "gs://work/temp", "--num_workers", "2", "--max_num_workers", "20")
    options = parse_pipeline_options([*DATAFLOW, *more], streaming=True).get_all_options()
    assert {name: options[name] for name in JavaNames.NAMES} == {
        "maxNumWorkers": 20,
        "numWorkers": 2,
        "sdkContainerImage": "x/segue:1",
        "stagingLocation": None,
        "tempLocation": "gs://work/temp",
        "workerMachineType": None,
    }
    with pytest.raises(ConfigurationError, match="write --num_workers"):
        parse_pipeline_options([*DATAFLOW, "--numWorkers=2"], streaming=True)
    local = parse_pipeline_options(["--num_workers", "2"]).get_all_options()
    assert local["numWorkers"] is None
