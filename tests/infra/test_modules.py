"""Every module, and the root that composes them, is well formed and passes its own tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness.environment import copy_tree
from harness.terraform import INFRA, Terraform

from segue_support.paths import ROOT

pytestmark = pytest.mark.xdist_group("modules")

MODULES = {
    "root": INFRA,
    **{folder.name: folder for folder in sorted((INFRA / "modules").iterdir())},
}
HOLDS = {"main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md", "tests"}
DECLARED = re.compile(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"expect_failures\s*=\s*\[(.*?)\]", re.DOTALL)


@pytest.fixture(scope="module")
def root(providers, tmp_path_factory) -> Path:
    return copy_tree(tmp_path_factory.mktemp("tree"), providers).root


@pytest.fixture(scope="module", params=MODULES)
def terraform(request, providers, root) -> Terraform:
    """Terraform in one module of a copy of the tree."""
    terraform = Terraform(root / MODULES[request.param].relative_to(ROOT), providers)
    terraform.init()
    return terraform


def declared(module: str, kind: str) -> dict[str, str]:
    """The variables or outputs of a module, with their bodies."""
    text = "".join(path.read_text() for path in sorted(MODULES[module].glob("*.tf")))
    return {name: body for found, name, body in DECLARED.findall(text) if found == kind}


def test_all_of_it_is_formatted(providers):
    result = Terraform(INFRA).run("fmt", "-check", "-recursive", ok=(0, 3))
    assert result.out.split() == []


def test_a_module_is_valid_without_a_warning(terraform):
    assert terraform.validate() == []


def test_a_module_passes_its_own_tests(terraform):
    result = terraform.test()
    assert result.diagnostics == []
    assert result.code == 0
    (summary,) = [line["test_summary"] for line in result.lines if "test_summary" in line]
    assert summary["passed"] > 0
    assert (summary["failed"], summary["errored"], summary["skipped"]) == (0, 0, 0)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_all_its_parts(module):
    assert HOLDS - {path.name for path in MODULES[module].iterdir()} == set()


@pytest.mark.parametrize("module", MODULES)
def test_every_variable_and_output_says_what_it_is_for(module):
    for kind in ("variable", "output"):
        for name, body in declared(module, kind).items():
            assert re.search(r"^  description = ", body, re.MULTILINE), f"{kind} {name}"


@pytest.mark.parametrize("module", MODULES)
def test_every_validation_has_a_test_that_it_refuses(module):
    validated = {f"var.{n}" for n, b in declared(module, "variable").items() if "validation {" in b}
    tests = (path.read_text() for path in sorted((MODULES[module] / "tests").glob("*.tftest.hcl")))
    refused = {word for text in tests for found in EXPECTED.findall(text) for word in found.split()}
    assert validated - {word.strip(",") for word in refused} == set()
