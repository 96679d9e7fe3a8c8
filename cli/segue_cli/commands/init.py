"""``segue init``: create a project."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator, Sequence

import click

from segue.errors import ConfigurationError
from segue.extras import DISTRIBUTION
from segue.model.artifact import find_version
from segue.model.graph import read_graph
from segue.model.graph_schema import COMMENT, format_schema
from segue.model.graph_schema import FILE as SCHEMA
from segue.model.shipped_graphs import list_shipped_graphs
from segue_cli.command import Context, command, complete_path
from segue_cli.project_files import (
    MODULES,
    find_shipped,
    has_models,
    read_deployment,
    read_job,
    read_shipped,
)
from segue_cli.views.output import Output

# An existing project keeps its own; the other files are required.
OPTIONAL = (
    *(".gitignore", "README.md", "conftest.py", "requirements.txt", "requirements-dev.txt"),
    *("wheels/README.md", ".github/workflows/ci.yml", SCHEMA),
)
# What a file that is kept lacks, and what to do about it.
HINTS = {
    ".gitignore": (".segue/", "add .segue/ to it; it holds the results and the ledger"),
    "requirements.txt": (
        f"=={find_version()}",
        f"add {DISTRIBUTION}=={find_version()} to it, with the extra pipelines",
    ),
}
FIRST_STEPS = (
    "segue graph --check",
    "pytest",
    "segue test",
    "segue run brightness SONG",
    "segue backfill --prefix MUSIC --job brightness",
)
DEPLOYMENT_STEPS = (
    "segue package --all",
    "terraform -chdir=infra init -backend-config=envs/dev.gcs.tfbackend",
    "terraform -chdir=infra plan -var-file=envs/dev.tfvars",
)


@command(
    examples=(
        "segue init",
        "segue init features",
        "segue init --graph speech voices",
        "segue init --deployment features",
    )
)
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
@click.option(
    "--deployment",
    is_flag=True,
    help="Add what deploys a project that is there, or after an upgrade, renew infra/segue.",
)
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def init(context: Context, folder: str, graph: str | None, deployment: bool, force: bool) -> None:
    """Create a project: a graph, a first job, its test, and what deploys them.

    The first job, brightness, is a working example. With --graph, the project has a copy of a graph
    that ships with Segue, and no code of its own yet. infra/ has a Dockerfile, Terraform, and in
    infra/segue a copy of the modules of this version of Segue; infra/README.md says how to deploy.

    Existing files are not overwritten unless --force is given. With --deployment, they are kept,
    except for infra/segue, which is replaced.
    """
    if deployment:
        if graph is not None or force:
            raise ConfigurationError("--deployment keeps what is there; leave out --graph, --force")
        files = read_deployment(_find_graph(folder))
    elif graph is not None:
        files = read_shipped(graph) | read_deployment(find_shipped(graph))
    else:
        files = read_job() | read_deployment(None)
    if not deployment:
        files |= {"jobs.yaml": COMMENT + files["jobs.yaml"], SCHEMA: format_schema()}
    existing = [name for name in files if os.path.lexists(os.path.join(folder, name))]
    _check_modules(folder)
    _check_folders(folder, files)
    optional = [n for n in files if not n.startswith(MODULES)] if deployment else OPTIONAL
    kept = [] if force else [name for name in existing if name in optional]
    if not force:
        _check_conflicts(folder, [n for n in existing if n not in kept], deployment)
    written = [name for name in files if name not in kept]
    for name in written:
        _write(os.path.join(folder, name), files[name])
    removed = sorted(_remove_old_modules(folder, files))
    steps = [
        *_list_first_step(folder),
        *(DEPLOYMENT_STEPS if deployment else FIRST_STEPS if graph is None else _list_steps(graph)),
    ]
    if context.output.as_json:
        changed = {"written": written, "kept": kept, "removed": removed}
        context.output.write_json({"folder": folder, **changed, "next": steps})
        return
    _show(context.output, folder, written, kept, removed)
    context.output.print("\nNext:", *(f"  {step}" for step in steps))


def _show(
    output: Output,
    folder: str,
    written: Sequence[str],
    kept: Sequence[str],
    removed: Sequence[str],
) -> None:
    for name in written:
        if not name.startswith(MODULES):
            output.print(f"wrote {os.path.join(folder, name)}")
    modules = sum(name.startswith(MODULES) for name in written)
    output.print(f"wrote {os.path.join(folder, MODULES)}, Segue's Terraform ({modules} files)")
    for name in removed:
        output.print(f"removed {os.path.join(folder, name)}, which Segue's Terraform does not have")
    for name in kept:
        path = os.path.join(folder, name)
        output.print(f"kept  {path}, which already exists")
        lacking, hint = HINTS.get(name, ("", ""))
        if lacking and not _is_in_file(path, lacking):
            output.print(f"      {hint}")


def _is_in_file(path: str, text: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return text in file.read()
    except OSError:  # a folder, or a link to nowhere
        return False


def _find_graph(folder: str) -> str:
    path = os.path.join(folder, "jobs.yaml")
    if not os.path.exists(path):
        raise ConfigurationError(
            f"{folder!r} has no jobs.yaml to deploy; name the project's folder, or leave out "
            "--deployment to create a project"
        )
    return path


def _check_modules(folder: str) -> None:
    """Check that the folder of Segue's modules is Segue's, as it is replaced as a whole."""
    place = os.path.join(folder, MODULES)
    is_copy = os.path.exists(f"{place}constraints.txt") and not os.path.islink(place.rstrip("/"))
    if os.path.lexists(place.rstrip("/")) and not is_copy:
        raise ConfigurationError(
            f"{place!r} is not a copy of Segue's Terraform modules, which belongs there; rename it"
        )


def _check_folders(folder: str, files: Collection[str]) -> None:
    """Check that no file is where a folder belongs, before anything is written."""
    for name in sorted({os.path.dirname(name) for name in files}):
        path = os.path.join(folder, name).rstrip("/")
        if os.path.lexists(path) and not os.path.isdir(path):
            raise ConfigurationError(
                f"{path!r} is no folder, and files of the project belong into it; rename it, or "
                "name another folder"
            )


def _check_conflicts(folder: str, conflicts: Collection[str], deployment: bool) -> None:
    own = [name for name in conflicts if not name.startswith(MODULES)]
    if own or (conflicts and not deployment):
        shown = sorted(own or [MODULES], key=lambda name: ("/" in name, name))
        more = f" and {len(shown) - 3} more files" if len(shown) > 4 else ""
        names = ", ".join(shown[:3] if more else shown)
        raise ConfigurationError(
            f"{folder!r} already has {names}{more}; name another folder, overwrite with --force, "
            "or keep them with --deployment"
        )


def _remove_old_modules(folder: str, files: Collection[str]) -> Iterator[str]:
    """Remove the files that Segue's modules no longer have, and yield their names."""
    for place, _, names in os.walk(os.path.join(folder, MODULES)):
        for name in names:
            path = os.path.join(place, name)
            relative = os.path.relpath(path, folder).replace(os.sep, "/")
            if relative not in files:
                os.remove(path)
                yield relative


def _list_first_step(folder: str) -> list[str]:
    if os.path.normpath(folder) == ".":
        return []
    return [shlex.join(["cd", f"./{folder}" if folder.startswith("-") else folder])]


def _list_steps(graph: str) -> list[str]:
    models = ["segue models get"] if has_models(read_graph(find_shipped(graph), {})) else []
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
