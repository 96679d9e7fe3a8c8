"""``segue graph``: show the job graph, or all that teams share, as a tree, Mermaid, DOT or JSON."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING

import click

from segue import text
from segue.errors import ConfigurationError, suggest
from segue.model.graph import SOURCE, UNRESOLVED, Graph, read_graph
from segue.model.graph_schema import format_schema
from segue.model.settings import DEFAULT_GRAPH
from segue.printable import encode_json
from segue.registry.publication import load_manifests, open_registry
from segue_cli.command import Context, command, complete_path, take_dash
from segue_cli.drawing import build_document, draw_dot, draw_mermaid, format_outputs, walk_tree
from segue_cli.registry_drawing import (
    UNKNOWN,
    PinStanding,
    RegistryRow,
    build_registry_document,
    draw_registry_dot,
    draw_registry_mermaid,
    walk_registry,
)
from segue_cli.views.output import (
    PIPE_COLUMNS,
    build_table,
    render_plain,
    write_file,
)

if TYPE_CHECKING:
    from rich.table import Table

    from segue.model.manifest import Manifest


class Format(StrEnum):
    """The output formats of the graph."""

    TREE = "tree"
    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"


WIDE_COLUMNS = 110  # the least width with room for the descriptions of jobs
SUFFIXES = {".dot": "dot", ".gv": "dot", ".json": "json", ".mmd": "mermaid"}
PICTURES = {"eps", "gif", "jpeg", "jpg", "pdf", "png", "ps", "svg", "webp"}  # that Graphviz draws


@command(
    settings=("graph", "catalogue", "artifacts"),
    examples=(
        "segue graph",
        "segue graph --check",
        "segue graph --format mermaid >> README.md",
        "segue graph --format dot | dot -Tsvg > graph.svg",
        "segue graph --schema -o jobs.schema.json",
        "segue graph --registry",
        "segue graph --registry gs://acme-registry --format dot | dot -Tsvg > teams.svg",
    ),
)
@click.option(
    "--format",
    "as_format",
    metavar="|".join(Format),
    help="The output format.  [default: by the suffix of --output, else tree]",
    shell_complete=lambda _ctx, _parameter, start: [f for f in Format if f.startswith(start)],
)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    callback=take_dash,
    help="Write to this file.  [default: standard output, as with -]",
    shell_complete=complete_path,
)
@click.option(
    "--check", is_flag=True, help="Also import the jobs' code and check that it matches the graph."
)
@click.option(
    "--schema",
    is_flag=True,
    help="Instead write the JSON Schema of jobs.yaml, with which editors complete and check it.",
)
@click.option(
    "--registry",
    is_flag=False,
    flag_value="",
    metavar="[URL]",
    help="Instead show what all teams have published in this registry, and who is locked to what. "
    "[URL: as set in the graph, or by SEGUE_REGISTRY]",
    shell_complete=complete_path,
)
def graph(
    context: Context,
    as_format: str | None,
    output: str | None,
    check: bool,
    schema: bool,
    registry: str | None,
) -> None:
    """Show the job graph as a tree, Mermaid, DOT or JSON.

    Each job is shown with its content type, version, fingerprint (a hash of everything that defines
    its results) and owner, and where the graph groups jobs in pipelines, with its pipeline. In the
    tree, a job with several parents is shown in full once and referred to elsewhere. GitHub renders
    Mermaid, and Graphviz converts DOT to SVG. The graph is always validated; --check also validates
    the jobs' code.

    With --registry, the namespaces of all teams are shown instead, from their manifests. These have
    only the jobs with 'publish: true', and what a graph as a whole is locked to: so below each job
    are the namespaces that use it, with the fingerprint if it is another one than is published.

    With --schema, no graph is read: the JSON Schema of all graphs is written.
    """
    if schema:
        if check or registry is not None or as_format is not None:
            raise ConfigurationError(
                "--schema is about all graphs; leave out --check, --registry and --format, or it"
            )
        _write(context, format_schema(), output)
        return
    chosen = _choose_format(as_format, output, as_json=context.output.as_json)
    if registry is not None:
        if check:
            raise ConfigurationError(
                "--check is about the code of one graph; leave out it or --registry"
            )
        _show_registry(context, registry, chosen, output)
        return
    loaded = context.graph
    if check:
        from segue.model.job_code import check_code

        check_code(loaded)
        jobs = text.format_count(len(loaded.jobs), "job")
        context.output.note(f"The code of {jobs} matches the graph.")
    if output is None and chosen is Format.TREE:
        context.output.print(_render_tree(loaded, width=context.output.stdout.width))
    else:
        _write(context, _render(loaded, chosen), output)


def _write(context: Context, drawing: str, output: str | None) -> None:
    if output is None:
        click.echo(drawing, nl=False)
        return
    write_file(output, drawing.encode(errors="backslashreplace"))
    context.output.note(f"Wrote {output}.")


def _show_registry(context: Context, given: str, chosen: Format, output: str | None) -> None:
    """Show what all namespaces have published."""
    location = given or _find_registry(context)
    with closing(open_registry(location)) as registry:
        manifests = load_manifests(registry)
    if not manifests:
        context.output.note(f"Nobody has published to {location} yet.")
    if output is None and chosen is Format.TREE:
        context.output.print(_render_registry_tree(manifests, context.output.stdout.width))
    else:
        _write(context, _render_registry(manifests, location, chosen), output)


def _find_registry(context: Context) -> str:
    """Return the registry that is set; the graph need not be locked yet."""
    location = context.settings.registry
    path = context.settings.graph or DEFAULT_GRAPH
    if location is None and (context.settings.graph or os.path.exists(path)):
        location = read_graph(path, lock=UNRESOLVED).registry
    if location is None:
        raise ConfigurationError(
            "no registry is set; name one after --registry, write 'registry:' in the graph, or set "
            "SEGUE_REGISTRY"
        )
    return location


def _render_registry(manifests: Mapping[str, Manifest], location: str, chosen: Format) -> str:
    match chosen:
        case Format.MERMAID:
            return draw_registry_mermaid(manifests)
        case Format.DOT:
            return draw_registry_dot(manifests)
        case Format.JSON:
            return encode_json(build_registry_document(manifests, location), indent=2) + "\n"
        case Format.TREE:
            return render_plain(_render_registry_tree(manifests, PIPE_COLUMNS))


def _render_registry_tree(manifests: Mapping[str, Manifest], width: int) -> Table:
    from rich.text import Text

    wide = width >= WIDE_COLUMNS
    rows = build_table("job", "writes", "fingerprint", "owner", *(["description"] if wide else []))
    for row in walk_registry(manifests):
        name = Text.assemble((row.guide, "dim"), (row.name, "" if row.pin else "bold"))
        writes, fingerprint, owner, description = _describe_row(row)
        last = [description] if wide else []
        rows.add_row(name, writes, Text(fingerprint, style="cyan"), owner, *last)
    return rows


def _describe_row(row: RegistryRow) -> tuple[str, str, str, str]:
    """Return the content type, the fingerprint, the owner and the description of a line."""
    if row.pin is not None:
        is_same = row.pin.standing is PinStanding.CURRENT
        return ("", "", "", "") if is_same else (row.pin.standing, row.pin.fingerprint, "", "")
    if row.job is not None:
        job = row.job
        return format_outputs(job.writes), job.fingerprint, job.owner, job.description
    if row.guide:
        return "not published any more", "", "", ""
    if row.manifest is None:
        return UNKNOWN, "", "", ""
    return "", "", row.manifest.contact, row.manifest.catalogue or ""


def _choose_format(name: str | None, output: str | None, *, as_json: bool) -> Format:
    suffix = os.path.splitext(output or "")[1].lower()
    picture = suffix.removeprefix(".") if name is None and not as_json else (name or "").lower()
    if picture in PICTURES:
        raise ConfigurationError(
            f"Segue does not draw {picture.upper()}; let Graphviz do it: segue graph --format dot "
            f"| dot -T{picture} > {shlex.quote(output or f'graph.{picture}')}"
        )
    chosen = name or ("json" if as_json else SUFFIXES.get(suffix, "tree"))
    if chosen not in set(Format):
        raise ConfigurationError(
            f"{chosen!r} is not a graph format; {suggest(chosen, list(Format))}"
        )
    if as_json and chosen != Format.JSON:
        raise ConfigurationError(f"--json and --format {name} contradict each other; leave one out")
    return Format(chosen)


def _render(loaded: Graph, chosen: Format) -> str:
    match chosen:
        case Format.MERMAID:
            return draw_mermaid(loaded)
        case Format.DOT:
            return draw_dot(loaded)
        case Format.JSON:
            return encode_json(build_document(loaded), indent=2) + "\n"
        case Format.TREE:
            return render_plain(_render_tree(loaded, width=PIPE_COLUMNS))


def _render_tree(loaded: Graph, *, width: int) -> Table:
    from rich.text import Text

    wide = width >= WIDE_COLUMNS
    more = [*(["pipeline"] if loaded.groups else []), *(["description"] if wide else [])]
    rows = build_table("job", "writes", "version", "fingerprint", "owner", *more)
    for branch in walk_tree(loaded):
        name = Text.assemble((branch.guide, "dim"), (branch.name, "bold"))
        if branch.name == SOURCE:
            rows.add_row(name)
        elif branch.again:
            name.stylize("not bold")
            rows.add_row(name + Text("  ↑ above", style="dim"))
        elif branch.name in loaded.foreign:
            foreign = loaded.foreign[branch.name]
            locked = Text(foreign.fingerprint, style="cyan")
            rows.add_row(name, format_outputs(foreign.writes), "", locked, foreign.owner)
        else:
            job = loaded.jobs[branch.name]
            fingerprint = Text(loaded.fingerprints[job.name], style="cyan")
            cells = {"pipeline": loaded.pipeline_of[job.name], "description": job.description}
            last = (cells[column] for column in more)
            writes = format_outputs(job.writes)
            rows.add_row(name, writes, f"v{job.version}", fingerprint, job.owner, *last)
    return rows
