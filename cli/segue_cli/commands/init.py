"""``segue init``: start a project."""

from __future__ import annotations

import os
import shlex
from typing import Annotated

import typer

from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.scaffold import scaffold

Folder = Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where to write; made if need be.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]


@command(examples=("segue init", "segue init features"))
def init(context: Context, folder: Folder = ".", force: Force = False) -> None:
    """Start a project: a graph, a first job and its test.

    The first job, brightness, is a working example. Nothing that exists is overwritten, unless
    --force is given.
    """
    made = scaffold(folder, force=force)
    steps = _steps(folder)
    if context.output.as_json:
        context.output.json(
            {"folder": folder, "written": made.written, "kept": made.kept, "next": steps}
        )
        return
    for name in made.written:
        context.output.print(f"wrote {os.path.join(folder, name)}")
    for name in made.kept:
        context.output.print(f"kept  {os.path.join(folder, name)}, which was there")
    if ".gitignore" in made.kept:
        context.output.print("      add .segue/ to it: results and ledger are kept there")
    context.output.print("\nNext:")
    for step in steps:
        context.output.print(f"  {step}")


def _steps(folder: str) -> list[str]:
    enter = [] if os.path.normpath(folder) == "." else [shlex.join(["cd", folder])]
    return [
        *enter,
        "segue graph --check",
        "pytest",
        "segue run brightness SONG",
        "segue backfill --prefix MUSIC --job brightness",
    ]
