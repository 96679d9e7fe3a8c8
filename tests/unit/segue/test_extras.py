"""Which extra has a module, and that the table agrees with pyproject.toml and with the code."""

from __future__ import annotations

import ast
import pickle
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from segue import extras
from segue.errors import ConfigurationError
from segue.extras import MODULES, MissingExtra, find_extra, require
from segue_support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def find_modules() -> dict[str, set[str]]:
    """The modules of each package that is installed."""
    found: dict[str, set[str]] = {}
    for module, names in metadata.packages_distributions().items():
        for name in names:
            found.setdefault(canonicalize_name(name), set()).add(module)
    return found


def imported(node: ast.AST) -> Iterator[str]:
    """The modules that code imports when it runs."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case _:
                yield from imported(child)


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("click", "cli"),
        ("librosa.beat", "audio"),
        ("google", "cloud"),
        ("google.cloud", "cloud"),
        ("google.cloud.storage", "cloud"),
        ("google.generativeai", None),  # a user's own
        ("apache_beam.io.gcp", "pipelines"),
        ("yaml", None),  # always installed
        (None, None),
    ],
)
def test_the_extra_of_a_module_is_found(module, extra):
    assert find_extra(module) == extra


def test_a_missing_extra_is_named_with_how_to_install_it(monkeypatch):
    monkeypatch.setattr(extras, "MODULES", {"audio": ("no_such_module",), "cli": ("no.such",)})
    with pytest.raises(MissingExtra) as one:
        require("this command", "audio")
    assert str(one.value) == (
        "this command needs the extra 'audio'; install Segue as 'segue-features[audio]'"
    )
    with pytest.raises(ConfigurationError) as two:
        require("this command", "audio", "cli")
    assert str(two.value) == (
        "this command needs the extras 'audio' and 'cli'; install Segue as "
        "'segue-features[audio,cli]'"
    )


def test_it_survives_the_way_from_one_process_to_another():
    error = MissingExtra("a job", "audio", "cloud")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.extras) == (str(error), error.extras)


def test_what_is_installed_is_not_missing():
    require("a test", *MODULES)


def test_it_can_be_caught_as_any_other_missing_module():
    with pytest.raises(ImportError):
        raise MissingExtra("this command", "audio")


def test_errors_name_what_installers_call_segue():
    assert PROJECT["name"] == extras.DISTRIBUTION


def test_every_extra_is_declared():
    assert set(MODULES) | {"all", "dev", "models-gpu"} == set(PROJECT["optional-dependencies"])


def test_every_package_that_is_declared_has_a_module_in_the_table():
    modules_of = find_modules()
    for extra, modules in MODULES.items():
        for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
            if requirement.name != extras.DISTRIBUTION:
                assert modules_of[canonicalize_name(requirement.name)] & {*modules}, (
                    requirement.name
                )


def test_every_package_that_the_code_imports_belongs_to_an_extra_or_is_always_installed():
    found = {
        module
        for folder in ("shared", "cli", "functions", "pipelines")
        for path in (ROOT / folder).rglob("*.py")
        for module in imported(ast.parse(path.read_text()))
    }
    modules_of = find_modules()
    core = [canonicalize_name(Requirement(r).name) for r in PROJECT["dependencies"]]
    known = set(sys.stdlib_module_names).union(*(modules_of[name] for name in core))
    others = {
        name
        for name in found
        if name.partition(".")[0] not in known and not name.startswith("segue")
    }
    # `google` alone belongs to many packages, so it says nothing about a module below it.
    parents = {
        name: [
            parent
            for n in range(name.count(".") + 1)
            if (parent := name.rsplit(".", n)[0]) not in {"google", "google.cloud"}
        ]
        for name in others
    }
    assert others
    assert [name for name in others if not any(map(find_extra, parents[name]))] == []
