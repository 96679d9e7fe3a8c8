"""Terraform with its providers, the environments' plans, and copies of the tree to change."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # harness and provider are packages of these tests

from harness import environment, terraform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.environment import Environment, Tree


def skip_if(reason: str | None) -> None:
    """Skip what cannot run here, with the reason; in CI that is a failure."""
    if reason:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI lets no test skip: {reason}")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def policy_tool() -> str:
    """The path of checkov."""
    skip_if(terraform.explain_missing_environment())
    return terraform.find_program("checkov")


@pytest.fixture(scope="session")
def stand_in() -> Iterator[dict[str, str]]:
    """The variables with which Terraform uses the stand-in for both of Google's providers."""
    skip_if(terraform.explain_missing_terraform())
    skip_if(terraform.explain_missing_environment())
    with environment.serve_provider() as variables:
        yield variables


@pytest.fixture(scope="session")
def providers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The real providers where they are asked for and can be reached, else the stand-in."""
    skip_if(terraform.explain_missing_terraform())
    real = terraform.find_real_providers(tmp_path_factory.mktemp("probe"))
    return real or request.getfixturevalue("stand_in")


@pytest.fixture
def tree(tmp_path: Path, stand_in: dict[str, str]) -> Tree:
    """A copy of what Terraform reads, to be changed."""
    return environment.copy_tree(tmp_path / "tree", stand_in)


@pytest.fixture(scope="session")
def environments(
    tmp_path_factory: pytest.TempPathFactory, stand_in: dict[str, str]
) -> Callable[[str], Environment]:
    """Each environment, built once."""

    @functools.cache
    def built(name: str) -> Environment:
        return environment.build_environment(name, tmp_path_factory.mktemp(name), stand_in)

    return built


@pytest.fixture(params=environment.ENVIRONMENTS)
def built(
    request: pytest.FixtureRequest, environments: Callable[[str], Environment]
) -> Environment:
    """Each of the environments in turn."""
    return environments(request.param)


@pytest.fixture
def prod(environments: Callable[[str], Environment]) -> Environment:
    """Production."""
    return environments("prod")
