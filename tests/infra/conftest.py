"""Terraform with its providers, the environments' plans, and copies of the tree to change."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # rig and provider are packages of these tests

from rig import environment, registry, stand_in, tools
from rig.tree import copy_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rig.environment import Environment
    from rig.tree import Tree


def need(reason: str | None) -> None:
    """Skip by name what cannot run here; in CI that is a failure."""
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI lets no test skip: {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def stand_in_providers() -> Iterator[dict[str, str]]:
    """The variables with which Terraform uses the stand-in for both of Google's providers."""
    need(tools.missing_terraform())
    need(tools.missing_environment())
    with stand_in.serving([tools.INFRA, tools.HERE]) as attached:
        yield {"TF_REATTACH_PROVIDERS": attached}


@pytest.fixture(scope="session")
def providers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The real providers where they were asked for and can be reached, else the stand-in."""
    if registry.is_wanted():
        need(tools.missing_terraform())
        versions = (tools.INFRA / "versions.tf").read_text()
        if registry.answers(tmp_path_factory.mktemp("probe"), versions):
            return registry.variables()
    variables: dict[str, str] = request.getfixturevalue("stand_in_providers")
    return variables


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory, stand_in_providers: dict[str, str]) -> Tree:
    """A copy of what Terraform reads, for all who leave it as it is."""
    return copy_tree(tmp_path_factory.mktemp("tree"), stand_in_providers)


@pytest.fixture
def another_tree(tmp_path: Path, stand_in_providers: dict[str, str]) -> Tree:
    """A copy to be changed."""
    return copy_tree(tmp_path, stand_in_providers)


@pytest.fixture(scope="session")
def policy_tool() -> str:
    """The path of checkov."""
    need(tools.missing_environment())
    return tools.program("checkov")


@pytest.fixture(scope="session")
def environments(
    tmp_path_factory: pytest.TempPathFactory, stand_in_providers: dict[str, str]
) -> Callable[[str], Environment]:
    """Each environment, built once."""

    @functools.cache
    def built(name: str) -> Environment:
        return environment.build(name, tmp_path_factory.mktemp(name), stand_in_providers)

    return built


@pytest.fixture(params=environment.ENVIRONMENTS)
def built(
    request: pytest.FixtureRequest, environments: Callable[[str], Environment]
) -> Environment:
    """Each of the environments in turn."""
    return environments(request.param)


@pytest.fixture
def prod(environments: Callable[[str], Environment]) -> Environment:
    """Production, in which each job has a pipeline of its own."""
    return environments("prod")
