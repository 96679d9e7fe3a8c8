"""Parses Beam's options strictly, with defaults that suit Segue's workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.runners.runner import create_runner

from segue.adapters.connect import check_credentials
from segue.errors import ConfigurationError, suggest
from segue.model.graph import Graph
from segue.model.secret_reference import find_variable

LOCAL_RUNNERS = {"", "directrunner", "fnapirunner"}  # Beam takes names in any case
# Bundles that wait for a child process or for the ledger at the same time: enough to keep every
# core of a large machine busy, although a bundle of a streaming pipeline has few messages.
STREAMING_THREADS = 64


class JavaNames(PipelineOptions):  # type: ignore[misc]
    """Options of Beam once more, under the names that Beam's Java SDK gives them.

    Terraform's provider reads a job's settings under these names, whatever SDK the job uses. Where
    it finds none, it takes the setting as lost, and launches the job again or replaces it.
    """

    NAMES: ClassVar[dict[str, str]] = {  # Java's name → Python's
        "maxNumWorkers": "max_num_workers",
        "numWorkers": "num_workers",
        "sdkContainerImage": "sdk_container_image",
        "stagingLocation": "staging_location",
        "tempLocation": "temp_location",
        "workerMachineType": "machine_type",
    }

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        for name in cls.NAMES:
            parser.add_argument(f"--{name}", type=int if name.endswith("Workers") else str)


def parse_pipeline_options(
    arguments: Sequence[str] = (), own: Sequence[str] = (), *, streaming: bool = False
) -> PipelineOptions:
    """Parse Beam's options, and set those that Segue's workers need and the caller did not set.

    Beam ignores an unknown option with a warning; here it is an error, which suggests the closest
    of Beam's options and the command's ``own``.
    """
    for word in arguments:
        given, _, _ = word.partition("=")
        if given.startswith("--") and (name := JavaNames.NAMES.get(given[2:])):
            raise ConfigurationError(f"{word!r} is an option of Beam's Java SDK; write --{name}")
    parsers: list[Any] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    _, unknown = parsers[0].parse_known_args(list(arguments))
    if unknown:
        beams = [n for n in PipelineOptions([]).get_all_options() if n not in JavaNames.NAMES]
        known = [*own, *(f"--{name}" for name in beams)]
        listed = "the command's --help lists Segue's own"
        hint = suggest(unknown[0].split("=")[0], known, otherwise=listed)
        raise ConfigurationError(f"{unknown[0]!r} is not an option of Segue or Beam; {hint}")
    options = PipelineOptions(list(arguments), save_main_session=False)
    _check_runner(options)
    if streaming:
        options.view_as(StandardOptions).streaming = True
    if is_dataflow(options):
        _configure_dataflow(options, streaming=streaming)
    return options


def _check_runner(options: PipelineOptions) -> None:
    if is_local(options):
        return
    runner = options.view_as(StandardOptions).runner
    try:
        create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"--runner is {runner!r}, which Beam cannot load ({error}); write DirectRunner, "
            "DataflowRunner or another of Beam's runners"
        ) from error


def _configure_dataflow(options: PipelineOptions, *, streaming: bool) -> None:
    """Run one process per machine: its pool uses all cores, and so would that of each other one."""
    debug = options.view_as(DebugOptions)
    if not any("sdk_containers" in e for e in debug.experiments or ()):
        debug.add_experiment("no_use_multiple_sdk_containers")
    if debug.number_of_worker_harness_threads is None:
        debug.number_of_worker_harness_threads = STREAMING_THREADS if streaming else 1
    if options.view_as(WorkerOptions).sdk_container_image is None:
        raise ConfigurationError(
            "no container image is set, and on Dataflow the jobs run in Segue's container; name it "
            "with --sdk_container_image"
        )
    values, java = options.get_all_options(), options.view_as(JavaNames)
    for name, python_name in JavaNames.NAMES.items():
        setattr(java, name, values[python_name])
    cloud = options.view_as(GoogleCloudOptions)
    if streaming:
        cloud.enable_streaming_engine = True
    if not cloud.no_auth:
        check_credentials()  # Beam would search for minutes


def is_local(options: PipelineOptions) -> bool:
    """Whether the workers run on this machine."""
    return (options.view_as(StandardOptions).runner or "").lower() in LOCAL_RUNNERS


def find_remote_runner(options: PipelineOptions) -> str | None:
    """Return the runner's name if the workers run elsewhere than on this machine."""
    return None if is_local(options) else options.view_as(StandardOptions).runner


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether Dataflow runs the pipeline."""
    return "dataflow" in (options.view_as(StandardOptions).runner or "").lower()


def check_secrets(graph: Graph, jobs: Iterable[str], options: PipelineOptions) -> None:
    """Check that the secrets of jobs are where workers of Dataflow find them."""
    if not is_dataflow(options):
        return
    for name in jobs:
        for parameter, reference in graph.jobs[name].secrets.items():
            if find_variable(reference) is not None:
                raise ConfigurationError(
                    f"jobs.{name}.secrets.{parameter}: is in an environment variable, which "
                    "workers on Dataflow do not have; keep it in Secret Manager"
                )


def has_worker_processes(options: PipelineOptions) -> bool:
    """Whether workers are other processes than this one."""
    return not is_local(options) or (
        options.view_as(DirectOptions).direct_running_mode == "multi_processing"
    )


def is_single_process(options: PipelineOptions) -> bool:
    """Whether one worker in this process does everything."""
    direct = options.view_as(DirectOptions)
    return (
        is_local(options)
        and direct.direct_num_workers == 1
        and direct.direct_running_mode in (None, "in_memory")
    )
