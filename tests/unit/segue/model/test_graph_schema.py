"""The reference and the JSON Schema of jobs.yaml say what the reader does."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from segue.model.graph import (
    KEYS,
    LIMITS,
    UNRESOLVED,
    GraphError,
    Job,
    Resources,
    parse_graph,
)
from segue.model.graph import MODEL_KEYS as READ_MODEL_KEYS
from segue.model.graph_keys import GRAPH_KEYS, JOB_KEYS, MODEL_KEYS, RESOURCE_KEYS
from segue.model.graph_schema import build_schema, format_schema
from segue_cli.graph_reference import build_page
from segue_support.paths import ROOT

SCHEMA = build_schema()
FENCE = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
GRAPHS = [
    *sorted((ROOT / "shared/segue/features").rglob("*.yaml")),
    *sorted((ROOT / "infra/tests").rglob("jobs.yaml")),
    *sorted((ROOT / "cli/segue_cli").rglob("jobs.yaml*")),
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
JOB = "run: 'm:f', needs: {media: source}, writes: application/json"
MODEL = f"source: m.onnx, sha256: '{'0' * 64}'"


def find_faults(text: str) -> list[str]:
    return [error.message for error in Draft7Validator(SCHEMA).iter_errors(yaml.safe_load(text))]


def is_refused(text: str) -> bool:
    try:
        parse_graph(text, lock=UNRESOLVED)
    except GraphError:
        return True
    return False


def list_examples() -> Iterator[tuple[str, str]]:
    """Yield each key's example, within a whole graph."""
    for name, key in GRAPH_KEYS.items():
        if "…" not in key.example:
            yield name, f"{key.example}\njobs: {{beats: {{{JOB}}}, energy: {{{JOB}}}}}"
    for name, key in JOB_KEYS.items():
        rest = ", ".join(part for part in JOB.split(", ") if not part.startswith(f"{name}:"))
        models = f"models: {{level@1: {{{MODEL}}}}}\n"
        jobs = f"downsample: {{{JOB}}}, beats: {{{JOB}}}"
        yield name, f"{models}jobs: {{{jobs}, it: {{{rest}, {key.example}}}}}"
    for name, key in RESOURCE_KEYS.items():
        gpu = "gpu: nvidia-l4, " if name == "gpu_memory_gib" else ""
        yield name, f"jobs: {{it: {{{JOB}, resources: {{{gpu}{key.example}}}}}}}"
    for name, key in MODEL_KEYS.items():
        rest = ", ".join(part for part in MODEL.split(", ") if not part.startswith(f"{name}:"))
        yield name, f"models: {{level@1: {{{rest}, {key.example}}}}}\njobs: {{it: {{{JOB}}}}}"


def test_the_schema_is_one():
    Draft7Validator.check_schema(SCHEMA)


def test_all_keys_of_the_reader_are_described_and_no_others():
    assert set(GRAPH_KEYS) == set(KEYS)
    assert set(JOB_KEYS) == {f.name for f in dataclasses.fields(Job)} - {"name"}
    assert set(RESOURCE_KEYS) == {f.name for f in dataclasses.fields(Resources)}
    assert set(MODEL_KEYS) == set(READ_MODEL_KEYS)


def test_defaults_are_those_of_the_reader():
    for keys, kind in ((JOB_KEYS, Job), (RESOURCE_KEYS, Resources)):
        for each in dataclasses.fields(kind):
            if each.name == "name":
                continue
            default = keys[each.name].default
            if not default:
                assert each.default is each.default_factory is dataclasses.MISSING, each.name
            elif isinstance(each.default, bool | int | float):
                assert yaml.safe_load(default.strip("`")) == each.default, each.name
    assert RESOURCE_KEYS["gpu"].default == f"`{Resources().gpu}`"


@pytest.mark.parametrize(("name", "text"), list(list_examples()))
def test_each_example_is_right(name, text):
    assert find_faults(text) == []
    assert not is_refused(text)


@pytest.mark.parametrize("path", GRAPHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_schema_accepts_each_graph_of_this_repository(path):
    assert find_faults(path.read_text()) == []


def test_the_schema_accepts_all_graphs_in_the_documentation():
    shown = [body for path in PAGES for body in FENCE.findall(path.read_text())]
    assert len(shown) > 10
    assert [faults for text in shown if (faults := find_faults(text))] == []


RIGHT = {
    "a variable": f"jobs: {{a: {{{JOB.replace('m:f', '${M}:f')}}}}}\ncatalogue: $A",
    "nothing": f"catalogue:\njobs: {{a: {{{JOB}}}}}",
    "whole": f"jobs: {{a: {{{JOB}, version: 2.0, timeout_s: 1}}}}",
    "merged": f"jobs: {{a: &a {{{JOB}}}, b: {{<<: *a, version: 2}}}}",
    "others": "jobs: {a: {run: 'm:f', needs: {a: t/j, b: t/j.out, c: d.o}, writes: "
    "audio/flac}, d: {run: 'm:f', needs: {m: t/source}, writes: {o: image/png, p: audio/wav}}}",
    "on a GPU": f"jobs: {{a: {{{JOB}, resources: {{gpu: nvidia-l4, gpu_memory_gib: 4}}}}}}",
    "ä": f"jobs: {{a: {{{JOB}, params: {{ä: 1, b: [1, {{c: null}}]}}}}}}",
    "beyond U+FFFF": f"jobs: {{a: {{{JOB}, params: {{\N{MATHEMATICAL BOLD SMALL X}: 1}}}}}}",
    "code in German": f"jobs: {{a: {{{JOB.replace('m:f', 'lautstärke:größe')}}}}}",
    "a model of a package": f"models: {{l@1: {{{MODEL.replace('m.onnx', 'pypi:a==1/m.onnx')}}}}}\n"
    f"jobs: {{a: {{{JOB}}}}}",
    "a model of a variable": "models: {l@1: "
    f"{{{MODEL.replace('m.onnx', repr('${M}:a==1/b'))}}}}}\njobs: {{a: {{{JOB}}}}}",
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_what_the_reader_accepts_the_schema_accepts(text, monkeypatch):
    parse_graph(text, lock=UNRESOLVED, environ={"M": "pypi" if "models" in text else "m"})
    assert find_faults(text) == []


WRONG = {
    "no jobs": "namespace: a",
    "empty": "jobs: {}",
    "a list": "[1]",
    "an unknown key": f"job: 1\njobs: {{a: {{{JOB}}}}}",
    "an unknown key of a job": f"jobs: {{a: {{{JOB}, parameters: {{}}}}}}",
    "a misspelt resource": f"jobs: {{a: {{{JOB}, resources: {{memory: 2}}}}}}",
    "no run": "jobs: {a: {needs: {media: source}, writes: application/json}}",
    "no needs": "jobs: {a: {run: 'm:f', writes: application/json}}",
    "no writes": "jobs: {a: {run: 'm:f', needs: {media: source}}}",
    "no input": "jobs: {a: {run: 'm:f', needs: {}, writes: application/json}}",
    "needs as text": "jobs: {a: {run: 'm:f', needs: source, writes: application/json}}",
    "a need of no name": "jobs: {a: {run: 'm:f', needs: {x: A b}, writes: application/json}}",
    "a path as run": f"jobs: {{a: {{{JOB.replace('m:f', 'm/f.py')}}}}}",
    "a content type": f"jobs: {{a: {{{JOB.replace('json', 'yaml')}}}}}",
    "an output": f"jobs: {{a: {{{JOB.replace('application/json', '{A: image/png}')}}}}}",
    "a name in capitals": f"jobs: {{Beats: {{{JOB}}}}}",
    "the name source": f"jobs: {{source: {{{JOB}}}}}",
    "a namespace": f"namespace: My Team\njobs: {{a: {{{JOB}}}}}",
    "include as text": f"include: '*.flac'\njobs: {{a: {{{JOB}}}}}",
    "an empty pattern": f"include: ['']\njobs: {{a: {{{JOB}}}}}",
    "a pipeline without jobs": f"pipelines: {{p: []}}\njobs: {{a: {{{JOB}}}}}",
    "a job twice": f"pipelines: {{p: [a, a]}}\njobs: {{a: {{{JOB}}}}}",
    "accepts as text": f"jobs: {{a: {{{JOB}, accepts: audio/*}}}}",
    "accepts": f"jobs: {{a: {{{JOB}, accepts: ['*']}}}}",
    "version 0": f"jobs: {{a: {{{JOB}, version: 0}}}}",
    "half a version": f"jobs: {{a: {{{JOB}, version: 1.5}}}}",
    "text as a number": f"jobs: {{a: {{{JOB}, timeout_s: '60'}}}}",
    "a long timeout": f"jobs: {{a: {{{JOB}, timeout_s: 100000}}}}",
    "true as a number": f"jobs: {{a: {{{JOB}, attempts: true}}}}",
    "text as a flag": f"jobs: {{a: {{{JOB}, publish: 'true'}}}}",
    "a number as text": f"jobs: {{a: {{{JOB}, owner: 7}}}}",
    "a fingerprint": f"jobs: {{a: {{{JOB}, equivalents: [abc]}}}}",
    "a parameter": f"jobs: {{a: {{{JOB}, params: {{n-fft: 1}}}}}}",
    "a secret": f"jobs: {{a: {{{JOB}, secrets: {{key: hunter2}}}}}}",
    "a GPU": f"jobs: {{a: {{{JOB}, resources: {{gpu: rtx}}}}}}",
    "memory of no GPU": f"jobs: {{a: {{{JOB}, resources: {{gpu_memory_gib: 2}}}}}}",
    "memory of none": f"jobs: {{a: {{{JOB}, resources: {{gpu: none, gpu_memory_gib: 2}}}}}}",
    "too little memory": f"jobs: {{a: {{{JOB}, resources: {{memory_gib: 0}}}}}}",
    "a model": f"models: {{level: {{{MODEL}}}}}\njobs: {{a: {{{JOB}}}}}",
    "no source": f"models: {{l@1: {{{MODEL.replace('m.onnx', repr(''))}}}}}\n"
    f"jobs: {{a: {{{JOB}}}}}",
    "a source": f"models: {{l@1: {{{MODEL.replace('m.onnx', 'ftp:a')}}}}}\njobs: {{a: {{{JOB}}}}}",
    "an umlaut in a variable": f"jobs: {{a: {{{JOB}, secrets: {{key: 'env:KÄY'}}}}}}",
    "no checksum": f"models: {{level@1: {{source: m.onnx}}}}\njobs: {{a: {{{JOB}}}}}",
    "a checksum": f"models: {{l@1: {{source: m, sha256: abc}}}}\njobs: {{a: {{{JOB}}}}}",
    "a size": f"models: {{l@1: {{{MODEL}, size_bytes: 0}}}}\njobs: {{a: {{{JOB}}}}}",
    "a conversion": f"models: {{l@1: {{{MODEL}, convert: f}}}}\njobs: {{a: {{{JOB}}}}}",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_both_refuse(text):
    assert is_refused(text)
    assert find_faults(text)


def test_no_pattern_means_another_thing_to_an_editor():
    """There, \\w and \\d are ASCII, and \\Z, flags and possessive quantifiers are unknown."""
    patterns = re.findall(r'"pattern": "(.*)"', format_schema())
    assert len(patterns) > 10
    assert [p for p in patterns if re.search(r"\\[wWdDsSbBAZ]|\(\?[^:]|[*+?}]\+", p)] == []


@pytest.mark.parametrize("key", LIMITS)
def test_limits_are_the_same(key):
    kind, low, high = LIMITS[key]
    step = 1 if kind is int else low / 2

    def build(value: float) -> str:
        if key in GRAPH_KEYS:
            return f"{key}: {value}\njobs: {{a: {{{JOB}}}}}"
        if key in MODEL_KEYS:
            return f"models: {{l@1: {{{MODEL}, {key}: {value}}}}}\njobs: {{a: {{{JOB}}}}}"
        if key in JOB_KEYS:
            return f"jobs: {{a: {{{JOB}, {key}: {value}}}}}"
        gpu = ", gpu: nvidia-tesla-a100" if key.startswith("gpu") else ""
        return f"jobs: {{a: {{{JOB}, resources: {{{key}: {value}{gpu}}}}}}}"

    for value in (low, high if key != "gpu_memory_gib" else 40):
        assert not is_refused(build(value))
        assert find_faults(build(value)) == []
    for value in (low - step, high + 1):
        assert is_refused(build(value))
        assert find_faults(build(value))


@pytest.mark.parametrize(
    ("name", "build"), [("jobs-yaml.md", build_page), ("jobs.schema.json", format_schema)]
)
def test_the_files_in_the_documentation_are_current(name, build):
    found = Path(ROOT, "docs", name).read_text(encoding="utf-8")
    assert found == build(), "run: python -m segue_cli.graph_reference"
