"""``segue init``: create a project."""

from __future__ import annotations

import os
import shlex
from typing import Annotated

import typer

from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.scaffold import write_scaffold

Folder = Annotated[
    str, typer.Argument(metavar="FOLDER", help="The project folder; created if it is missing.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]


@command(examples=("segue init", "segue init features"))
def init(context: Context, folder: Folder = ".", force: Force = False) -> None:
    """Create a project: a graph, a first job and its test.

    The first job, brightness, is a working example. Existing files are not overwritten unless
    --force is given.
    """
    made = write_scaffold(folder, force=force)
    steps = _list_steps(folder)
    if context.output.as_json:
        context.output.write_json(
            {"folder": folder, "written": made.written, "kept": made.kept, "next": steps}
        )
        return
    for name in made.written:
        context.output.print(f"wrote {os.path.join(folder, name)}")
    for name in made.kept:
        context.output.print(f"kept  {os.path.join(folder, name)}, which already exists")
    if ".gitignore" in made.kept:
        context.output.print("      add .segue/ to it; it holds the results and the ledger")
    context.output.print("\nNext:")
    for step in steps:
        context.output.print(f"  {step}")


def _list_steps(folder: str) -> list[str]:
    enter = [] if os.path.normpath(folder) == "." else [shlex.join(["cd", folder])]
    return [
        *enter,
        "segue graph --check",
        "pytest",
        "segue run brightness SONG",
        "segue backfill --prefix MUSIC --job brightness",
    ]
