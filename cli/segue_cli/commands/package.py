"""``segue package``: build the archives of the Cloud Functions."""

from __future__ import annotations

import hashlib
import os
from typing import Annotated

import typer

from segue.errors import ConfigurationError
from segue_cli.command import command
from segue_cli.context import Context
from segue_cli.function_archive import FUNCTIONS, archive
from segue_cli.views.table import table

Function = Annotated[
    str | None,
    typer.Argument(
        metavar="[FUNCTION]",
        help=f"One of {', '.join(FUNCTIONS)}.",
        show_default=False,
        autocompletion=lambda incomplete: [f for f in FUNCTIONS if f.startswith(incomplete)],
    ),
]
All = Annotated[bool, typer.Option("--all", help="Build all of them.")]
Where = Annotated[
    str,
    typer.Option(
        "--output",
        metavar="PLACE",
        help="Where to write: a folder, or for one function a file that ends with .zip.",
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
    output: Where = "build",
) -> None:
    """Build the archives of the Cloud Functions, for Terraform to deploy.

    Each holds the function, what it imports, its requirements and the graph. The same source and
    graph give the same bytes, so that only what has changed is deployed.
    """
    if everything == (function is not None):
        raise ConfigurationError("name one function, or all of them with --all")
    if everything and output.endswith(".zip"):
        raise ConfigurationError(f"{output!r} is one file; name a folder for all functions")
    built = []
    for name in FUNCTIONS if function is None else (function,):
        path = output if output.endswith(".zip") else os.path.join(output, f"{name}.zip")
        archive(name, context.settings).write(path)
        built.append({"function": name, "path": path, **_seen(path)})
    if context.output.as_json:
        context.output.json({"archives": built})
        return
    rows = table("function", "archive", ">bytes", "sha256")
    for one in built:
        size, digest = f"{one['size_bytes']:,}", str(one["sha256"])[:12]
        rows.add_row(str(one["function"]), str(one["path"]), size, digest)
    context.output.print(rows)


def _seen(path: str) -> dict[str, object]:
    with open(path, "rb") as file:
        data = file.read()
    return {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
