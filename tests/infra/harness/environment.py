"""Plans and applies the environments with the stand-in provider, in copies of the tree."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.launched_job import list_published_options
from harness.plan import Resource, list_resources
from harness.terraform import INFRA, Terraform, build_environ, find_program

from segue.model.settings import Settings
from segue_cli.function_archive import FUNCTIONS, compile_graph
from segue_support.paths import ROOT

TESTS = ROOT / "tests" / "infra"
ENVIRONMENTS = ("dev", "staging", "prod")
# What infra/ reads: itself, and the sources of the pipelines' image, whose hash is its tag.
READ = (
    "infra",
    "shared",
    "cli",
    "pipelines",
    "locks/build.txt",
    "locks/pipelines.txt",
    "locks/pipelines-gpu.txt",
    "pyproject.toml",
)
IGNORED = shutil.ignore_patterns(".terraform*", "*.tfstate*", "__pycache__", ".*_cache")
# State stays in the copy: the bucket that an environment names is not asked.
LOCAL_BACKEND = 'terraform {\n  backend "local" {}\n}\n'
# Whoever deploys looks the digests up; here, nothing is pulled.
BASE_IMAGES = "".join(
    f'  {name} = "registry.example/{name}@sha256:{index:064x}"\n'
    for index, name in enumerate(("beam", "launcher", "python", "docker"))
)
# What Terraform cannot do, infra/ does with gcloud; here, the calls are only recorded.
GCLOUD = '#!/bin/sh\necho "$@" >> "$(dirname "$0")/calls"\n'


@contextlib.contextmanager
def serve_provider(
    published: Collection[str] | None = None, folders: Sequence[Path] = (INFRA, TESTS)
) -> Iterator[dict[str, str]]:
    """Serve the stand-in; yield the variables with which Terraform uses it for both providers.

    ``published`` are the options that jobs tell Dataflow, by default those of Segue's own.
    """
    names = ",".join(list_published_options() if published is None else published)
    process = subprocess.Popen(
        [find_program("python"), "-m", "provider", names, *map(str, folders)],
        env={**build_environ(), "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stand-in provider ended with {process.wait()}; see above")
        assert len(json.loads(line)) == 2
        yield {"TF_REATTACH_PROVIDERS": line}
    finally:
        process.stdin.close()
        process.wait(timeout=30)
        process.stdout.close()


@dataclass(frozen=True, slots=True)
class Tree:
    """A copy of what Terraform reads, which tests may change; initialised at its first use."""

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
        """The jobs.yaml of the environments."""
        return self.root / "shared" / "segue" / "features" / "jobs.yaml"

    def compile_graph(self) -> None:
        """Write the compiled graph beside the archives, as 'make archives' does."""
        compiled = compile_graph(Settings(graph=str(self.graph)))
        (self.root / "build" / "graph.json").write_bytes(compiled)

    def plan(self, environment: str, *options: str) -> tuple[dict[str, Any], list[str]]:
        """Plan one environment; return the plan, and every warning."""
        if not (self.infra / ".terraform").exists():
            self.terraform.init()
        return self.terraform.plan(f"-var-file=envs/{environment}.tfvars", *options)


def copy_tree(root: Path, environ: Mapping[str, str]) -> Tree:
    """Copy it to a folder, with archives of the functions that never change."""
    for name in READ:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=IGNORED)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
    (root / "build").mkdir()
    for function in FUNCTIONS:
        (root / "build" / f"{function}.zip").write_text(function)
    (root / "infra" / "backend_override.tf").write_text(LOCAL_BACKEND)
    images = f"base_images = {{\n{BASE_IMAGES}}}\n"
    (root / "infra" / "base_images.auto.tfvars").write_text(images)
    tree = Tree(root, environ)
    tree.compile_graph()
    return tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An environment that was planned, applied, and planned again."""

    name: str
    tree: Tree
    plan: dict[str, Any]
    state: dict[str, Any]
    second_plan: dict[str, Any]
    warnings: list[str]
    gcloud: list[str]  # the calls, one per line

    def list_resources(self, *types: str) -> list[Resource]:
        """Return the applied resources, or those of some types."""
        return [r for r in list_resources(self.state) if not types or r.type in types]

    def list_names(self, type_: str) -> list[str]:
        """Return the names of the resources of one type."""
        return sorted(r.name for r in self.list_resources(type_))


def build_environment(name: str, folder: Path, environ: Mapping[str, str]) -> Environment:
    """Plan, apply, and plan again, in a copy of the tree."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "gcloud").write_text(GCLOUD)
    (programs / "gcloud").chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    tree = copy_tree(folder / "tree", {**environ, "PATH": path})
    plan, warnings = tree.plan(name)
    warnings += tree.terraform.apply()
    state = json.loads(tree.terraform.run("show", "-json").out)
    second_plan, more = tree.plan(name)
    calls = programs / "calls"
    return Environment(
        name=name,
        tree=tree,
        plan=plan,
        state=state,
        second_plan=second_plan,
        warnings=warnings + more,
        gcloud=sorted(calls.read_text().splitlines()) if calls.exists() else [],
    )
