"""Runs the real Terraform in a folder, and reads its output."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segue_support.paths import ROOT

INFRA = ROOT / "infra"
ENVIRONMENT = ROOT / ".venv-infra"  # of the stand-in provider and of checkov
COMMAND_S = 240
REAL_PROVIDERS = "SEGUE_REAL_PROVIDERS"  # 1: take them from their registry
# Terraform asks the registry once, with a short timeout.
NO_RETRIES = {"TF_REGISTRY_CLIENT_TIMEOUT": "3", "TF_REGISTRY_DISCOVERY_RETRY": "0"}


def explain_missing_terraform() -> str | None:
    """Say how to get Terraform, if it is not installed."""
    if shutil.which("terraform"):
        return None
    return "Terraform is not installed: put Terraform 1.11 on the PATH"


def explain_missing_environment() -> str | None:
    """Say how to get the environment of the stand-in provider and of checkov, if it is missing."""
    if (ENVIRONMENT / ".ready").exists():
        return None
    return f"{ENVIRONMENT.name} is not installed: run 'make infra'"


def find_program(name: str) -> str:
    """Return the path of a program of that environment."""
    return str(ENVIRONMENT / "bin" / name)


def build_environ() -> dict[str, str]:
    """Return this process's environment without the settings of Terraform and checkov."""
    environ = {
        k: v for k, v in os.environ.items() if not k.startswith(("TF_", "BC_", "CKV_", "GOOGLE_"))
    }
    # A configuration of the machine may name a missing file, or another registry.
    environ["TF_CLI_CONFIG_FILE"] = os.devnull
    environ["CHECKPOINT_DISABLE"] = "1"
    environ["TF_IN_AUTOMATION"] = "1"
    environ["GOGC"] = "400"  # Terraform spends a third of its time on collecting garbage
    environ.pop("VIRTUAL_ENV", None)
    environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), environ.get("PATH", "")])
    return environ


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of a command that writes JSON."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def diagnostics(self) -> list[str]:
        """All warnings and errors of a command that writes JSON, with their places."""
        found = [line["diagnostic"] for line in self.lines if "diagnostic" in line]
        return [_format_diagnostic(d) for d in found]


class TerraformError(AssertionError):
    """A command failed that should not; the message is its output."""


class Terraform:
    """Terraform in one folder; the caller removes what it leaves there."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._environ = {**build_environ(), **(environ or {})}

    def run(self, *words: str, ok: Sequence[int] = (0,)) -> CommandResult:
        """Run a command; an exit code that is not among ``ok`` raises ``TerraformError``."""
        path = shutil.which("terraform")
        assert path is not None
        done = subprocess.run(
            [path, f"-chdir={self.folder}", *words],
            env=self._environ,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode not in ok:
            raise TerraformError(
                f"terraform {' '.join(words)} in {self.folder} ended with {done.returncode}:\n"
                f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
            )
        return CommandResult(code=done.returncode, out=done.stdout, err=done.stderr)

    def init(self, *options: str) -> None:
        """Install modules and providers."""
        self.run("init", "-input=false", "-no-color", *options)

    def validate(self) -> list[str]:
        """Validate; return every error and warning."""
        answer = json.loads(self.run("validate", "-json", ok=(0, 1)).out)
        return [_format_diagnostic(d) for d in answer["diagnostics"]]

    def test(self, *options: str) -> CommandResult:
        """Run the folder's own tests."""
        return self.run("test", "-json", *options, ok=(0, 1))

    def plan(self, *options: str) -> tuple[dict[str, Any], list[str]]:
        """Plan; return the plan, and every warning."""
        result = self.run("plan", "-json", "-input=false", "-out=plan", *options, ok=(0, 1))
        if result.code:
            raise TerraformError("\n".join(result.diagnostics))
        return json.loads(self.run("show", "-json", "plan").out), result.diagnostics

    def apply(self) -> list[str]:
        """Apply the plan; return every warning."""
        return self.run("apply", "-json", "-input=false", "plan").diagnostics


def find_real_providers(folder: Path) -> dict[str, str] | None:
    """Return the variables that make Terraform download the real providers; None: not asked for.

    They contain a token that belongs to nobody, so nothing can reach a cloud. It raises
    ``TerraformError`` if the providers are asked for and cannot be downloaded.
    """
    asked = os.environ.get(REAL_PROVIDERS, "")
    if asked not in {"", "0", "1"}:
        raise TerraformError(f"{REAL_PROVIDERS} is {asked!r}; write 1 or 0")
    if asked != "1":
        return None
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = os.path.join(home, "segue", "terraform-plugins")
    os.makedirs(cache, exist_ok=True)
    variables = {"TF_PLUGIN_CACHE_DIR": cache, "GOOGLE_OAUTH_ACCESS_TOKEN": "nobody"}
    shutil.copy(INFRA / "versions.tf", folder)
    try:
        Terraform(folder, {**variables, **NO_RETRIES}).init("-backend=false")
    except TerraformError as error:
        raise TerraformError(
            f"{REAL_PROVIDERS}=1 asks for checks with the real providers, which cannot be "
            f"downloaded, so none of them ran; run them where registry.terraform.io can be "
            f"reached, or leave {REAL_PROVIDERS} out\n{error}"
        ) from error
    return variables


def _format_diagnostic(diagnostic: Mapping[str, Any]) -> str:
    place = diagnostic.get("range") or {}
    where = f"{place.get('filename', '')}:{place.get('start', {}).get('line', '')}"
    what = f"{diagnostic['summary']}: {diagnostic.get('detail', '')}"
    return f"{diagnostic['severity']} {where} {what}"
