"""What each key of ``jobs.yaml`` means: the source of its reference and of its JSON Schema.

``segue.model.graph`` reads these keys, with the patterns and limits that are used here; a test
compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from segue.model import secret_reference
from segue.model.graph import (
    CONTENT_PATTERN,
    CONTENT_TYPES,
    FINGERPRINT,
    GPUS,
    LIMITS,
    MAX_JOBS,
    NAME,
    NAMESPACE,
    NO_GPU,
    REFERENCE,
    RUN,
    SOURCE,
)
from segue.model.model_entry import CONVERT, SCHEMES, SHA256

Schema = Mapping[str, Any]

# What may be in a name of Python, and what begins one: editors take \w for ASCII alone, and some
# take one character beyond U+FFFF for two, so these classes say what is not in them.
WORD = r"[^\u0000-/:-@\[-^`{-\u007f]"
IDENTIFIER = rf"[^\u0000-@\[-^`{{-\u007f]{WORD}*"
VARIABLE = r".*\$\{.*"  # text with a variable: what it stands for is known only where it is read
_NEED = rf"{SOURCE}|{NAME.pattern}(\.{NAME.pattern})?|{REFERENCE.pattern}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphKey:
    """A key: what it means to people, in Markdown, and to editors, as a JSON Schema."""

    kind: str  # of value
    meaning: str
    default: str = ""  # empty: it is required
    example: str
    schema: Schema = field(default_factory=lambda: MappingProxyType({}))


def match(pattern: str) -> Schema:
    """Return the schema of a text that matches a pattern as a whole."""
    return {"type": "string", "pattern": f"^({pattern})$"}


def match_template(pattern: str) -> Schema:
    """Return the schema of a text that matches a pattern once its variables are filled."""
    return match(f"{pattern}|{VARIABLE}".replace(r"\w", WORD))


def limit(key: str) -> Schema:
    """Return the schema of a number within the limits of the reader."""
    kind, low, high = LIMITS[key]
    whole = "integer" if kind is int else "number"
    return {"type": whole, "minimum": low, "maximum": high}


def describe_limit(key: str) -> str:
    """Return what a number within the limits of the reader is called."""
    kind, low, high = LIMITS[key]
    noun = "whole number" if kind is int else "number"
    return f"{noun}, {low:,} to {high:,}"


def build_list(item: Schema, **more: Any) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": item, **more}


def build_map(names: Schema, values: Schema, **more: Any) -> Schema:
    """Return the schema of a mapping by its keys and its values."""
    return {"type": "object", "propertyNames": names, "additionalProperties": values, **more}


TEXT: Schema = {"type": "string"}
LOCATION: Schema = {"type": ["string", "null"]}
FLAG: Schema = {"type": "boolean"}
CONTENT_TYPE: Schema = {"type": "string", "enum": list(CONTENT_TYPES)}
NAMES: Schema = {**match(NAME.pattern), "not": {"const": SOURCE}}
PARAMETERS: Schema = match(IDENTIFIER)
PATTERNS: Schema = build_list({"type": "string", "minLength": 1})

RESOURCE_KEYS: Mapping[str, GraphKey] = {
    "memory_gib": GraphKey(
        kind=describe_limit("memory_gib"),
        meaning="memory that the job may use, on top of what a process uses before the job starts",
        default="2",
        example="memory_gib: 4",
        schema=limit("memory_gib"),
    ),
    "gpu": GraphKey(
        kind=f"one of {', '.join(f'`{gpu}`' for gpu in GPUS)}",
        meaning="the [GPU](gpus.md#the-job) that it runs on",
        default=f"`{NO_GPU}`",
        example="gpu: nvidia-l4",
        schema={"type": "string", "enum": list(GPUS)},
    ),
    "gpu_memory_gib": GraphKey(
        kind=describe_limit("gpu_memory_gib"),
        meaning="how much of the GPU's memory it needs, so that several processes share one; at "
        "most what that GPU has",
        default="all of it",
        example="gpu_memory_gib: 6",
        schema=limit("gpu_memory_gib"),
    ),
}

JOB_KEYS: Mapping[str, GraphKey] = {
    "run": GraphKey(
        kind="`module:name`",
        meaning="the [function or class](writing-a-job.md) that does the work",
        example="run: brightness:brightness",
        schema=match_template(RUN.pattern),
    ),
    "needs": GraphKey(
        kind="mapping of inputs",
        meaning="for each input, the job that it comes from, or `JOB.OUTPUT`; `source` for the "
        "media file itself; or `NAMESPACE/JOB` of [another team](formats.md#namespaces), or "
        "`NAMESPACE/source`, whose arrivals then start the jobs",
        example="needs: {audio: downsample, beats: beats}",
        schema=build_map(PARAMETERS, match(_NEED), minProperties=1),
    ),
    "writes": GraphKey(
        kind="content type, or mapping of outputs to content types",
        meaning="what the job's [result](writing-a-job.md#results) becomes: "
        f"{', '.join(f'`{each}`' for each in CONTENT_TYPES)}; with "
        "[several outputs](writing-a-job.md#several-outputs), that of each",
        example="writes: application/json",
        schema={
            "anyOf": [
                CONTENT_TYPE,
                build_map(match(NAME.pattern), CONTENT_TYPE, minProperties=1),
            ]
        },
    ),
    "accepts": GraphKey(
        kind="list of content types",
        meaning="the types of [files that it is for](writing-a-job.md#not-for-this-file)",
        default="all files",
        example='accepts: ["audio/*", "video/*"]',
        schema=build_list(match(CONTENT_PATTERN.pattern)),
    ),
    "params": GraphKey(
        kind="mapping of parameters",
        meaning="values of the function's parameters, which are part of the fingerprint; text of "
        "the form `name@version` names a [model](formats.md#models)",
        default="none",
        example="params: {n_fft: 4096, model: level@1}",
        schema=build_map(PARAMETERS, {}),
    ),
    "secrets": GraphKey(
        kind="mapping of parameters to references",
        meaning="for each parameter, where its [secret](writing-a-job.md#secrets) is: `env:NAME`, "
        "or `projects/PROJECT/secrets/NAME/versions/VERSION` in Secret Manager. It is no part of "
        "the fingerprint",
        default="none",
        example="secrets: {api_key: env:SPEECH_KEY}",
        schema=build_map(
            PARAMETERS,
            match_template(
                f"{secret_reference.ENVIRONMENT.pattern}|{secret_reference.STORED.pattern}"
            ),
        ),
    ),
    "version": GraphKey(
        kind=describe_limit("version"),
        meaning="to be raised when the code gives other results",
        default="1",
        example="version: 2",
        schema=limit("version"),
    ),
    "equivalents": GraphKey(
        kind="list of fingerprints",
        meaning="old fingerprints whose results are still current",
        default="none",
        example='equivalents: ["0123456789ab"]',
        schema=build_list(match(FINGERPRINT.pattern)),
    ),
    "publish": GraphKey(
        kind="`true` or `false`",
        meaning="whether [other teams](formats.md#namespaces) may depend on it",
        default="`false`",
        example="publish: true",
        schema=FLAG,
    ),
    "on_arrival": GraphKey(
        kind="`true` or `false`",
        meaning="whether it runs when a file arrives; if not, it runs only when it is requested",
        default="`true`",
        example="on_arrival: false",
        schema=FLAG,
    ),
    "owner": GraphKey(
        kind="text",
        meaning="whose it is; a label of its costs",
        default="none",
        example="owner: rhythm",
        schema=TEXT,
    ),
    "description": GraphKey(
        kind="text",
        meaning="what `segue graph` says of it",
        default="none",
        example="description: Mean spectral centroid",
        schema=TEXT,
    ),
    "timeout_s": GraphKey(
        kind=describe_limit("timeout_s"),
        meaning="seconds that it may take for one file; the first call in a process may take "
        "[twice as long](writing-a-job.md#when-a-job-fails), but at most a minute longer",
        default="120",
        example="timeout_s: 600",
        schema=limit("timeout_s"),
    ),
    "attempts": GraphKey(
        kind=describe_limit("attempts"),
        meaning="how often it is tried before a transient error counts",
        default="3",
        example="attempts: 5",
        schema=limit("attempts"),
    ),
    "resources": GraphKey(
        kind="mapping",
        meaning="the [memory and the GPU](#keys-of-resources) that one running job needs",
        default="as below",
        example="resources: {memory_gib: 8, gpu: nvidia-l4}",
    ),
}

MODEL_KEYS: Mapping[str, GraphKey] = {
    "source": GraphKey(
        kind="path, or `pypi:…`, `npm:…`, `hf:…` or `https:…`",
        meaning="where it comes from: [sources](formats.md#models)",
        example="source: models/level.onnx",
        schema=match_template(rf"[^:]+|({'|'.join(SCHEMES)}):.+"),
    ),
    "sha256": GraphKey(
        kind="64 hexadecimal digits",
        meaning="the checksum of what the source names, in lower case and in quotes",
        example='sha256: "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"',
        schema=match(SHA256.pattern),
    ),
    "purpose": GraphKey(
        kind="text",
        meaning="what `segue models` says of it",
        default="none",
        example="purpose: Loudness of speech",
        schema=TEXT,
    ),
    "licence": GraphKey(
        kind="text",
        meaning="an [SPDX identifier](https://spdx.org/licenses/), or a few words",
        default="none",
        example="licence: MIT",
        schema=TEXT,
    ),
    "licence_file": GraphKey(
        kind="text",
        meaning="the text of the licence, in the same package, repository, archive or folder: it "
        "is kept beside the model",
        default="none",
        example="licence_file: LICENSE",
        schema=TEXT,
    ),
    "size_bytes": GraphKey(
        kind=describe_limit("size_bytes"),
        meaning="the size of what the source names; no more is written",
        default="not checked",
        example="size_bytes: 512345",
        schema={**limit("size_bytes"), "type": ["integer", "null"]},
    ),
    "download_bytes": GraphKey(
        kind=describe_limit("download_bytes"),
        meaning="the size of the package or archive that it is in; no more is downloaded",
        default="not checked",
        example="download_bytes: 1048576",
        schema={**limit("download_bytes"), "type": ["integer", "null"]},
    ),
    "convert": GraphKey(
        kind="`module:name`",
        meaning="a function that makes an ONNX file of it: it is called once with the path of the "
        "source and the path to write",
        default="none",
        example="convert: acme.conversion:to_onnx",
        schema=match_template(f"|{CONVERT.pattern}"),
    ),
    "convert_version": GraphKey(
        kind=describe_limit("convert_version"),
        meaning="to be raised when that function makes something else of the same source",
        default="1",
        example="convert_version: 2",
        schema=limit("convert_version"),
    ),
}

GRAPH_KEYS: Mapping[str, GraphKey] = {
    "namespace": GraphKey(
        kind="name",
        meaning="the name of this graph among those of [other teams](formats.md#namespaces): up to "
        "30 lower-case letters, digits and hyphens",
        default="`default`",
        example="namespace: moods",
        schema=match(NAMESPACE.pattern),
    ),
    "registry": GraphKey(
        kind="location",
        meaning="where teams publish what others may use: a bucket or a folder",
        default="none",
        example="registry: gs://acme-registry",
        schema=LOCATION,
    ),
    "contact": GraphKey(
        kind="text",
        meaning="whom other teams ask about this graph",
        default="none",
        example="contact: moods@example.org",
        schema=TEXT,
    ),
    "requests_per_minute": GraphKey(
        kind=describe_limit("requests_per_minute"),
        meaning="how many requests of each other team a worker accepts per minute; the others wait "
        "for the sweep",
        default="no limit",
        example="requests_per_minute: 600",
        schema={**limit("requests_per_minute"), "type": ["integer", "null"]},
    ),
    "catalogue": GraphKey(
        kind="location",
        meaning="where the media is",
        default="none",
        example="catalogue: gs://acme-audio/masters",
        schema=LOCATION,
    ),
    "artifacts": GraphKey(
        kind="location",
        meaning="where artifacts are written",
        default="`.segue/artifacts`; `.segue/NAMESPACE/artifacts` with a namespace",
        example="artifacts: gs://acme-features",
        schema=LOCATION,
    ),
    "models": GraphKey(
        kind="mapping of models",
        meaning="the [models](#keys-of-a-model) of this graph, by `NAME@VERSION`",
        default="those that Segue [lists](models.md)",
        example="models: {level@1: {source: models/level.onnx, sha256: …}}",
    ),
    "include": GraphKey(
        kind="list of patterns",
        meaning="patterns of the names that are media, whatever their case; "
        "[what matches none](names-and-paths.md#files-that-are-passed-over) is counted",
        default="the usual names of [sounds and films](formats.md#what-is-read), such as `*.flac` "
        "and `*.mp4`, but not `*.ts` and `*.iff`, which are also names of code and of other files",
        example='include: ["*.flac", "*.wav"]',
        schema=PATTERNS,
    ),
    "exclude": GraphKey(
        kind="list of patterns",
        meaning="patterns of names that are no media even if `include` has them; "
        "[how they match](names-and-paths.md#select-files)",
        default="none",
        example='exclude: ["*/drafts/*", "*.tmp.wav"]',
        schema=PATTERNS,
    ),
    "pipelines": GraphKey(
        kind="mapping of lists of jobs",
        meaning="which jobs share a [streaming pipeline](formats.md#pipelines)",
        default="none do",
        example="pipelines: {rhythm: [beats, energy]}",
        schema=build_map(NAMES, build_list(NAMES, minItems=1, uniqueItems=True)),
    ),
    "jobs": GraphKey(
        kind=f"mapping of 1 to {MAX_JOBS:,} jobs",
        meaning="the [jobs](#keys-of-a-job), by name: up to 63 lower-case letters, digits and "
        "underscores",
        example="jobs: {beats: {run: …, needs: …, writes: …}}",
    ),
}
