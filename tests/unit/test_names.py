"""Names keep the house style: one package per class name, and functions begin with a verb."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from segue_support.paths import ROOT

FOLDERS = ("shared", "cli", "functions", "pipelines")
MODULES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
# Words that are, or look like, a participle or a gerund.
PARTICIPLE = re.compile(
    r".*ed|.*ing|begun|born|built|chosen|done|drawn|found|given|gone|held|hidden|kept|known|left|"
    r"lost|made|met|said|seen|sent|shown|taken|told|unknown|unsent|written"
)
# A name that begins with one of these verbs may contain them (`embed` only looks like one).
VERB = re.compile(
    r"embed|feed|ping|add|can|check|clear|confirm|count|do|drop|end|exit|explain|filter|find|fit|has|"
    r"is|list|mark|move|notify|print|queue|read|record|select|set|want|was"
)


def is_property(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("property" in ast.dump(decorator) for decorator in function.decorator_list)


def is_imperative(name: str) -> bool:
    words = name.strip("_").split("_")
    if VERB.fullmatch(words[0]):
        return True
    return not (PARTICIPLE.fullmatch(words[0]) or PARTICIPLE.fullmatch(words[-1]))


def find_duplicate_classes(modules: Iterable[Path]) -> dict[str, list[str]]:
    packages: dict[str, set[str]] = defaultdict(set)
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                packages[node.name].add(str(path.parent))
    return {name: sorted(where) for name, where in packages.items() if len(where) > 1}


def find_participles(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_property(node):
            continue
        if not is_imperative(node.name):
            yield f"{path}:{node.lineno}: {node.name}"


def test_each_class_name_is_defined_in_only_one_package():
    assert find_duplicate_classes(MODULES) == {}


def test_no_function_name_is_a_participle_or_a_gerund():
    assert [found for path in MODULES for found in find_participles(path)] == []


def test_a_class_that_two_packages_define_is_found(tmp_path):
    for package in ("a", "b"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "m.py").write_text(f"class _Same: ...\nclass Only_{package}: ...\n")
    assert list(find_duplicate_classes(tmp_path.rglob("*.py"))) == ["_Same"]


@pytest.mark.parametrize("name", ["told", "_keeping", "listed_files", "artifact_found"])
def test_a_participle_is_found(name, tmp_path):
    path = tmp_path / "m.py"
    path.write_text(f"class A:\n    @property\n    def deleted(self): ...\n    def {name}(self): 0")
    assert list(find_participles(path)) == [f"{path}:4: {name}"]


@pytest.mark.parametrize("name", ["embed", "is_lost", "list_wanted", "decode_audio", "__init__"])
def test_an_imperative_is_accepted(name):
    assert is_imperative(name)
