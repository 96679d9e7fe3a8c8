"""The reference names every command, option and variable that there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipelines.cli.main import SUMMARIES, load
from pipelines.cli.reference import reference

ROOT = Path(__file__).parents[4]
DOCUMENT = ROOT / "docs/cli.md"
VARIABLE = re.compile(r"\b(?:SEGUE_[A-Z][A-Z_]*|[A-Z]+_EMULATOR_HOST)\b")


def test_the_document_is_what_the_commands_say_today():
    remedy = "renew it: python -m pipelines.cli.reference > docs/cli.md"
    assert DOCUMENT.read_text("utf-8") == reference(), remedy


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_and_option_is_in_the_document(name):
    document = DOCUMENT.read_text("utf-8")
    assert f"## segue {name}\n" in document
    for parameter in load(name).params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert re.search(rf"`(?:-\w, )?{option}[ `]", document), option


def test_every_module_with_a_command_is_listed():
    modules = (ROOT / "pipelines/cli").glob("*.py")
    declared = re.compile(r"^@command\(", re.MULTILINE)
    assert {m.stem for m in modules if declared.search(m.read_text("utf-8"))} == set(SUMMARIES)


def test_every_variable_that_the_code_reads_is_in_the_document():
    document = DOCUMENT.read_text("utf-8")
    rooms = ("shared", "pipelines", "functions")
    sources = [
        p for room in rooms for p in (ROOT / room).rglob("*") if p.suffix in {".py", ".yaml"}
    ]
    named = {name for path in sources for name in VARIABLE.findall(path.read_text("utf-8"))}
    assert named
    assert sorted(name for name in named if f"`{name}`" not in document) == []
