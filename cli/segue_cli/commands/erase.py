"""``segue erase``: remove a file's results and artifacts for good, in every namespace."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from segue import text
from segue.adapters.connect import connect_queue, ledger_exists
from segue.errors import ConfigurationError, SegueError
from segue.execution.recorded_run import record_run
from segue.ingest.catalogue import look_up
from segue.maintenance.erasure import (
    Eraser,
    FileState,
    Place,
    Trace,
    Traces,
    follow,
    inspect_all,
    open_places,
)
from segue.model.media_file import list_file_uris, split_uri
from segue.model.run import RunKind
from segue.registry.publication import load_manifests, open_registry
from segue_cli.command import Context, command, complete_path
from segue_cli.exit_code import ExitCode
from segue_cli.parameters import parse_duration, yes_option
from segue_cli.views.output import build_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from segue.model.graph import Graph
    from segue.model.manifest import Manifest
    from segue.stack import Stack


@command(
    settings=("graph", "catalogue", "artifacts", "ledger", "queue", "registry"),
    examples=(
        "segue erase gs://acme-audio/masters/song.flac --dry-run",
        "segue erase gs://acme-audio/masters/song.flac --yes --timeout 10m",
    ),
)
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    help="Paths, URIs (gs://bucket/name), or paths relative to the catalogue.  [required]",
    shell_complete=complete_path,
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed; change nothing.")
@click.option(
    "--timeout",
    default="60s",
    metavar="DURATION",
    callback=parse_duration,
    help="How long to wait for running jobs, and for the namespaces below, such as 90s or 1h.",
)
@yes_option
def erase(
    context: Context, files: tuple[str, ...], dry_run: bool, timeout: float, yes: bool
) -> ExitCode | None:
    """Remove a file's results and artifacts for good, here and in the namespaces below.

    All artifacts of the file are removed, of all its versions and of all versions of the jobs, and
    nothing is computed for it again: no event, request, retry or backfill brings it back, even if
    it is uploaded anew. There is no way back. The media file itself is not touched.

    The pipelines of the namespaces below, which use results of this graph, do the same once they
    are told; the command waits for them. If the graph has a registry, it looks into the ledger and
    the artifacts of every namespace there, and names those where something is left. The exit code
    is then 4. Run it again at any time, also after a crash: it continues.

    The command shows what it finds and asks for confirmation.
    """
    if not ledger_exists(context.settings.ledger):
        raise ConfigurationError(
            f"there is no ledger {context.settings.ledger}, so nothing was computed; set the right "
            "one with --ledger or SEGUE_LEDGER"
        )
    manifests = _load_manifests(context.graph)
    with (
        context.open(create=not dry_run) as stack,
        open_places(stack.graph, stack.ledger, stack.artifacts, manifests) as places,
    ):
        uris = list(dict.fromkeys(_find_uri(stack, file) for file in files))
        before = inspect_all(places, uris)
        found = [ErasedFile(uri=uri, places=places, before=before, after=before) for uri in uris]
        if not dry_run:
            if not yes:
                context.output.stderr.print(*_render(found, dry_run=True))
                what = text.format_count(len(uris), "file")
                context.output.confirm(f"Erase {what} for good?", f"erase {what}")
            with record_run(context.graph, RunKind.ERASE) as report:
                after = _erase(context, stack, places, uris, timeout)
                report({"files_erased": len(uris)})
            found = [ErasedFile(uri=uri, places=places, before=before, after=after) for uri in uris]
    if context.output.as_json:
        context.output.write_json(_to_json(found, dry_run=dry_run))
    else:
        context.output.print(*_render(found, dry_run=dry_run, timeout_s=timeout))
        if dry_run:
            context.output.print("Nothing was changed.")
    is_over = dry_run or all(one.is_complete for one in found)
    return None if is_over else ExitCode.UNFINISHED


def _load_manifests(graph: Graph) -> dict[str, Manifest]:
    if graph.registry is None:
        return {}
    with closing(open_registry(graph.registry)) as registry:
        return dict(load_manifests(registry))


def _find_uri(stack: Stack, file: str) -> str:
    """Return the URI of a file, which may be unknown and need not exist.

    A relative path is taken only if there is, or was, such a file: a slip of the pen would else
    erase nothing, and seem to succeed.
    """
    uris = list_file_uris(file, stack.graph.catalogue)
    for uri in uris:
        bucket, name = split_uri(uri)
        if not name or name.endswith("/") or (not bucket and os.path.isdir(f"/{name}")):
            raise ConfigurationError(f"{file!r} is a folder; name its files one by one")
    if len(uris) == 1 and (file.startswith(("gs://", "file:///", "/", "~"))):
        return uris[0]
    for uri, snapshot in zip(uris, stack.ledger.read(uris), strict=True):
        if snapshot.record is not None or snapshot.damage is not None:
            return uri
    for uri in uris:
        if not look_up(uri).is_gone:
            return uri
    raise ConfigurationError(
        f"{file!r} is not in the ledger and does not exist; if it is to be erased nevertheless, "
        f"write its URI, such as {uris[0]}"
    )


def _erase(
    context: Context, stack: Stack, places: Sequence[Place], uris: Sequence[str], timeout_s: float
) -> Traces:
    """Erase files here, and wait for the namespaces below; return what is left."""
    with ExitStack() as opened:
        queue = None
        if stack.graph.is_shared:
            queue = opened.enter_context(
                closing(connect_queue(context.settings.queue, stack.graph))
            )
        eraser = Eraser(
            graph=stack.graph, ledger=stack.ledger, artifacts=stack.artifacts, queue=queue
        )
        for uri in uris:
            eraser.erase(uri)
        show = opened.enter_context(_show_progress(context, timeout_s))
        return follow(eraser, places, uris, timeout_s=timeout_s, show=show)


@contextmanager
def _show_progress(
    context: Context, timeout_s: float
) -> Iterator[Callable[[Sequence[str]], object]]:
    """Yield a function that shows what is waited for."""
    from rich.live import Live
    from rich.spinner import Spinner

    spinner = Spinner("dots", style="green")
    said: set[str] = set()
    console = context.output.stderr

    def show(namespaces: Sequence[str]) -> None:
        line = f"waiting for {', '.join(namespaces)}, for up to {timeout_s:g} s"
        spinner.update(text=line)
        if not console.is_terminal and line not in said:
            said.add(line)
            context.output.note(line)

    with Live(spinner, console=console, transient=True, redirect_stdout=False):
        yield show


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasedFile:
    """A file, and what each namespace had of it before and has of it now."""

    uri: str
    places: Sequence[Place]
    before: Traces
    after: Traces

    def list_traces(self) -> Iterator[tuple[Place, Trace, Trace]]:
        """Yield each namespace with what it had, and what it has."""
        for place in self.places:
            key = (self.uri, place.namespace)
            yield place, self.before[key], self.after[key]

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left anywhere."""
        return all(place.is_done(after) for place, _, after in self.list_traces())

    @property
    def is_known(self) -> bool:
        """Whether any namespace had anything of it."""
        traces = [before for _, before, _ in self.list_traces()]
        return any(t.state is not FileState.UNKNOWN or t.artifacts for t in traces)

    @property
    def exists(self) -> bool | None:
        """Whether the media file exists; None: unknown."""
        try:
            found = look_up(self.uri)
        except SegueError:
            return None
        return None if found.error is not None else not found.is_gone

    @property
    def deletion(self) -> str:
        """The command that deletes the media file itself."""
        bucket, _ = split_uri(self.uri)
        if bucket:
            return shlex.join(["gcloud", "storage", "rm", self.uri])
        return shlex.join(["rm", self.uri.removeprefix("file://")])


def _find_remedy(file: ErasedFile, place: Place, trace: Trace) -> str:
    """Return what to do about what is left in a namespace; empty if nothing is."""
    if place.is_done(trace):
        return ""
    again = shlex.join(["segue", "erase", file.uri])
    who = f" (contact {place.contact})" if place.contact else ""
    if trace.state is FileState.RUNNING:
        return f"{', '.join(trace.running)} has not ended yet; run the same command again later"
    if place.is_own:
        return f"{trace.reason or 'something is left'}; run the same command again"
    there = f"run it there{who}: {again}"
    if trace.state is FileState.UNREADABLE:
        return f"{trace.reason}; find out, or {there}"
    if not place.is_below:
        return f"no event of this namespace reaches it; {there}"
    if trace.state is FileState.ERASED:
        return f"artifacts are left, which its pipelines may not remove or do not know; {there}"
    return f"its pipelines have not been told yet; start them, and run this again, or {there}"


def _to_json(files: Sequence[ErasedFile], *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "complete": all(one.is_complete for one in files),
        "files": [
            {
                "uri": one.uri,
                "known": one.is_known,
                "complete": one.is_complete,
                "media": {"exists": one.exists, "delete": one.deletion},
                "namespaces": [
                    {
                        "namespace": place.namespace,
                        "own": place.is_own,
                        "below": place.is_below,
                        "state": after.state,
                        "artifacts": len(before.artifacts),
                        "removed": len({*before.artifacts} - {*after.artifacts}),
                        "left": list(after.artifacts),
                        "running": list(after.running),
                        "complete": place.is_done(after),
                        "remedy": None if dry_run else _find_remedy(one, place, after) or None,
                    }
                    for place, before, after in one.list_traces()
                ],
            }
            for one in files
        ],
    }


def _render(
    files: Sequence[ErasedFile], *, dry_run: bool, timeout_s: float = 0.0
) -> Iterator[RenderableType]:
    """Render what each namespace has, or had, of each file, and what is to be done."""
    from rich.text import Text

    from segue.printable import escape

    for one in files:
        yield Text(escape(one.uri), style="bold")
        yield _build_rows(one, dry_run=dry_run)
        if not one.is_known:
            yield Text("No namespace knew this file: check its name.", style="yellow")
        if not dry_run:
            yield from _describe_end(one, timeout_s)
        if one.exists is not False:
            yield Text(f"The media file itself is not touched. To delete it: {one.deletion}")
        yield Text()


def _build_rows(file: ErasedFile, *, dry_run: bool) -> RenderableType:
    counted = ("artifacts",) if dry_run else ("artifacts", "removed", "left")
    rows = build_table("namespace", "reached by", "the file is", *(f">{name}" for name in counted))
    for place, before, after in file.list_traces():
        way = "this command" if place.is_own else "event" if place.is_below else "nothing"
        removed = len({*before.artifacts} - {*after.artifacts})
        counts = [len(before.artifacts), removed, len(after.artifacts)][: len(counted)]
        rows.add_row(place.namespace, way, str(after.state), *(f"{n:,}" for n in counts))
    return rows


def _describe_end(file: ErasedFile, timeout_s: float) -> Iterator[RenderableType]:
    from rich.text import Text

    if file.is_complete:
        names = [p.namespace for p, _, t in file.list_traces() if t.state is FileState.ERASED]
        where = text.format_count(len(names), "namespace")
        yield Text(
            f"Erased in {where}: nothing is left, and nothing is computed for it again there.",
            style="green",
        )
        for place, _, trace in file.list_traces():
            if trace.state is FileState.UNKNOWN:
                yield Text(f"{place.namespace} does not know the file, and is not told.")
        return
    yield Text(f"Incomplete after {timeout_s:g} s:", style="yellow")
    for place, _, trace in file.list_traces():
        if remedy := _find_remedy(file, place, trace):
            yield Text(f"  {place.namespace}: {remedy}", style="yellow")
