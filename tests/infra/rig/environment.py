"""An environment that is planned, applied to nothing, and planned again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.terraform import Terraform
from rig.tree import Tree, copy_tree

ENVIRONMENTS = ("dev", "staging", "prod")
# What Terraform cannot do, infra/ does with gcloud; here it is only written down.
GCLOUD = '#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What Terraform said at each step."""

    name: str
    tree: Tree
    plan: dict[str, Any]
    state: dict[str, Any]
    again: dict[str, Any]  # planned after it was applied
    warnings: list[str]
    gcloud: list[str]  # the calls, each a line


def build(name: str, folder: Path, providers: Mapping[str, str], *options: str) -> Environment:
    """Plan, apply, and plan again, in a copy of the tree."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "gcloud").write_text(GCLOUD)
    (programs / "gcloud").chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    tree = copy_tree(folder / "tree", {**providers, "PATH": path})
    plan, warnings = tree.plan(name, *options)
    warnings += tree.terraform.apply()
    state = _state(tree.terraform)
    again, more = tree.plan(name, *options)
    called = programs / "calls"
    return Environment(
        name=name,
        tree=tree,
        plan=plan,
        state=state,
        again=again,
        warnings=warnings + more,
        gcloud=sorted(called.read_text().splitlines()) if called.exists() else [],
    )


def _state(terraform: Terraform) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(terraform.run("show", "-json").out)
    return state
