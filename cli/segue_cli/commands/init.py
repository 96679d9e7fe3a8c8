"""``segue init``: create a project."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

import click

from segue.errors import ConfigurationError, suggest
from segue.model.graph import read_graph
from segue.model.graph_schema import COMMENT, format_schema
from segue.model.graph_schema import FILE as SCHEMA
from segue.model.shipped_graphs import list_shipped_graphs
from segue_cli.command import Context, command, complete_path

SUFFIX = ".template"
HIDDEN = {"gitignore": ".gitignore"}
# An existing project keeps its own; the other files are required.
OPTIONAL = frozenset({".gitignore", "README.md", "conftest.py", SCHEMA})
FIRST_STEPS = (
    "segue graph --check",
    "pytest",
    "segue run brightness SONG",
    "segue backfill --prefix MUSIC --job brightness",
)


@command(examples=("segue init", "segue init features", "segue init --graph speech voices"))
@click.argument(
    "folder",
    default=".",
    help="The project folder; created if it is missing.  [default: .]",
    shell_complete=complete_path,
)
@click.option(
    "--graph",
    metavar="NAME",
    help="Start from a graph that ships with Segue, such as speech; 'segue jobs' lists them.",
    shell_complete=lambda _ctx, _parameter, start: [
        name for name in list_shipped_graphs() if name.startswith(start)
    ],
)
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def init(context: Context, folder: str, graph: str | None, force: bool) -> None:
    """Create a project: a graph, a first job and its test.

    The first job, brightness, is a working example. With --graph, the project has a copy of a graph
    that ships with Segue, and no code of its own yet. Existing files are not overwritten unless
    --force is given.
    """
    files = dict(_read_templates(resources.files("segue_cli") / "templates"))
    if graph is not None:
        files = {".gitignore": files[".gitignore"], "jobs.yaml": _read_shipped(graph)}
    files |= {"jobs.yaml": COMMENT + files["jobs.yaml"], SCHEMA: format_schema()}
    existing = [name for name in files if os.path.lexists(os.path.join(folder, name))]
    conflicts = [name for name in existing if name not in OPTIONAL]
    if conflicts and not force:
        raise ConfigurationError(
            f"{folder!r} already has {', '.join(conflicts)}; name another folder, or overwrite "
            "with --force"
        )
    kept = [] if force else existing
    written = [name for name in files if name not in kept]
    for name in written:
        _write(os.path.join(folder, name), files[name])
    steps = [
        *([] if os.path.normpath(folder) == "." else [shlex.join(["cd", folder])]),
        *(FIRST_STEPS if graph is None else _list_steps(graph)),
    ]
    if context.output.as_json:
        context.output.write_json(
            {"folder": folder, "written": written, "kept": kept, "next": steps}
        )
        return
    for name in written:
        context.output.print(f"wrote {os.path.join(folder, name)}")
    for name in kept:
        context.output.print(f"kept  {os.path.join(folder, name)}, which already exists")
    if ".gitignore" in kept:
        context.output.print("      add .segue/ to it; it holds the results and the ledger")
    context.output.print("\nNext:", *(f"  {step}" for step in steps))


def _read_templates(place: Traversable, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield each file's path in a project, and its text."""
    for entry in sorted(place.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            yield from _read_templates(entry, f"{above}{entry.name}/")
        elif entry.name.endswith(SUFFIX):
            name = entry.name.removesuffix(SUFFIX)
            yield above + HIDDEN.get(name, name), entry.read_text("utf-8")


def _read_shipped(graph: str) -> str:
    shipped = list_shipped_graphs()
    if graph not in shipped:
        raise ConfigurationError(
            f"--graph is {graph!r}, which is no graph that ships with Segue; "
            f"{suggest(graph, shipped)}"
        )
    with open(shipped[graph], encoding="utf-8") as file:
        return file.read()


def _list_steps(graph: str) -> list[str]:
    shipped = read_graph(list_shipped_graphs()[graph], {})
    models = ["segue models get"] if list(shipped.find_models(shipped.jobs)) else []
    return [*models, "segue graph --check", "segue backfill --prefix MEDIA --all"]


def _write(path: str, text: str) -> None:
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigurationError(
            f"{path!r} cannot be written ({error.strerror}); name a folder that this user may write"
        ) from error
