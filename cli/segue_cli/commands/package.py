"""``segue package``: build the archives of the Cloud Functions."""

from __future__ import annotations

import hashlib
import os
from typing import Annotated

import typer

from segue.errors import ConfigurationError
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.function_archive import FUNCTIONS, build_archive
from segue_cli.views.table import build_table

Function = Annotated[
    str | None,
    typer.Argument(
        metavar="FUNCTION",
        help=f"One of {', '.join(FUNCTIONS)}.",
        show_default=False,
        autocompletion=lambda incomplete: [f for f in FUNCTIONS if f.startswith(incomplete)],
    ),
]
All = Annotated[bool, typer.Option("--all", help="Build the archives of all functions.")]
OutputPath = Annotated[
    str,
    typer.Option(
        "--output",
        metavar="PATH",
        help="The output folder or, for a single function, a .zip file.",
    ),
]


@command(
    settings=("graph",),
    examples=("segue package --all", "segue package arrival --output arrival.zip"),
)
def package(
    context: Context,
    function: Function = None,
    everything: All = False,
    output: OutputPath = "build",
) -> None:
    """Build the archives of the Cloud Functions, for Terraform to deploy.

    Each archive holds the function, the modules it imports, its requirements and the graph. Builds
    are reproducible: only functions that have changed are deployed.
    """
    if everything == (function is not None):
        raise ConfigurationError("name one function, or all of them with --all")
    if everything and output.endswith(".zip"):
        raise ConfigurationError(f"{output!r} is a single file; name a folder for all functions")
    built = []
    for name in FUNCTIONS if function is None else (function,):
        path = output if output.endswith(".zip") else os.path.join(output, f"{name}.zip")
        build_archive(name, context.settings).write(path)
        built.append({"function": name, "path": path, **_describe_file(path)})
    if context.output.as_json:
        context.output.write_json({"archives": built})
        return
    rows = build_table("function", "archive", ">bytes", "sha256")
    for one in built:
        size, digest = f"{one['size_bytes']:,}", str(one["sha256"])[:12]
        rows.add_row(str(one["function"]), str(one["path"]), size, digest)
    context.output.print(rows)


def _describe_file(path: str) -> dict[str, object]:
    with open(path, "rb") as file:
        data = file.read()
    return {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
