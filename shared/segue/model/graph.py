"""The graph of jobs, read from ``jobs.yaml``: the single source for pipelines and for Terraform.

Reading a graph reports every fault at once and needs none of the jobs' code;
``segue.model.job_code`` checks the code against the graph.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from segue.errors import ConfigurationError, suggest
from segue.model.artifact import list_outputs, split_output
from segue.model.built_in_models import BUILT_IN
from segue.model.content_types import accepts
from segue.model.manifest import (
    LOCK_FILE,
    Lock,
    Manifest,
    PublishedJob,
    decode_lock,
    find_published,
    split_reference,
)
from segue.model.media_file import is_unicode
from segue.model.model_entry import CONVERT, SHA256, ModelEntry, parse_source
from segue.model.model_entry import REFERENCE as MODEL
from segue.model.secret_reference import RULE as SECRET_RULE
from segue.model.secret_reference import is_reference
from segue.model.shipped_graphs import list_shipped_graphs
from segue.model.yaml_document import MAX_FAULTS, YamlDocument, YamlError, abbreviate, parse_yaml
from segue.printable import escape

SOURCE = "source"
KEYS = (
    *("namespace", "registry", "contact", "requests_per_minute"),
    *("catalogue", "artifacts", "include", "exclude", "models", "pipelines", "jobs"),
)
DEFAULT_NAMESPACE = "default"
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")  # the longest label that the cloud allows
RUN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
OUTPUT_RULE = "use up to 63 lower-case letters, digits and _, a letter first"
NAME_RULE = f"{OUTPUT_RULE}, and not 'source'"
# A database's name may add a few more characters.
NAMESPACE = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")
NAMESPACE_LINE = re.compile(
    rf"""^namespace:[ ]+(["']?)({NAMESPACE.pattern})\1[ ]*(#.*)?$""", re.MULTILINE
)
REFERENCE = re.compile(rf"({NAMESPACE.pattern})/({NAME.pattern})(\.{NAME.pattern})?")
CONTENT_PATTERN = re.compile(
    r"(application|audio|font|image|model|text|video)/(\*|[a-z0-9][a-z0-9.+-]*)"
)
FINGERPRINT = re.compile(r"[0-9a-f]{12}")
VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^{}]*))?\}")
# The usual names of all sounds and films that Segue decodes, but those that are also names of code
# or of other documents, such as ts.
INCLUDE = tuple(
    f"*.{suffix}"
    for suffix in (
        *("flac", "mp3", "wav", "ogg", "m4a"),
        *("opus", "oga", "spx", "aac", "aif", "aiff", "aifc", "wma", "m4b", "m4r", "mka", "caf"),
        *("wv", "ape", "tta", "mpc", "mp2", "ac3", "eac3", "dts", "dtshd", "amr", "gsm"),
        *("bwf", "rf64", "w64", "au", "snd", "sph", "voc", "dff", "dsf"),
        *("mp4", "m4v", "mov", "qt", "3gp", "3g2", "mkv", "webm", "avi", "wmv", "asf", "flv"),
        *("ogv", "m2ts", "mpg", "mpeg", "vob"),
    )
)
# What an artifact may be; ``segue.codec`` has a codec for each.
CONTENT_TYPES = (
    "audio/flac",
    "audio/wav",
    "audio/midi",
    "application/json",
    "application/x-npz",
    "image/png",
    "image/jpeg",
    "application/vnd.apache.parquet",
    "application/octet-stream",
)
# What nvidia-smi reports of each kind of GPU.
GPU_MEMORY_GIB = {
    "nvidia-l4": 22.5,
    "nvidia-tesla-t4": 15.0,
    "nvidia-tesla-a100": 40.0,
    "nvidia-tesla-v100": 16.0,
}
NO_GPU = "none"
GPUS = (NO_GPU, *GPU_MEMORY_GIB)
# Accepted old results multiply along the graph; beyond this number, results are computed again.
MAX_EQUIVALENTS = 256
MAX_JOBS = 1000
NO_LOCK = Lock(namespaces={})
UNRESOLVED = Lock(namespaces={})  # to read a graph that is yet to be locked
MAX_CYCLE = 12  # jobs to show
MAX_MODEL_BYTES = 2**40
# The numbers in a graph: their types, their least and their greatest values.
LIMITS: Mapping[str, tuple[type[int | float], float, float]] = {
    "requests_per_minute": (int, 1, 10**9),
    "version": (int, 1, 10**9),
    "timeout_s": (float, 0.01, 86400),
    "attempts": (int, 1, 100),
    "memory_gib": (float, 0.05, 1024),
    "gpu_memory_gib": (float, 0.05, 1024),
    "size_bytes": (int, 1, MAX_MODEL_BYTES),
    "download_bytes": (int, 1, MAX_MODEL_BYTES),
    "convert_version": (int, 1, 10**9),
}
MODEL_KEYS = tuple(
    f.name for f in fields(ModelEntry) if f.name not in {"name", "version", "folder"}
)


def find_folder(namespace: str) -> str:
    """Return the folder for all that a namespace keeps on this machine."""
    return ".segue" if namespace == DEFAULT_NAMESPACE else f".segue/{namespace}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """The memory and GPU that one running job needs."""

    memory_gib: float = 2.0  # on top of what the process uses before the job starts
    gpu: str = NO_GPU
    gpu_memory_gib: float | None = None  # None: all that the GPU has


@dataclass(frozen=True, kw_only=True)
class Job:
    """A node of the graph: a pure function from its inputs' artifacts to one artifact."""

    name: str
    run: str  # module:callable
    needs: Mapping[str, str]  # input name → a job, job.output, or "source"
    writes: str | Mapping[str, str]  # content type of the artifact; of several, by output
    # The types of files that it is for, such as audio/*; none: all.
    accepts: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)  # parameter → where its value is
    version: int = 1
    owner: str = ""
    description: str = ""
    timeout_s: float = 120.0  # for one file
    attempts: int = 3  # of which all but the first are for transient errors
    resources: Resources = field(default_factory=Resources)
    equivalents: tuple[str, ...] = ()  # old fingerprints whose artifacts are still accepted
    publish: bool = False  # other namespaces may depend on it
    on_arrival: bool = True  # it runs when a file arrives; False: only when it is requested

    @functools.cached_property
    def parents(self) -> tuple[str, ...]:
        """The jobs it reads from, also those of other namespaces, without the source."""
        found = dict.fromkeys(split_output(needed)[0] for needed in self.needs.values())
        return tuple(job for job in found if job != SOURCE)

    @property
    def needs_source(self) -> bool:
        """Whether one of its inputs is the media file itself."""
        return SOURCE in self.needs.values()

    @property
    def reads_source(self) -> bool:
        """Whether it reads the media file: as an input, or to find out whether it accepts it."""
        return self.needs_source or bool(self.accepts)

    def is_accepted(self, types: Collection[str]) -> bool:
        """Whether it is for a file of some types, such as video/mp4, video/* and audio/*."""
        return not self.accepts or accepts(self.accepts, types)

    @functools.cached_property
    def outputs(self) -> Mapping[str, str]:
        """The content types of its artifacts, by output; the name of an only output is empty."""
        return list_outputs(self.writes)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A validated graph of jobs; ``jobs`` is in topological order, parents first."""

    jobs: Mapping[str, Job]
    namespace: str = DEFAULT_NAMESPACE
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # "pipelines" in jobs.yaml
    catalogue: str | None = None
    artifacts: str = ".segue/artifacts"
    registry: str | None = None  # where manifests are published
    contact: str = ""  # of the team
    requests_per_minute: int | None = None  # of each other namespace; None: no limit
    include: tuple[str, ...] = INCLUDE
    exclude: tuple[str, ...] = ()  # of the names that match include
    models: Mapping[str, ModelEntry] = field(
        default_factory=dict
    )  # the graph's own, by name@version
    # The namespace whose arrivals start the jobs that need the file itself; None: this one.
    source_namespace: str | None = None
    # By namespace: what the graph uses of others, as it is locked.
    imports: Mapping[str, Manifest] = field(default_factory=dict)
    path: str | None = None  # the jobs.yaml that it came from; users' modules are found beside it

    @functools.cached_property
    def children(self) -> Mapping[str, tuple[str, ...]]:
        """The jobs that read from each job, from ``source``, and from others' jobs, in order."""
        below: dict[str, list[str]] = {SOURCE: [], **{name: [] for name in self.jobs}}
        for job in self.jobs.values():
            for parent in (*job.parents, *([SOURCE] if job.needs_source else [])):
                below.setdefault(parent, []).append(job.name)
        return {name: tuple(jobs) for name, jobs in below.items()}

    @functools.cached_property
    def pipelines(self) -> Mapping[str, tuple[str, ...]]:
        """The streaming pipelines and their jobs, in topological order; each job is in one.

        A job that is in no group has a pipeline of its own, of the same name.
        """
        names: dict[str, list[str]] = {}
        for job, pipeline in self.pipeline_of.items():
            names.setdefault(pipeline, []).append(job)
        return {name: tuple(jobs) for name, jobs in names.items()}

    @functools.cached_property
    def pipeline_of(self) -> Mapping[str, str]:
        """For each job, the name of its streaming pipeline."""
        grouped = {job: name for name, jobs in self.groups.items() for job in jobs}
        return {job: grouped.get(job, job) for job in self.jobs}

    def select_on_arrival(self, jobs: Iterable[str]) -> tuple[str, ...]:
        """Return the jobs among some that run when a file arrives."""
        return tuple(job for job in jobs if self.jobs[job].on_arrival)

    def find_model(self, reference: str) -> ModelEntry:
        """Return the model of a ``name@version``: one of this graph, or one that Segue lists."""
        found = self.models.get(reference) or BUILT_IN.get(reference)
        if found is None:
            hint = suggest(reference, [*self.models, *BUILT_IN])
            raise ConfigurationError(f"{reference!r} is not a model that is listed; {hint}")
        return found

    def find_models(self, jobs: Iterable[str]) -> tuple[ModelEntry, ...]:
        """Return the models that some jobs name, each once."""
        named = dict.fromkeys(r for j in jobs for r in find_model_params(self.jobs[j]).values())
        return tuple(self.find_model(reference) for reference in named)

    def find_pipelines(self, jobs: Iterable[str]) -> tuple[str, ...]:
        """Return the pipelines of some jobs, each once."""
        return tuple(dict.fromkeys(self.pipeline_of[job] for job in jobs))

    def find_triggers(self, pipeline: str) -> tuple[str, ...]:
        """Return what starts jobs of a pipeline on arrival: ``source``, or jobs of other pipelines.

        Jobs of other namespaces are ``find_foreign_parents``.
        """
        own = self.pipelines[pipeline]
        needed = [
            split_output(reference)[0]
            for job in self.select_on_arrival(own)
            for reference in self.jobs[job].needs.values()
        ]
        found = dict.fromkeys(p for p in needed if p not in own)
        return tuple(p for p in found if p == SOURCE or p in self.jobs)

    def find_foreign_parents(self, pipeline: str) -> tuple[str, ...]:
        """Return the jobs of other namespaces that jobs of a pipeline need, as ``namespace/job``.

        Those that only jobs on request need are among them: their tombstones concern these, too.
        """
        needed = {p for job in self.pipelines[pipeline] for p in self.jobs[job].parents}
        return tuple(p for p in self.foreign if p in needed)

    def has_readers(self, job: str) -> bool:
        """Whether another pipeline, or another namespace, is notified once a job is finished."""
        if self.jobs[job].publish:
            return True
        own = self.pipeline_of[job]
        below = self.select_on_arrival(self.children[job])
        return any(self.pipeline_of[child] != own for child in below)

    def find_published(self, pipeline: str) -> tuple[str, ...]:
        """Return the jobs of whose results a pipeline may notify others: its own, and below."""
        below = frozenset(self.pipelines[pipeline])
        below = below.union(*(self.find_descendants(job) for job in below))
        return tuple(job for job in self.jobs if job in below and self.has_readers(job))

    def find_notified(self, pipeline: str) -> tuple[str, ...]:
        """Return the pipelines that a pipeline may ask: all that lead to what it leads to."""
        below = frozenset(self.pipelines[pipeline])
        below = below.union(*(self.find_descendants(job) for job in below))
        return self.find_pipelines(self.add_ancestors(below))

    @functools.cached_property
    def _ancestors(self) -> Mapping[str, frozenset[str]]:
        above: dict[str, frozenset[str]] = {}
        for job in self.jobs.values():
            known = (above[p] for p in job.parents if p in above)
            above[job.name] = frozenset(job.parents).union(*known)
        return above

    def find_ancestors(self, name: str) -> frozenset[str]:
        """Return all jobs above a job, without itself; of other namespaces, those it names."""
        return self._ancestors[name]

    def find_descendants(self, name: str) -> frozenset[str]:
        """Return all jobs below a job, without itself."""
        return frozenset(job for job, above in self._ancestors.items() if name in above)

    def add_ancestors(self, targets: Iterable[str]) -> tuple[str, ...]:
        """Return the targets and all their ancestors, in topological order."""
        named = frozenset(targets)
        wanted = named.union(*(self._ancestors.get(target, ()) for target in named))
        return tuple(name for name in self.jobs if name in wanted)

    def select(self, names: Iterable[str] | None) -> tuple[str, ...]:
        """Return the named jobs in topological order, or all jobs if none is named."""
        selected = set(names or self.jobs)
        if unknown := selected - set(self.jobs):
            name = min(unknown)
            raise ConfigurationError(
                f"{name!r} is not a job of this graph; {suggest(name, list(self.jobs))}"
            )
        return tuple(name for name in self.jobs if name in selected)

    def is_on_line(self, name: str, targets: Iterable[str] | None) -> bool:
        """Return whether a job is a target or above one; None means that all jobs are targets."""
        if targets is None:
            return True
        return any(t == name or name in self._ancestors.get(t, ()) for t in targets)

    @property
    def references(self) -> tuple[str, ...]:
        """The jobs of other namespaces that this graph's jobs need, as ``namespace/job``."""
        return tuple(sorted({p for j in self.jobs.values() for p in j.parents} - {*self.jobs}))

    @functools.cached_property
    def foreign(self) -> Mapping[str, PublishedJob]:
        """What is locked of the jobs of other namespaces, by ``namespace/job``."""
        found = {p: find_published(self.imports, p) for p in self.references}
        return {p: published for p, published in found.items() if published is not None}

    @property
    def pins(self) -> dict[str, str]:
        """The fingerprints that the graph is locked to, by ``namespace/job``."""
        return {reference: job.fingerprint for reference, job in self.foreign.items()}

    def find_foreign(self, targets: Iterable[str]) -> tuple[str, ...]:
        """Return the jobs of other namespaces at or above some jobs."""
        above = {p for t in targets for p in (t, *self._ancestors.get(t, ()))}
        return tuple(p for p in self.foreign if p in above)

    @property
    def is_shared(self) -> bool:
        """Whether other namespaces may use its jobs, or the files of its catalogue."""
        return self.registry is not None or any(job.publish for job in self.jobs.values())

    @property
    def locked_references(self) -> tuple[str, ...]:
        """All that a lock has to resolve, as ``namespace/job`` or ``namespace/source``."""
        source = [f"{self.source_namespace}/{SOURCE}"] if self.source_namespace else []
        return (*source, *self.references)

    def find_stood_for(self, job: str) -> tuple[str, ...]:
        """Return the older fingerprints that a published job's results stand for."""
        return self.accepted[job][1:] if self.jobs[job].publish else ()

    def find_outputs(self, job: str) -> Mapping[str, str]:
        """Return the content types of a job's outputs, of this namespace or another, by name."""
        if job in self.jobs:
            return self.jobs[job].outputs
        return list_outputs(self.foreign[job].writes)

    def find_content_type(self, reference: str) -> str:
        """Return the content type of the artifacts that a job, or job.output, refers to."""
        job, output = split_output(reference)
        return self.find_outputs(job)[output]

    @functools.cached_property
    def fingerprints(self) -> Mapping[str, str]:
        """For each job, the hash of all that defines its result."""
        prints = {name: job.fingerprint for name, job in self.foreign.items()}
        for job in self.jobs.values():
            prints[job.name] = self._compute_fingerprint(job, prints)
        return {name: prints[name] for name in self.jobs}

    @functools.cached_property
    def accepted(self) -> Mapping[str, tuple[str, ...]]:
        """For each job, the fingerprints that count as current: its own first, then equivalents.

        A result computed from an accepted old parent is as good as one computed from the new one,
        so what ``equivalents`` accepts of a job is accepted for the jobs below it, too.
        """
        accepted: dict[str, tuple[str, ...]] = {}
        # Jobs that have equivalents, or are below one that has.
        affected = {name for name, job in self.foreign.items() if job.equivalents}
        for name, job in self.jobs.items():
            own = self.fingerprints[name]
            if not job.equivalents and affected.isdisjoint(job.parents):
                accepted[name] = (own,)
                continue
            affected.add(name)
            local = [self.jobs[n] for n in self.add_ancestors(job.parents)]
            foreign = {n: self.foreign[n] for n in self.find_foreign((name,))}
            above: list[Job | PublishedJob] = [*foreign.values(), *local]
            names = [*foreign, *(each.name for each in local)]
            choices = itertools.product(*((None, *each.equivalents) for each in above))
            prints = set(job.equivalents)
            for choice in itertools.islice(choices, MAX_EQUIVALENTS):
                # The fingerprints from when these were the accepted results above.
                then: dict[str, str] = {}
                for of, each, old in zip(names, above, choice, strict=True):
                    if isinstance(each, Job):
                        then[of] = old or self._compute_fingerprint(each, then)
                    else:
                        then[of] = old or each.fingerprint
                prints.add(self._compute_fingerprint(job, then))
            accepted[name] = (own, *sorted(prints - {own}))
        return accepted

    def _compute_fingerprint(self, job: Job, parents: Mapping[str, str]) -> str:
        named = sorted(set(find_model_params(job).values()))
        models = {reference: self.find_model(reference).defining for reference in named}
        return _compute_fingerprint(job, parents, models)


def find_model_params(job: Job) -> dict[str, str]:
    """Return the parameters of a job that name a model: each with its ``name@version``."""
    texts = {name: value for name, value in job.params.items() if isinstance(value, str)}
    return {name: text for name, text in texts.items() if MODEL.fullmatch(text)}


def _compute_fingerprint(
    job: Job, parents: Mapping[str, str], models: Mapping[str, Mapping[str, Any]]
) -> str:
    defining: dict[str, Any] = {
        "name": job.name,
        "version": job.version,
        "params": job.params,
        "writes": job.writes,
        "needs": {i: _identify_input(needed, parents) for i, needed in job.needs.items()},
    }
    if models:
        defining["models"] = models
    canonical = json.dumps(defining, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _identify_input(reference: str, parents: Mapping[str, str]) -> str:
    """Return the fingerprint of what an input refers to, with its output."""
    job, output = split_output(reference)
    fingerprint = SOURCE if job == SOURCE else parents[job]
    return f"{fingerprint}.{output}" if output else fingerprint


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a graph: where it is, and what to do about it."""

    place: str  # such as jobs.energy.needs.audio; empty for the whole file
    message: str  # value, rule, remedy
    line: int | None = None  # of the file, from 1

    def __str__(self) -> str:
        line = None if self.line is None else f"line {self.line}"
        places = ", ".join(filter(None, (line, self.place))) or "the file"
        return escape(f"{places}: {self.message}")


class GraphError(ConfigurationError):
    """A graph cannot be used; the error lists all its faults."""

    def __init__(self, path: str, faults: Sequence[Fault]) -> None:
        self.path = path
        self.faults = tuple(faults)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        if len(faults) >= MAX_FAULTS:
            count = f"{count} or more"
        heading = escape(f"{path} has {count}:")
        super().__init__("\n".join([heading, *(f"  {f}" for f in faults)]))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the faults as well, so that the error survives the way from another process."""
        return type(self), (self.path, self.faults)


def read_graph(
    path: str, environ: Mapping[str, str] | None = None, *, lock: Lock | None = None
) -> Graph:
    """Read and check a graph file, filling variables from ``environ`` (default: ``os.environ``).

    What it needs of other namespaces is as in ``lock``, by default the ``segue.lock`` beside it.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ConfigurationError(
            f"the graph {path!r} cannot be read ({error.strerror}); "
            "name a jobs.yaml with --graph or SEGUE_GRAPH, or a graph that ships with Segue: "
            f"{', '.join(list_shipped_graphs())}"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise GraphError(path, [Fault("", "is not UTF-8 text; save it as UTF-8", line)]) from error
    lock = read_lock(path) if lock is None else lock
    environ = os.environ if environ is None else environ
    return parse_graph(text, path=path, environ=environ, lock=lock)


def find_namespace(path: str) -> str:
    """Return the namespace that a graph file names, without checking the file."""
    try:
        with open(path, encoding="utf-8") as file:
            match = NAMESPACE_LINE.search(file.read())
    except (OSError, UnicodeDecodeError):  # whoever reads the graph reports it
        return DEFAULT_NAMESPACE
    return match[2] if match is not None else DEFAULT_NAMESPACE


def find_lock(path: str) -> str:
    """Return the path of the lock of a graph: it is beside it."""
    return os.path.join(os.path.dirname(path), LOCK_FILE)


def read_lock(path: str) -> Lock | None:
    """Return the lock of a graph, or None if it has none."""
    place = find_lock(path)
    try:
        with open(place, "rb") as file:
            return decode_lock(file.read(), place)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{place!r} cannot be read ({error.strerror})") from error


def read_references(path: str) -> tuple[str, ...]:
    """Return what a graph file needs of other namespaces, whatever it is locked to."""
    return read_graph(path, lock=UNRESOLVED).locked_references


def parse_graph(
    text: str,
    *,
    path: str = "jobs.yaml",
    environ: Mapping[str, str] | None = None,
    lock: Lock | None = None,
) -> Graph:
    """Parse and check the text of a graph; raise ``GraphError`` with every fault."""
    try:
        document = parse_yaml(text)
    except YamlError as error:
        faults = [Fault(f.place, f.message, f.line) for f in error.faults]
        raise GraphError(path, faults) from error
    reader = _Reader(environ or {}, document, lock or NO_LOCK)
    graph = None
    with contextlib.suppress(_TooManyFaults):
        graph = reader.read_graph(document.value, path)
    if graph is None or reader.faults:
        raise GraphError(path, reader.faults)
    return graph


class _TooManyFaults(Exception):
    """Reading stops, as there are enough faults to report."""


class _Reader:
    """Reads the document, collects faults, and builds what is valid."""

    def __init__(self, environ: Mapping[str, str], document: YamlDocument, lock: Lock) -> None:
        self.environ = environ
        self.document = document
        self.lock = lock
        self.namespace = DEFAULT_NAMESPACE
        self.sources: dict[str, str] = {}  # by namespace of whose files a job reads: where
        self.models: dict[str, ModelEntry] = {}
        self.listed_models: list[str] = []  # those with faults, too
        self.faults: list[Fault] = []

    def add_fault(self, place: str, message: str) -> None:
        self.faults.append(Fault(place, message, self.document.find_line(place)))
        if len(self.faults) >= MAX_FAULTS:
            raise _TooManyFaults

    def reject(self, value: Any, place: str, rule: str) -> None:
        self.add_fault(place, f"{_abbreviate(value)} {rule}")

    def require(self, value: Any, place: str, remedy: str) -> None:
        self.add_fault(place, f"is {_abbreviate(value)}; {remedy}")

    def read_graph(self, document: Any, path: str) -> Graph | None:
        if not isinstance(document, dict):
            self.add_fault("", "is not a mapping; write a key 'jobs' with a mapping of jobs")
            return None
        self.check_keys(document, KEYS, "")
        namespace = self.read_namespace(document.get("namespace", DEFAULT_NAMESPACE))
        self.namespace = namespace
        registry = self.read_location(document.get("registry"), "registry")
        contact = self.read_text(document.get("contact", ""), "contact")
        limit = document.get("requests_per_minute")
        if limit is not None:
            limit = self.read_number(limit, "requests_per_minute", *LIMITS["requests_per_minute"])
        catalogue = self.read_location(document.get("catalogue"), "catalogue")
        artifacts = self.read_location(document.get("artifacts"), "artifacts")
        include = self.read_patterns(document.get("include", list(INCLUDE)), "include")
        exclude = self.read_patterns(document.get("exclude", []), "exclude")
        self.read_models(document.get("models", {}), path)
        listed = document.get("jobs")
        if not isinstance(listed, dict) or not listed:
            self.require(listed, "jobs", "write at least one job below it")
            return None
        if len(listed) > MAX_JOBS:
            self.add_fault("jobs", f"has {len(listed):,} jobs; write at most {MAX_JOBS:,}")
            return None
        read = {n: self.read_job(n, body, listed) for n, body in listed.items()}
        groups = self.read_pipelines(document.get("pipelines", {}), read)
        source_namespace = self.check_sources()
        jobs = self.sort({n: j for n, j in read.items() if j is not None})
        self.check_arrivals(jobs)
        self.check_outputs(jobs)
        return Graph(
            jobs=jobs,
            namespace=namespace,
            groups=groups,
            catalogue=catalogue or None,
            artifacts=artifacts or f"{find_folder(namespace)}/artifacts",
            registry=registry or None,
            contact=contact,
            requests_per_minute=limit,
            imports=self.lock.namespaces,
            include=include,
            exclude=exclude,
            models=self.models,
            source_namespace=source_namespace,
            path=path,
        )

    def read_namespace(self, value: Any) -> str:
        if not isinstance(value, str) or not NAMESPACE.fullmatch(value):
            rule = "use up to 30 lower-case letters, digits and -, a letter first and no - last"
            self.reject(value, "namespace", f"is not a namespace; {rule}")
            return DEFAULT_NAMESPACE
        return value

    def read_models(self, value: Any, path: str) -> None:
        """Read what the graph lists of models into ``self.models``."""
        if not isinstance(value, dict):
            self.require(value, "models", "write each as NAME@VERSION with its source and sha256")
            return
        folder = os.path.dirname(os.path.abspath(path)) if value else ""
        self.listed_models = list(value)
        for reference, body in value.items():
            place = f"models.{reference}"
            if (match := MODEL.fullmatch(reference)) is None:
                rule = "use NAME@VERSION, of lower-case letters, digits and _, and a whole number"
                self.add_fault(place, f"{reference!r} is not a model's name; {rule}")
            elif reference in BUILT_IN:
                self.add_fault(place, "is a model that Segue lists itself; take another name")
            elif not isinstance(body, dict):
                self.require(body, place, "a model is a mapping with source and sha256")
            else:
                self.check_keys(body, MODEL_KEYS, place)
                self.models[reference] = self.read_model(match, body, place, folder)

    def read_model(
        self, match: re.Match[str], body: Mapping[str, Any], place: str, folder: str
    ) -> ModelEntry:
        def take_text(key: str) -> str:
            return self.read_text(body.get(key, ""), f"{place}.{key}")

        def take_size(key: str) -> int | None:
            size = body.get(key)
            if size is None:
                return None
            found: int = self.read_number(size, f"{place}.{key}", *LIMITS[key])
            return found

        sha256, convert = body.get("sha256"), take_text("convert")
        if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
            rule = "write 64 hexadecimal digits in lower case, as sha256sum prints them, in quotes"
            self.require(sha256, f"{place}.sha256", rule)
        if convert and not CONVERT.fullmatch(convert):
            rule = "does not name a function; write package.module:name"
            self.reject(convert, f"{place}.convert", rule)
        source = self.read_location(body.get("source"), f"{place}.source")
        try:
            parse_source(source)
        except ValueError as error:
            self.require(body.get("source"), f"{place}.source", str(error))
        return ModelEntry(
            name=match[1],
            version=int(match[2]),
            source=source,
            sha256=str(sha256),
            purpose=take_text("purpose"),
            licence=take_text("licence"),
            licence_file=take_text("licence_file"),
            size_bytes=take_size("size_bytes"),
            download_bytes=take_size("download_bytes"),
            convert=convert,
            convert_version=self.read_number(
                body.get("convert_version", 1),
                f"{place}.convert_version",
                *LIMITS["convert_version"],
            ),
            folder=folder,
        )

    def check_model(self, name: str, value: Any, place: str) -> None:
        """Check that a parameter which names a model names one that is listed."""
        known = list(dict.fromkeys((*self.listed_models, *BUILT_IN)))
        unversioned = [each for each in known if each.partition("@")[0] == value]
        if unversioned and name.endswith("model"):
            rule = "is a model without its version"
            self.reject(value, place, f"{rule}; write {' or '.join(unversioned)}")
        if isinstance(value, str) and MODEL.fullmatch(value) and value not in known:
            hint = suggest(value, known)
            self.reject(value, place, f"is neither in 'models' nor a model of Segue's; {hint}")

    def read_pipelines(
        self, value: Any, jobs: Mapping[str, Job | None]
    ) -> dict[str, tuple[str, ...]]:
        if not isinstance(value, dict):
            remedy = "write each pipeline with a list of jobs, such as {rhythm: [beats, tempo]}"
            self.require(value, "pipelines", remedy)
            return {}
        listed: list[str] = []
        pipeline_of: dict[str, str] = {}
        for name, members in value.items():
            place = f"pipelines.{name}"
            if not NAME.fullmatch(name) or name == SOURCE:
                self.add_fault(place, f"{name!r} is not a pipeline's name; {NAME_RULE}")
            if not isinstance(members, list) or not members:
                self.require(members, place, "list at least one job, such as [beats, tempo]")
                continue
            listed.append(name)
            for number, job in enumerate(members):
                self.read_member(job, f"{place}[{number}]", name, pipeline_of, jobs)
        groups = {
            name: tuple(job for job, its in pipeline_of.items() if its == name) for name in listed
        }
        for name, group in groups.items():
            if name in jobs and name not in group:
                remedy = f"add {name!r} to it, or rename it"
                self.add_fault(
                    f"pipelines.{name}", f"has the name of a job that is not in it; {remedy}"
                )
            self.check_gpus([jobs[job] for job in group], f"pipelines.{name}")
        return groups

    def read_member(
        self,
        job: Any,
        place: str,
        pipeline: str,
        pipeline_of: dict[str, str],
        jobs: Collection[str],
    ) -> None:
        """Add a job to a pipeline in ``pipeline_of``."""
        if not isinstance(job, str) or job not in jobs:
            self.reject(job, place, f"is not a job of this graph; {suggest(str(job), jobs)}")
        elif job not in pipeline_of:
            pipeline_of[job] = pipeline
        elif pipeline_of[job] == pipeline:
            self.reject(job, place, "is listed twice; keep one")
        else:
            rule = f"is in pipeline {pipeline_of[job]!r} already; list it in one of the two"
            self.reject(job, place, rule)

    def check_gpus(self, jobs: Iterable[Job | None], place: str) -> None:
        needed = {job.resources.gpu: job.name for job in jobs if job is not None}
        needed.pop("none", None)
        if len(needed) > 1:
            found = ", ".join(f"{name!r} {gpu}" for gpu, name in needed.items())
            rule = "a worker has GPUs of one kind; put these jobs into different pipelines"
            self.add_fault(place, f"has jobs that need different GPUs ({found}), but {rule}")

    def read_job(self, name: str, body: Any, names: Collection[str]) -> Job | None:
        place = f"jobs.{name}"
        if not NAME.fullmatch(name) or name == SOURCE:
            self.add_fault(place, f"{name!r} is not a job's name; {NAME_RULE}")
        if not isinstance(body, dict):
            self.require(body, place, "a job is a mapping with run, needs and writes")
            return None
        self.check_keys(body, [f.name for f in fields(Job) if f.name != "name"], place)

        def take(key: str, read: Callable[..., Any], default: Any, *rules: Any) -> Any:
            return read(body.get(key, default), f"{place}.{key}", *rules)

        return Job(
            name=name,
            run=take("run", self.read_run, None),
            needs=take("needs", self.read_needs, None, name, names),
            writes=take("writes", self.read_writes, None),
            accepts=take("accepts", self.read_accepts, []),
            params=take("params", self.read_params, {}),
            secrets=take("secrets", self.read_secrets, {}, body),
            version=take("version", self.read_number, 1, *LIMITS["version"]),
            owner=take("owner", self.read_text, ""),
            description=take("description", self.read_text, ""),
            timeout_s=take("timeout_s", self.read_number, 120, *LIMITS["timeout_s"]),
            attempts=take("attempts", self.read_number, 3, *LIMITS["attempts"]),
            resources=take("resources", self.read_resources, {}),
            equivalents=take("equivalents", self.read_equivalents, []),
            publish=take("publish", self.read_flag, False),
            on_arrival=take("on_arrival", self.read_flag, True),
        )

    def check_keys(self, mapping: Mapping[str, Any], known: Sequence[str], place: str) -> None:
        for key in mapping:
            if key not in known:
                where = f"{place}.{key}" if place else key
                hint = suggest(key, sorted(known))
                self.add_fault(where, f"is not a key that Segue knows; {hint}")

    def read_text(self, value: Any, place: str, *, shown: bool = True) -> str:
        if not isinstance(value, str):
            self.reject(value, place, "is not text; put it in quotes")
            return ""

        def fill(match: re.Match[str]) -> str:
            name, default = match.groups()
            found = self.environ.get(name) or default
            if found is None:
                remedy = f"set it, or write ${{{name}:-default}}"
                self.add_fault(place, f"the environment variable {name} is not set; {remedy}")
                return ""
            return found

        text = VARIABLE.sub(fill, value)
        if not is_unicode(text):
            what = f"{text!r} " if shown else ""
            self.add_fault(place, f"{what}is not valid Unicode; set the variable in UTF-8")
        return text

    def read_location(self, value: Any, place: str) -> str:
        return "" if value is None else self.read_text(value, place)

    def read_run(self, value: Any, place: str) -> str:
        text = self.read_text(value, place) if isinstance(value, str) else ""
        if not RUN.fullmatch(text):
            self.reject(value, place, "does not name a callable; write package.module:name")
        return text

    def read_needs(
        self, value: Any, place: str, name: str, names: Collection[str]
    ) -> dict[str, str]:
        if not isinstance(value, dict) or not value:
            remedy = "write {input: parent job}, or {media: source} to read the file itself"
            self.require(value, place, remedy)
            return {}
        needs: dict[str, str] = {}
        for key, parent in self.take_parameters(value, place):
            job = split_output(parent)[0] if isinstance(parent, str) else ""
            if job == name:
                self.add_fault(f"{place}.{key}", f"{name!r} needs itself; name another job")
            elif isinstance(parent, str) and REFERENCE.fullmatch(parent):
                self.check_reference(parent, f"{place}.{key}")
                needs[key] = self.read_reference(parent, f"{place}.{key}")
            elif parent != SOURCE and job not in names:
                hint = suggest(job or str(parent), [SOURCE, *names])
                rule = f"is not a job of this graph; {hint}, or namespace/job of another team"
                self.reject(parent, f"{place}.{key}", rule)
            else:
                needs[key] = parent
                if parent == SOURCE:
                    self.sources.setdefault("", f"{place}.{key}")
        return needs

    def read_reference(self, reference: str, place: str) -> str:
        """Return a job of another namespace, or ``source``, and note whose source that is."""
        namespace, job = split_reference(reference)
        if job != SOURCE:
            return reference
        self.sources.setdefault(namespace, place)
        return SOURCE

    def check_sources(self) -> str | None:
        """Return the namespace whose files the jobs read; None: this one."""
        if len(self.sources) > 1:
            first, *_, last = [f"{n}/{SOURCE}" if n else SOURCE for n in self.sources]
            place = list(self.sources.values())[-1]
            rule = "the files of one namespace start all jobs of a graph; use the same in each"
            self.add_fault(place, f"is {last}, and another input is {first}, but {rule}")
        return next(iter(self.sources), "") or None

    def check_reference(self, reference: str, place: str) -> None:
        namespace, job = split_reference(reference)
        if namespace == self.namespace:
            rule = f"names a job of this graph's own namespace; write {job!r}"
            self.reject(reference, place, rule)
        elif self.lock is not UNRESOLVED and not self.is_locked(namespace, split_output(job)[0]):
            remedy = "run 'segue lock', which looks it up in the registry"
            self.reject(reference, place, f"is not in {LOCK_FILE}; {remedy}")

    def is_locked(self, namespace: str, job: str) -> bool:
        if job == SOURCE:
            return namespace in self.lock.namespaces
        return find_published(self.lock.namespaces, f"{namespace}/{job}") is not None

    def check_arrivals(self, jobs: Mapping[str, Job]) -> None:
        """Check that whatever runs when a file arrives can: all above it does so, too."""
        for job in jobs.values():
            for parent in job.parents if job.on_arrival else ():
                above = jobs.get(parent) or find_published(self.lock.namespaces, parent)
                if above is not None and not above.on_arrival:
                    self.add_fault(
                        f"jobs.{job.name}",
                        f"runs when a file arrives, but {parent!r} above it does not; write "
                        "'on_arrival: false' here, too",
                    )

    def check_outputs(self, jobs: Mapping[str, Job]) -> None:
        """Check that each input names one of its parent's outputs, or that this has only one."""
        for job in jobs.values():
            for name, reference in job.needs.items():
                parent, output = split_output(reference)
                above = jobs.get(parent) or find_published(self.lock.namespaces, parent)
                outputs = list_outputs(above.writes) if above is not None else {output: ""}
                if not outputs or (output in outputs and not reference.endswith(".")):
                    continue
                known = [f"{parent}.{each}" for each in outputs if each]
                if not known:
                    rule = f"names an output, but {parent!r} has only one; write {parent!r}"
                elif output:
                    rule = f"is not an output of {parent!r}; {suggest(reference, known)}"
                else:
                    rule = f"has several outputs; write one of {', '.join(known)}"
                self.reject(reference, f"jobs.{job.name}.needs.{name}", rule)

    def read_writes(self, value: Any, place: str) -> str | dict[str, str]:
        if not isinstance(value, dict):
            return self.read_content_type(value, place)
        if not value:
            self.require(value, place, "write a content type, or several: {output: content type}")
        for output in value:
            if not NAME.fullmatch(output):
                self.add_fault(f"{place}.{output}", f"is not an output's name; {OUTPUT_RULE}")
        return {k: self.read_content_type(v, f"{place}.{k}") for k, v in value.items()}

    def read_content_type(self, value: Any, place: str) -> str:
        if not isinstance(value, str) or value not in CONTENT_TYPES:
            remedy = f"use one of {', '.join(CONTENT_TYPES)}"
            self.reject(value, place, f"is not a content type that Segue writes; {remedy}")
        return str(value)

    def read_accepts(self, value: Any, place: str) -> tuple[str, ...]:
        if not isinstance(value, list):
            self.require(value, place, "write a list of content types, such as [audio/*]")
            return ()
        for number, item in enumerate(value):
            if not isinstance(item, str) or not CONTENT_PATTERN.fullmatch(item):
                rule = "is not a content type; write one such as audio/*, video/* or image/png"
                self.reject(item, f"{place}[{number}]", rule)
        return tuple(map(str, value))

    def read_params(self, value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.require(value, place, "write a mapping of parameter names to values")
            return {}
        params = {
            key: self.read_plain(item, f"{place}.{key}")
            for key, item in self.take_parameters(value, place)
        }
        for key, item in params.items():
            self.check_model(key, item, f"{place}.{key}")
        return params

    def read_secrets(self, value: Any, place: str, job: Mapping[str, Any]) -> dict[str, str]:
        """Read where secrets are; no message repeats a value, which may be a secret itself."""
        if not isinstance(value, dict):
            self.add_fault(place, f"is no mapping of parameters to secrets; {SECRET_RULE}")
            return {}
        secrets: dict[str, str] = {}
        for key, item in self.take_parameters(value, place):
            text = (
                self.read_text(item, f"{place}.{key}", shown=False) if isinstance(item, str) else ""
            )
            if not is_reference(text):
                self.add_fault(f"{place}.{key}", f"is no reference to a secret; {SECRET_RULE}")
            for other in ("needs", "params"):
                if isinstance(job.get(other), dict) and key in job[other]:
                    self.add_fault(f"{place}.{key}", f"is in {other}, too; rename one of them")
            secrets[key] = text
        return secrets

    def take_parameters(self, value: Mapping[str, Any], place: str) -> Iterator[tuple[str, Any]]:
        """Yield the items whose keys can be parameters of the callable."""
        for key, item in value.items():
            if key.isidentifier():
                yield key, item
            else:
                self.add_fault(f"{place}.{key}", "is not the name of a parameter of the callable")

    def read_plain(self, value: Any, place: str) -> Any:
        """Return a value with its variables filled in, if JSON can hold it."""
        if isinstance(value, str):
            return self.read_text(value, place)
        if isinstance(value, list):
            return [self.read_plain(v, f"{place}[{i}]") for i, v in enumerate(value)]
        if isinstance(value, dict):
            return {k: self.read_plain(v, f"{place}.{k}") for k, v in value.items()}
        if isinstance(value, float) and not math.isfinite(value):
            self.add_fault(place, f"{value} is not a finite number; JSON cannot hold it")
        return value

    def read_number(self, value: Any, place: str, kind: Any, low: float, high: float) -> Any:
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if not numeric or not low <= value <= high or kind(value) != value:
            noun = "a whole number" if kind is int else "a number"
            self.reject(value, place, f"is not {noun} from {low:,} to {high:,}")
            return kind(low)
        return kind(value)

    def read_flag(self, value: Any, place: str) -> bool:
        if not isinstance(value, bool):
            self.reject(value, place, "is not true or false")
            return False
        return value

    def read_resources(self, value: Any, place: str) -> Resources:
        if not isinstance(value, dict):
            self.require(value, place, "write {memory_gib: 2, gpu: none}")
            return Resources()
        self.check_keys(value, tuple(Resources.__dataclass_fields__), place)
        gpu = value.get("gpu", "none")
        if gpu not in GPUS:
            self.reject(gpu, f"{place}.gpu", f"is not one of {', '.join(GPUS)}")
        memory_gib = value.get("memory_gib", 2)
        return Resources(
            memory_gib=self.read_number(memory_gib, f"{place}.memory_gib", *LIMITS["memory_gib"]),
            gpu=str(gpu),
            gpu_memory_gib=self.read_gpu_memory(value, f"{place}.gpu_memory_gib", gpu),
        )

    def read_gpu_memory(self, resources: Any, place: str, gpu: Any) -> float | None:
        if "gpu_memory_gib" not in resources:
            return None
        if gpu == NO_GPU:
            self.add_fault(place, f"is given, but no GPU; write which: {', '.join(GPU_MEMORY_GIB)}")
            return None
        kind, least, most = LIMITS["gpu_memory_gib"]
        most = GPU_MEMORY_GIB.get(str(gpu), most)
        gib: float = self.read_number(resources["gpu_memory_gib"], place, kind, least, most)
        return gib

    def read_equivalents(self, value: Any, place: str) -> tuple[str, ...]:
        if not isinstance(value, list):
            self.require(value, place, "write a list of old fingerprints")
            return ()
        for item in value:
            if not isinstance(item, str) or not FINGERPRINT.fullmatch(item):
                remedy = "as 'segue graph' and artifact names show them"
                rule = f"is not a fingerprint; write 12 hexadecimal digits in quotes, {remedy}"
                self.reject(item, place, rule)
        return tuple(str(v) for v in value)

    def read_patterns(self, value: Any, place: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            self.require(value, place, 'write a list of patterns, such as ["*.flac"]')
            return ()
        return tuple(value)

    def sort(self, jobs: Mapping[str, Job]) -> dict[str, Job]:
        """Sort jobs so that parents come first, otherwise in the order of the file."""
        ordered: dict[str, Job] = {}
        left = dict(jobs)
        while left:
            ready = [j for j in left.values() if not any(p in left for p in j.parents)]
            if not ready:
                cycle = _find_cycle(left)
                self.add_fault(
                    f"jobs.{cycle[0]}.needs",
                    f"form a cycle: {_format_cycle(cycle)}; remove one edge",
                )
                left = {n: j for n, j in left.items() if n not in cycle}
            for job in ready:
                ordered[job.name] = left.pop(job.name)
        return ordered


def _find_cycle(jobs: Mapping[str, Job]) -> list[str]:
    path = [next(iter(jobs))]
    while True:
        parent = next(p for p in jobs[path[-1]].parents if p in jobs)
        if parent in path:
            return [parent, *reversed(path[path.index(parent) :])]
        path.append(parent)


def _format_cycle(cycle: Sequence[str]) -> str:
    if len(cycle) <= MAX_CYCLE:
        return " → ".join(cycle)
    return " → ".join([*cycle[: MAX_CYCLE - 1], f"… {len(cycle) - MAX_CYCLE} more …", cycle[-1]])


def _abbreviate(value: Any) -> str:
    return "missing" if value is None else abbreviate(value)
