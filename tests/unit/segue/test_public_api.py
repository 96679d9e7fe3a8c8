"""The public API: each name exists, is documented, and costs nothing until it is used."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import segue

STUB = Path(segue.__file__).with_suffix(".pyi")
NAMES = [
    alias.asname
    for node in ast.walk(ast.parse(STUB.read_text()))
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
]
OPERATIONS = (
    "backfill",
    "check_code",
    "explain",
    "failures",
    "load_graph",
    "plan",
    "results",
    "run_job",
    "status",
)


def test_the_stub_lists_what_the_package_offers():
    assert sorted(NAMES) == sorted(segue.__all__)
    assert {"Audio", "Media", *OPERATIONS} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_imported_and_is_documented(name):
    assert inspect.getdoc(getattr(segue, name))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_parameter_has_a_type(name):
    signature = inspect.signature(getattr(segue, name))
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter


def test_importing_segue_imports_nothing_else_of_it():
    code = "import sys, segue; print([m for m in sys.modules if m.startswith('segue.')])"
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["Audio", "CorruptMedia", "load_graph", "status", "run_job"])
def test_what_needs_no_pipeline_imports_no_beam_and_no_client(name):
    heavy = {"apache_beam", "numpy", "librosa", "google.cloud.storage", "segue_pipelines"}
    code = f"import sys; from segue import {name} as _;print(sorted({heavy!r} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert answer.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="backfil"):
        _ = segue.backfil
