"""The documentation says what the code does, and every module says what it is for."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import msgspec
import pytest
import yaml

from segue.log import Action
from segue.model.dead_letter import DeadLetter
from segue.model.graph import UNRESOLVED, parse_graph
from segue.model.message import Message
from segue.model.record import Entry, Record, list_done_terms, list_open_terms
from segue.model.run import RunRecord, encode_run
from segue.model.settings import SETTINGS
from segue_cli.main import COMMANDS, load_command
from segue_support.paths import ROOT

PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
MODULES = [
    p
    for r in ("shared", "cli", "pipelines", "functions", "bench", "truth")
    for p in (ROOT / r).rglob("*.py")
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMES = {name for group in COMMANDS.values() for name in group}


def page(path: Path) -> str:
    return str(path.relative_to(ROOT))


def calls(text: str) -> list[list[str]]:
    """Return the calls of ``segue`` in code blocks, split into words."""
    blocks = [body for language, body in FENCE.findall(text) if language in {"", "console"}]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        for part in re.split(r"&&|;", line.lstrip("$ ").split(" #")[0]):
            words = part.split()
            if words[:1] == ["segue"] and len(words) > 1 and not words[1].startswith("-"):
                found.append(shlex.split(part))
    return found


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_every_command_that_is_shown_exists_and_takes_what_it_is_given(path):
    for _, name, *arguments in calls(path.read_text()):
        if name.isupper():  # a placeholder
            continue
        assert name in NAMES, f"segue {name}"
        command = load_command(name)
        known = {option for parameter in command.params for option in parameter.opts}
        for word in arguments:
            option = word.split("=")[0]
            if option.startswith("--") and not command.context_settings["ignore_unknown_options"]:
                assert option in known | {"--help"}, f"segue {name} {option}"


@pytest.mark.parametrize("path", PAGES, ids=page)
def test_every_link_to_a_file_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_every_environment_variable_of_the_code_is_documented():
    documented = "".join(p.read_text() for p in PAGES)
    used = {v for p in MODULES for v in re.findall(r"SEGUE_[A-Z_]*[A-Z]", p.read_text())}
    assert used >= {s.variable for s in SETTINGS.values()}
    assert {v for v in used if v not in documented} == set()


def test_the_graphs_in_the_documentation_are_valid():
    shown = [
        body for p in PAGES for language, body in FENCE.findall(p.read_text()) if language == "yaml"
    ]
    assert shown
    for text in shown:
        assert yaml.safe_load(text)["jobs"]
        assert parse_graph(text, lock=UNRESOLVED).jobs


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("field of a message", [f.encode_name for f in msgspec.structs.fields(Message)]),
        ("field of a dead letter", [f.encode_name for f in msgspec.structs.fields(DeadLetter)]),
        ("field of a record", ["format", *(f.encode_name for f in msgspec.structs.fields(Record))]),
        ("field of a result", [f.encode_name for f in msgspec.structs.fields(Entry)]),
        ("field of a run", ["format", *(f.encode_name for f in msgspec.structs.fields(RunRecord))]),
    ],
)
def test_the_formats_are_described_completely(heading, names):
    document = (ROOT / "docs/formats.md").read_text()
    (table,) = re.findall(
        rf"^\| {heading} \| meaning \| default \|\n((?:\|.*\n)+)", document, re.MULTILINE
    )
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(names)


def test_the_records_in_the_documentation_are_some():
    document = (ROOT / "docs/formats.md").read_text()
    text, run = [body for language, body in FENCE.findall(document) if language == "json"]
    assert json.loads(encode_run(msgspec.json.decode(run, type=RunRecord))) == json.loads(run)
    record = msgspec.json.decode(text, type=Record)
    assert json.loads(msgspec.json.encode(record)) == json.loads(text)
    terms = {*list_open_terms(record), *list_done_terms(record)}
    assert [term for term in sorted(terms) if f"`{term}`" not in document] == []


def test_every_module_opens_with_a_line_on_what_it_is_for():
    silent = [page(p) for p in MODULES if not ast.get_docstring(ast.parse(p.read_text()))]
    templates = {s for s in silent if "/templates/" in s}
    assert set(silent) == templates


def test_the_glossary_is_in_order():
    words = re.findall(
        r"^\| ([\w-]+(?: [\w-]+)*) \|", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE
    )[1:]
    assert words == sorted(words)


def find_logged_fields() -> set[tuple[str, str]]:
    """Return the actions and the fields of all calls that log a certain action."""
    calls = [
        node
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "log_event"
    ]
    return {
        (Action[ast.unparse(call.args[0]).removeprefix("Action.")], keyword.arg)
        for call in calls
        for keyword in call.keywords
        if keyword.arg not in (None, "severity") and "Action." in ast.unparse(call.args[0])
    }


def test_every_action_that_is_logged_is_in_the_runbook_with_its_fields():
    section = (ROOT / "docs/runbook.md").read_text().split("\n## What is logged\n")[1]
    intro, table = section.split("\n## ")[0].split("\n|", 1)
    common = set(re.findall(r"`(\w+)`", intro))
    documented: dict[str, set[str]] = {}
    for names, fields in re.findall(r"^\| (`[^|]*`) \| \w+ \| ([^|]*) \|", table, re.MULTILINE):
        known = common.union(re.findall(r"`(\w+)`", fields))
        documented |= dict.fromkeys(re.findall(r"`(\w+)`", names), known)
    assert set(documented) == set(Action)
    logged = find_logged_fields()
    assert {action for action, _ in logged} >= {"arrived", "recomputed", "swept"}
    assert [(a, f) for a, f in sorted(logged) if f not in documented[a]] == []


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    assert [name for name in NAMES if not re.search(rf"`segue {name}\b", readme)] == []


def test_every_file_that_is_named_in_the_documentation_exists():
    known = re.compile(r"`((?:shared|cli|pipelines|functions|bench|truth|infra|tests)/[\w./-]*)`")
    named = {name for path in PAGES for name in known.findall(path.read_text())}
    assert named
    projects = "infra/segue"  # a copy of infra/ in a project of one's own
    real = [n for n in sorted(named) if "ENV" not in n and not n.startswith(projects)]
    assert [name for name in real if not (ROOT / name).exists()] == []


def test_every_page_is_reached_from_the_readme():
    seen, left = {ROOT / "docs/index.md"}, [ROOT / "README.md"]  # the index is the site's
    while left:
        at = left.pop()
        seen.add(at)
        targets = [at.parent / t for t in re.findall(r"\]\(([^)#:]+)\)", at.read_text())]
        targets = [p for t in targets for p in (sorted(t.glob("*.md")) if t.is_dir() else [t])]
        left += [t.resolve() for t in targets if t.suffix == ".md" and t.resolve() not in seen]
    assert set(PAGES) <= seen
