"""The reference names every command, option and variable."""

from __future__ import annotations

import re

import pytest

from segue_cli.exit_code import ExitCode
from segue_cli.main import SUMMARIES, load_command
from segue_cli.reference import COMMAND_EXIT_CODES, EXIT_CODES, write_reference
from segue_support.paths import ROOT

DOCUMENT = ROOT / "docs/cli.md"
VARIABLE = re.compile(r"\b(?:SEGUE_[A-Z][A-Z_]*|[A-Z]+_EMULATOR_HOST)\b")


def test_the_document_is_what_the_commands_say_today():
    hint = "update it: python -m segue_cli.reference > docs/cli.md"
    assert DOCUMENT.read_text("utf-8") == write_reference(), hint


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_and_option_is_in_the_document(name):
    document = DOCUMENT.read_text("utf-8")
    assert f"## segue {name}\n" in document
    for parameter in load_command(name).params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert re.search(rf"`(?:-\w, )?{option}[ `]", document), option


def test_every_command_says_what_its_exit_codes_mean():
    assert set(COMMAND_EXIT_CODES) == set(SUMMARIES)
    assert all(ExitCode.OK in codes for codes in COMMAND_EXIT_CODES.values())
    assert set(EXIT_CODES) == set(ExitCode)


def test_every_module_with_a_command_is_listed():
    modules = (ROOT / "cli/segue_cli/commands").glob("*.py")
    declared = re.compile(r"^@command\(", re.MULTILINE)
    assert {m.stem for m in modules if declared.search(m.read_text("utf-8"))} == set(SUMMARIES)


def test_every_variable_that_the_code_reads_is_in_the_document():
    document = DOCUMENT.read_text("utf-8")
    rooms = ("shared", "cli", "pipelines", "functions", "tests/support")
    sources = [
        p for room in rooms for p in (ROOT / room).rglob("*") if p.suffix in {".py", ".yaml"}
    ]
    named = {name for path in sources for name in VARIABLE.findall(path.read_text("utf-8"))}
    assert named
    assert sorted(name for name in named if f"`{name}`" not in document) == []
