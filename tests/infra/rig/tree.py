"""A copy of what Terraform reads: nothing is made in the tree, and anything can be changed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.terraform import Terraform
from rig.tools import ROOT

# What infra/ reads: itself, and all that goes into the pipelines' image, of which it makes a tag.
READ = ("infra", "shared", "cli", "pipelines", "locks/pipelines.txt", "pyproject.toml")
# State and what Terraform leaves behind stay where they are.
LEFT = shutil.ignore_patterns(".terraform*", "*.tfstate*", "__pycache__", ".*_cache")
# Plans of the tests are kept nowhere: the place that an environment names is not asked.
LOCAL = 'terraform {\n  backend "local" {}\n}\n'
FUNCTIONS = ("arrival", "deletion", "request", "sweep")


@dataclass(frozen=True, slots=True)
class Tree:
    """One copy, initialised at its first use."""

    root: Path
    environ: Mapping[str, str]  # of Terraform

    @property
    def infra(self) -> Path:
        """The root module."""
        return self.root / "infra"

    @property
    def terraform(self) -> Terraform:
        """Terraform in the root module."""
        return Terraform(self.infra, self.environ)

    @property
    def graph(self) -> Path:
        """The jobs.yaml that the environments are made of."""
        return self.root / "shared" / "segue" / "features" / "jobs.yaml"

    def plan(self, environment: str, *options: str) -> tuple[dict[str, Any], list[str]]:
        """Plan one environment; return the plan, and every warning."""
        if not (self.infra / ".terraform").exists():
            self.terraform.run("init", "-input=false", "-no-color")
        return self.terraform.plan(f"-var-file=envs/{environment}.tfvars", *options)


def copy_tree(root: Path, environ: Mapping[str, str]) -> Tree:
    """Copy it to a folder, with archives of the functions that have always the same bytes."""
    for name in READ:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=LEFT)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    (root / "build").mkdir()
    for function in FUNCTIONS:
        (root / "build" / f"{function}.zip").write_text(function)
    (root / "infra" / "backend_override.tf").write_text(LOCAL)
    return Tree(root, environ)
