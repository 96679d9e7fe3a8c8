"""Shows where a job spends its time, and what its memory is at its peak.

The job runs in this process, as in a worker, three times on each file: once as it is, which also
compiles and loads what it needs; once while pyinstrument samples its stack; and once while memray
records its allocations, those of C code included.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segue.adapters.connect import connect_store
from segue.errors import build_error
from segue.execution.trial_run import build_task, use_temporary
from segue.extras import require
from segue.model.graph import Graph
from segue.model.job_code import make_importable
from segue.model.media_file import MediaFile
from segue.worker.failure import describe_failure
from segue.worker.line_run import Claims, LineRun, LoadedJob, Stores, load_job

if TYPE_CHECKING:
    from pyinstrument.frame import Frame
    from pyinstrument.session import Session

INTERVAL_S = 0.001
MAX_FRAMES = 200  # of a stack
MAX_NAME = 40
OWN = os.path.dirname(os.path.abspath(__file__))


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionTime:
    """The time of one function, over all files."""

    function: str
    place: str  # file:line
    self_s: float  # in the function itself
    total_s: float  # with what it calls


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlace:
    """Memory that one line held when the job held most."""

    function: str
    place: str  # file:line
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProfile:
    """Where the time and the memory of a job went."""

    job: str
    files: int
    setup_s: float  # its setup()
    first_s: float  # the first call
    call_s: float  # a call, once everything is loaded; the mean of all files
    functions: tuple[FunctionTime, ...]  # most time in itself first
    peak_bytes: int  # the most that a call allocated at once
    memory: tuple[MemoryPlace, ...]  # at that moment; largest first
    speedscope: str  # both, as a file of speedscope


def profile_job(graph: Graph, job: str, media: Sequence[MediaFile]) -> JobProfile:
    """Profile a job of a graph on some files.

    Raises
    ------
    MissingExtra
        If pyinstrument or memray is not installed.
    ConfigurationError
        If the job cannot be imported.
    NotApplicable
        If the job, or a job above it, is not for a file.
    PermanentError, TransientError
        If it fails.
    """
    require("profiling a job", "profile")
    import memray
    from pyinstrument.profiler import Profiler
    from pyinstrument.renderers import SpeedscopeRenderer
    from pyinstrument.session import Session

    make_importable(graph)
    begun = time.monotonic()
    loaded = {name: load_job(graph, name) for name in graph.jobs}
    setup_s = time.monotonic() - begun
    with tempfile.TemporaryDirectory(prefix="segue-profile-") as folder, use_temporary(folder):
        calls = _Calls(loaded, graph, job, folder)
        firsts = [calls.time(one) for one in media]
        seconds, sessions = [], []
        peak_bytes, stacks = 0, []
        for number, one in enumerate(media):
            profiler = Profiler(interval=INTERVAL_S, async_mode="disabled")
            seconds.append(calls.time(one, profiler))
            assert profiler.last_session is not None
            sessions.append(profiler.last_session)
            path = os.path.join(folder, f"{number}.memray")
            calls.time(one, memray.Tracker(path))
            with memray.FileReader(path) as reader:
                if reader.metadata.peak_memory >= peak_bytes:
                    peak_bytes = reader.metadata.peak_memory
                    records = reader.get_high_watermark_allocation_records(merge_threads=True)
                    stacks = [(r.size, r.stack_trace(MAX_FRAMES)) for r in records]
        session = sessions[0]
        for other in sessions[1:]:
            session = Session.combine(session, other)
        rendered = SpeedscopeRenderer().render(session)
    return JobProfile(
        job=job,
        files=len(media),
        setup_s=setup_s,
        first_s=firsts[0],
        call_s=sum(seconds) / len(seconds),
        functions=tuple(_sum_functions(session)),
        peak_bytes=peak_bytes,
        memory=tuple(_sum_memory(stacks)),
        speedscope=_add_memory(rendered, stacks),
    )


class _Calls:
    """Calls a job on files, after the jobs above it; nothing is kept from one call to the next."""

    def __init__(
        self, loaded: Mapping[str, LoadedJob], graph: Graph, job: str, folder: str
    ) -> None:
        self._loaded = loaded
        self._graph = graph
        self._job = job
        self._folder = folder

    def time(
        self, media: MediaFile, around: contextlib.AbstractContextManager[Any] | None = None
    ) -> float:
        """Call the job on a file, within ``around``; return how long it takes."""
        location = tempfile.mkdtemp(dir=self._folder)
        task = build_task(self._graph, media)
        with contextlib.closing(Stores(connect_store, location)) as stores:
            line = LineRun(task, stores, tempfile.mkdtemp(dir=self._folder), Claims())
            for name in self._graph.jobs:
                job = self._loaded[name]
                try:
                    inputs = line.load_inputs(job)
                    if name == self._job:
                        begun = time.monotonic()
                        with around or contextlib.nullcontext():
                            job.call(inputs)
                        return time.monotonic() - begun
                    line.write(job, job.call(inputs))
                except Exception as error:  # a job may raise anything
                    found = describe_failure(error, self._graph.jobs[name].resources.memory_gib)
                    if found.failure is None:
                        raise
                    message = f"{name} on {media.uri}: {found.failure.message}"
                    raise build_error(found.failure.kind, message) from error
                del line.remaining[name]
        raise AssertionError(self._job)


def _is_own(path: str) -> bool:
    return os.path.dirname(path) == OWN or os.path.basename(path) == "job_code.py"


def _sum_functions(session: Session) -> Iterable[FunctionTime]:
    """Yield the functions of the job and of what it calls, most time in itself first."""
    own: dict[tuple[str, str], float] = {}
    total: dict[tuple[str, str], float] = {}

    def add(frame: Frame, above: frozenset[tuple[str, str]]) -> None:
        path = frame.file_path or ""
        if frame.is_synthetic:  # the time of the frame itself, which total_self_time has
            return
        if path and not _is_own(path):
            key = (shorten_name(frame.function), _format_place(path, frame.line_no))
            own[key] = own.get(key, 0.0) + frame.total_self_time
            if key not in above:  # of a recursion only the outermost call
                total[key] = total.get(key, 0.0) + frame.time
            above |= {key}
        for child in frame.children:
            add(child, above)

    root = session.root_frame()
    if root is not None:
        add(root, frozenset())
    for key in sorted(own, key=lambda key: -own[key]):
        if own[key] > 0:
            yield FunctionTime(function=key[0], place=key[1], self_s=own[key], total_s=total[key])


def _sum_memory(stacks: Iterable[tuple[int, Sequence[tuple[str, str, int]]]]) -> list[MemoryPlace]:
    sizes: dict[tuple[str, str], int] = {}
    for size, stack in stacks:
        if stack:
            function, path, line = stack[0]  # the innermost
            key = (shorten_name(function), _format_place(path, line))
            sizes[key] = sizes.get(key, 0) + size
    largest = sorted(sizes.items(), key=lambda item: -item[1])
    return [MemoryPlace(function=f, place=p, size_bytes=size) for (f, p), size in largest]


def shorten_name(function: str) -> str:
    """Return a function's name without a long name of the class of C++ that it belongs to."""
    return function if len(function) <= MAX_NAME else function.rpartition(".")[2]


def _format_place(path: str, line: int | None) -> str:
    return "compiled" if path.startswith("<") else f"{shorten_path(path)}:{line}"


def shorten_path(path: str) -> str:
    """Return a path from the folder on that it is imported from, or from the current one."""
    folders = {os.path.join(folder, "") for folder in (*sys.path, os.getcwd()) if folder}
    longest = max((folder for folder in folders if path.startswith(folder)), key=len, default="")
    return path[len(longest) :]


def _add_memory(rendered: str, stacks: Iterable[tuple[int, Sequence[tuple[str, str, int]]]]) -> str:
    """Add the memory at its peak to a file of speedscope, as a second profile."""
    document = json.loads(rendered)
    frames: list[dict[str, Any]] = document["shared"]["frames"]
    known: dict[tuple[str, str, int], int] = {}
    samples, weights = [], []
    for size, stack in stacks:
        sample = []
        for function, path, line in reversed(stack):
            key = (function, path, line)
            if key not in known:
                known[key] = len(frames)
                frames.append({"name": function, "file": path, "line": line})
            sample.append(known[key])
        samples.append(sample)
        weights.append(size)
    document["profiles"].append(
        {
            "type": "sampled",
            "name": "memory at its peak",
            "unit": "bytes",
            "startValue": 0,
            "endValue": sum(weights),
            "samples": samples,
            "weights": weights,
        }
    )
    return json.dumps(document)
