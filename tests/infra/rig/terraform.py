"""The real Terraform, run in a folder, with its answers read."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig.tools import clean_environ

COMMAND_S = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command answered."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its lines, of a command that writes JSON."""
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def diagnostics(self) -> list[str]:
        """All warnings and errors of a command that writes JSON: where, and what."""
        found = [line["diagnostic"] for line in self.lines if "diagnostic" in line]
        return [_told(d) for d in found]


class TerraformError(AssertionError):
    """A command failed that should not; the message is what it wrote."""


class Terraform:
    """Terraform in one folder; what it makes there is the caller's to remove."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._environ = {**clean_environ(), **(environ or {})}

    def run(self, *words: str, ok: Sequence[int] = (0,)) -> Said:
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
        return Said(code=done.returncode, out=done.stdout, err=done.stderr)

    def init(self) -> None:
        """Get modules and providers ready; state is kept nowhere but here."""
        self.run("init", "-backend=false", "-input=false", "-no-color")

    def faults(self) -> list[str]:
        """Validate; return every error and warning."""
        answer = json.loads(self.run("validate", "-json", ok=(0, 1)).out)
        return [_told(d) for d in answer["diagnostics"]]

    def test(self) -> Said:
        """Run the folder's own tests."""
        return self.run("test", "-json", ok=(0, 1))

    def plan(self, *options: str, name: str = "plan") -> tuple[dict[str, Any], list[str]]:
        """Plan; return the plan, and every warning."""
        said = self.run("plan", "-json", "-input=false", f"-out={name}", *options, ok=(0, 1))
        if said.code:
            raise TerraformError("\n".join(said.diagnostics))
        return json.loads(self.run("show", "-json", name).out), said.diagnostics

    def apply(self, name: str = "plan") -> list[str]:
        """Do what was planned; return every warning."""
        return self.run("apply", "-json", "-input=false", name).diagnostics


def _told(diagnostic: Mapping[str, Any]) -> str:
    place = diagnostic.get("range") or {}
    where = f"{place.get('filename', '')}:{place.get('start', {}).get('line', '')}"
    what = f"{diagnostic['summary']}: {diagnostic.get('detail', '')}"
    return f"{diagnostic['severity']} {where} {what}"
