"""The child process of `bench.light` and `bench.jobs`: runs the jobs of a graph on one file.

    python -P bench/stages.py MEDIA              a round for each line of the standard input
    python -P bench/stages.py MEDIA plain GRAPH  the same, with the plain calls of libraries, of the
                                                 jobs on arrival of a graph, or else the default one
    python -P bench/stages.py MEDIA first JOB    the first call of a job, behind all that it needs
    python -P bench/stages.py MEDIA list         the names of the jobs

It prints JSON: CPU of this process and its children in ms. Without plain calls it imports nothing
but the library, so any checkout's Python can run this file.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
SOURCE = "source"

Compare = Callable[[str, Mapping[str, Any], Mapping[str, str]], None]  # stage, values, models


@dataclass(slots=True)
class Round:
    """What one round has used: CPU of this process and its children, in ms."""

    stages: dict[str, float] = field(default_factory=dict)  # decoding, jobs, content types
    encoding: dict[str, float] = field(default_factory=dict)  # by job
    plain: dict[str, float] = field(default_factory=dict)
    found: dict[str, dict[str, Any]] = field(default_factory=dict)  # of results in JSON, by job
    missing: dict[str, str] = field(
        default_factory=dict
    )  # why a stage has no plain call, or ran not


def measure(spent: dict[str, float], stage: str, call: Callable[[], Any]) -> Any:
    """Call a function, and add its CPU to that of a stage."""
    started = read_cpu()
    result = call()
    spent[stage] = spent.get(stage, 0.0) + (read_cpu() - started) * 1e3
    return result


def read_cpu() -> float:
    """Return the CPU that this process and the children that have ended have used, in seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@contextlib.contextmanager
def open_media(path: str) -> Iterator[Any]:
    """Open a media file as a worker does."""
    from segue.media.decode import LocalMedia

    with tempfile.TemporaryDirectory() as folder:
        yield LocalMedia(uri=f"file://{path}", version="1", path=path, folder=folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyJob:
    """A job that can be called."""

    spec: Any
    call: Callable[[Mapping[str, Any]], Any]
    models: Mapping[str, str]  # paths, by parameter

    @property
    def outputs(self) -> dict[str, str]:
        """The content types of its outputs, by what refers to them."""
        writes, name = self.spec.writes, self.spec.name
        if isinstance(writes, str):
            return {name: writes}
        return {f"{name}.{output}": content_type for output, content_type in writes.items()}


def load(graph: Any, spec: Any) -> ReadyJob:
    """Import a job, and load its models if it has any."""
    module, _, name = spec.run.partition(":")
    target = getattr(import_module(module), name)
    if not isinstance(target, type):
        return ReadyJob(spec=spec, call=lambda inputs: target(**inputs, **spec.params), models={})
    from segue.worker.line_run import load_job
    from segue.worker.model_paths import check_models, find_model_paths

    check_models(graph, [spec.name])
    models = find_model_paths(graph, spec.name)
    return ReadyJob(spec=spec, call=load_job(graph, spec.name).call, models=models)


def run_jobs(
    measured: Round, media: Any, jobs: list[ReadyJob], compare: Compare = lambda *_: None
) -> None:
    """Run jobs in their order, each on the values that a child job would get.

    The stages are the decoding, if a job takes sound, each job, and each content type: what
    encoding costs. After the decoding and after each job, `compare` gets its name, the values up to
    then, and the job's models.
    """
    from segue.codec import encode

    values = {SOURCE: media}
    if any("video/*" not in getattr(job.spec, "accepts", ()) for job in jobs):
        measure(measured.stages, "decode", media.audio)
        compare("decode", values, {})
    for job in jobs:
        name = job.spec.name
        inputs = {key: values[needed] for key, needed in job.spec.needs.items()}
        value = measure(measured.stages, name, lambda j=job, i=inputs: j.call(i))
        for reference, content_type in job.outputs.items():
            one = value if reference == name else value[reference.partition(".")[2]]
            spent: dict[str, float] = {}
            encoded = measure(spent, name, lambda t=content_type, v=one: encode(t, v))
            for total, key in ((measured.stages, content_type), (measured.encoding, name)):
                total[key] = total.get(key, 0.0) + spent[name]
            values[reference] = encoded.value
            if content_type == "application/json":
                measured.found[name] = summarise(encoded.value)
        compare(name, values, job.models)


def summarise(value: Any) -> dict[str, Any]:
    """Return the lengths of a result's collections, and what it says of why there is nothing."""
    fields = value if isinstance(value, dict) else {}
    sizes = {name: len(one) for name, one in fields.items() if isinstance(one, list | dict)}
    told = ("reason", "language", "voice_s", "voiced_share")
    return {**sizes, **{name: fields[name] for name in told if fields.get(name) is not None}}


def run_rounds(path: str, graph: Any, jobs: list[Any], *, plain: bool) -> None:
    """Run a round for each line that comes in, and print it."""
    missing: dict[str, str] = {}
    ready = list(load_all(graph, select_jobs(jobs, path), missing))
    for _ in sys.stdin:
        measured = Round(missing=missing)
        with open_media(path) as media, tempfile.TemporaryDirectory() as folder:
            compare = compare_plainly(measured, path, folder) if plain else lambda *_: None
            run_jobs(measured, media, ready, compare)
        numbers = (measured.stages, measured.plain, measured.encoding)
        print(json.dumps([*numbers, measured.found, measured.missing]), flush=True)


def select_jobs(jobs: list[Any], path: str) -> list[Any]:
    """Return the jobs that take a file of this type."""
    if not any(getattr(job, "accepts", ()) for job in jobs):
        return jobs
    from segue.media.content_type import find_content_types
    from segue.model.content_types import accepts

    types = find_content_types(path)
    return [job for job in jobs if not job.accepts or accepts(job.accepts, types)]


def load_all(graph: Any, jobs: list[Any], missing: dict[str, str]) -> Iterator[ReadyJob]:
    """Load jobs; say which lack a model, or what needs one."""
    from segue.errors import ConfigurationError

    for spec in jobs:
        above = [n.partition(".")[0] for n in spec.needs.values() if n.partition(".")[0] in missing]
        if above:
            missing[spec.name] = f"not run: it needs {above[0]}"
            continue
        try:
            yield load(graph, spec)
        except ConfigurationError as error:
            missing[spec.name] = f"not run: {error}"


def compare_plainly(measured: Round, path: str, folder: str) -> Compare:
    """Return what measures the plain call of a stage."""
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from bench.plain_calls import PLAIN, Given

    def compare(stage: str, values: Mapping[str, Any], models: Mapping[str, str]) -> None:
        if stage not in PLAIN:
            return
        given = Given(path=path, values=values, folder=folder, models=models)
        try:
            measure(measured.plain, stage, lambda: PLAIN[stage](given))
        except ModuleNotFoundError as error:
            measured.missing[stage] = f"not compared: there is no module {error.name!r}"

    return compare


def run_first(path: str, graph: Any, jobs: list[Any], name: str) -> None:
    """Print what preloading a job and its line has used, and then the first call of each."""
    from segue.worker.preload import preload

    line = graph.add_ancestors([name])
    preload(graph, "file:///nowhere", line, ())
    preloaded_ms = read_cpu() * 1e3
    measured = Round()
    with open_media(path) as media:
        run_jobs(measured, media, [load(graph, job) for job in jobs if job.name in line])
    first_ms = measured.stages[name] + measured.encoding[name]
    print(json.dumps({"preload_ms": preloaded_ms, "first_ms": first_ms}), flush=True)


def main(path: str, mode: str = "", name: str = "") -> None:
    """Run what the arguments name."""
    os.environ.update(dict.fromkeys(THREADS, "1"))
    import segue
    from segue.model.graph import read_graph
    from segue.worker.numba_cache import use_temporary_cache
    from segue.worker.preload import preload

    shipped = os.path.join(os.path.dirname(segue.__file__), "features", "jobs.yaml")
    graph = read_graph(name if mode == "plain" and name else shipped)
    jobs = [job for job in graph.jobs.values() if getattr(job, "on_arrival", True)]
    with use_temporary_cache():
        if mode == "list":
            print(json.dumps([job.name for job in jobs]))
        elif mode == "first":
            run_first(path, graph, jobs, name)
        else:
            preload(graph, "file:///nowhere", [job.name for job in jobs], ())
            run_rounds(path, graph, jobs, plain=mode == "plain")


if __name__ == "__main__":
    main(*sys.argv[1:])
