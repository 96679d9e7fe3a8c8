"""The programs that check infra/, and what to do about one that is not there."""

from __future__ import annotations

import os
import shutil
import sys

from segue_support.paths import ROOT

INFRA = ROOT / "infra"
HERE = ROOT / "tests" / "infra"
ENVIRONMENT = ROOT / ".venv-infra"
REGISTRY = "SEGUE_REAL_PROVIDERS"  # 1: take the real providers from their registry, if it answers


def missing_terraform() -> str | None:
    """Say how to get Terraform, if it is not installed."""
    if shutil.which("terraform"):
        return None
    return "Terraform is not installed: put Terraform 1.11 on the PATH"


def missing_environment() -> str | None:
    """Say how to get the environment of the stand-in and of checkov, if it is not there."""
    if (ENVIRONMENT / ".ready").exists():
        return None
    return f"{ENVIRONMENT.name} is not installed: run 'make infra'"


def program(name: str) -> str:
    """The path of a program of that environment."""
    return str(ENVIRONMENT / "bin" / name)


def clean_environ() -> dict[str, str]:
    """This process's environment without what would change Terraform's or checkov's mind."""
    environ = {
        k: v for k, v in os.environ.items() if not k.startswith(("TF_", "BC_", "CKV_", "GOOGLE_"))
    }
    # A configuration of the machine may name a file that is not there, or another registry.
    environ["TF_CLI_CONFIG_FILE"] = os.devnull
    environ["CHECKPOINT_DISABLE"] = "1"
    environ["TF_IN_AUTOMATION"] = "1"
    environ["PYTHONDONTWRITEBYTECODE"] = "1"
    environ.pop("VIRTUAL_ENV", None)
    environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), environ.get("PATH", "")])
    return environ
