"""Beam's options: parsed strictly, with what Segue's workers need where nobody said otherwise."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import (
    DebugOptions,
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    WorkerOptions,
)

from segue.adapters.credentials import check_credentials
from segue.errors import ConfigurationError

LOCAL_RUNNERS = {None, "", "DirectRunner", "FnApiRunner"}
# Bundles that wait for a child process or for the ledger side by side: enough of them that every
# core of a large machine has work, although each bundle of a streaming pipeline holds few messages.
STREAMING_THREADS = 64


def pipeline_options(
    arguments: Sequence[str] = (), own: Sequence[str] = (), *, streaming: bool = False
) -> PipelineOptions:
    """Parse Beam's own options, and set what Segue's workers need where nobody said otherwise.

    Beam drops an option that it does not know with a warning; here it is an error, which guesses
    among Beam's options and the command's ``own``.
    """
    parsers: list[Any] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    _, unknown = parsers[0].parse_known_args(list(arguments))
    if unknown:
        known = [*own, *(f"--{name}" for name in PipelineOptions([]).get_all_options())]
        close = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1)
        guess = f"did you mean {close[0]}?" if close else "the command's --help lists Segue's own"
        raise ConfigurationError(f"{unknown[0]!r} is an option of neither Segue nor Beam; {guess}")
    options = PipelineOptions(list(arguments), save_main_session=False)
    if streaming:
        options.view_as(StandardOptions).streaming = True
    if is_dataflow(options):
        _suit_dataflow(options, streaming=streaming)
    return options


def _suit_dataflow(options: PipelineOptions, *, streaming: bool) -> None:
    """One process a machine, whose pool then uses all its cores: several would each start a pool
    that does.
    """
    debug = options.view_as(DebugOptions)
    if not any("sdk_containers" in e for e in debug.experiments or ()):
        debug.add_experiment("no_use_multiple_sdk_containers")
    if debug.number_of_worker_harness_threads is None:
        debug.number_of_worker_harness_threads = STREAMING_THREADS if streaming else 1
    if options.view_as(WorkerOptions).sdk_container_image is None:
        raise ConfigurationError(
            "on Dataflow the jobs run in Segue's container; name it with --sdk_container_image"
        )
    cloud = options.view_as(GoogleCloudOptions)
    if streaming:
        cloud.enable_streaming_engine = True
    if not cloud.no_auth:
        check_credentials()  # Beam would look for them for minutes


def is_local(options: PipelineOptions) -> bool:
    """Whether the workers run on this machine."""
    return options.view_as(StandardOptions).runner in LOCAL_RUNNERS


def is_dataflow(options: PipelineOptions) -> bool:
    """Whether Dataflow runs the pipeline."""
    return "dataflow" in (options.view_as(StandardOptions).runner or "").lower()


def runs_here_alone(options: PipelineOptions) -> bool:
    """Whether one worker in this process does everything."""
    direct = options.view_as(DirectOptions)
    return (
        is_local(options)
        and direct.direct_num_workers == 1
        and direct.direct_running_mode in (None, "in_memory")
    )


def runner_of(options: PipelineOptions) -> Any:
    """Name the local runner: the default would first look for another to download, with other
    semantics.
    """
    if not is_local(options):
        return options.view_as(StandardOptions).runner
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    return FnApiRunner()
