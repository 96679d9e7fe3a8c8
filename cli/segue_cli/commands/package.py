"""``segue package``: build the archives of the Cloud Functions."""

from __future__ import annotations

import hashlib
import os

import click

from segue.errors import ConfigurationError
from segue_cli.command import Context, command, complete_path
from segue_cli.function_archive import FUNCTIONS, build_archive, compile_graph, replace_file
from segue_cli.views.output import build_table


@command(
    settings=("graph",),
    examples=("segue package --all", "segue package arrival --output arrival.zip"),
)
@click.argument(
    "function",
    required=False,
    help=f"One of {', '.join(FUNCTIONS)}.",
    shell_complete=lambda _ctx, _parameter, start: [f for f in FUNCTIONS if f.startswith(start)],
)
@click.option("--all", "everything", is_flag=True, help="Build the archives of all functions.")
@click.option(
    "--output",
    default="build",
    metavar="PATH",
    help="The output folder or, for a single function, a .zip file.",
    shell_complete=complete_path,
)
def package(context: Context, function: str | None, everything: bool, output: str) -> None:
    """Build the archives of the Cloud Functions, for Terraform to deploy.

    Each archive holds the function, the modules it imports, its requirements and the graph. Builds
    are reproducible: only functions that have changed are deployed. With --all, the graph is also
    written to graph.json, which tells Terraform what each job needs.
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
    compiled = os.path.join(output, "graph.json") if everything else None
    if compiled:
        with replace_file(compiled) as unfinished, open(unfinished, "wb") as file:
            file.write(compile_graph(context.settings))
    if context.output.as_json:
        context.output.write_json({"archives": built, "graph": compiled})
        return
    rows = build_table("function", "archive", ">bytes", "sha256")
    for one in built:
        size, digest = f"{one['size_bytes']:,}", str(one["sha256"])[:12]
        rows.add_row(str(one["function"]), str(one["path"]), size, digest)
    context.output.print(rows)
    if compiled:
        context.output.note(f"Wrote {compiled}.")


def _describe_file(path: str) -> dict[str, object]:
    with open(path, "rb") as file:
        data = file.read()
    return {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
