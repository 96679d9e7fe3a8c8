"""``segue graph``: show the job graph as a tree, Mermaid, DOT or JSON."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import TYPE_CHECKING

import click

from segue.errors import ConfigurationError, suggest
from segue.model.graph import SOURCE, Graph
from segue.printable import encode_json
from segue_cli.command import Context, command, complete_path
from segue_cli.drawing import build_document, draw_dot, draw_mermaid, walk_tree
from segue_cli.views import text
from segue_cli.views.output import (
    PIPE_COLUMNS,
    build_table,
    render_plain,
    write_file,
)

if TYPE_CHECKING:
    from rich.table import Table


class Format(StrEnum):
    """The output formats of the graph."""

    TREE = "tree"
    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"


WIDE_COLUMNS = 110  # the least width with room for the descriptions of jobs
# .svg and "svg" are known in order to be refused with the remedy.
SUFFIXES = {".dot": "dot", ".gv": "dot", ".json": "json", ".mmd": "mermaid", ".svg": "svg"}


@command(
    settings=("graph", "catalogue", "artifacts"),
    examples=(
        "segue graph",
        "segue graph --check",
        "segue graph --format mermaid >> README.md",
        "segue graph --format dot | dot -Tsvg > graph.svg",
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
    help="Write to this file instead of standard output.",
    shell_complete=complete_path,
)
@click.option(
    "--check", is_flag=True, help="Also import the jobs' code and check that it matches the graph."
)
def graph(context: Context, as_format: str | None, output: str | None, check: bool) -> None:
    """Show the job graph as a tree, Mermaid, DOT or JSON.

    Each job is shown with its content type, version, fingerprint (a hash of everything that defines
    its results) and owner, and where the graph groups jobs in pipelines, with its pipeline. In the
    tree, a job with several parents is shown in full once and referred to elsewhere. GitHub renders
    Mermaid, and Graphviz converts DOT to SVG. The graph is always validated; --check also validates
    the jobs' code.
    """
    loaded = context.graph
    if check:
        from segue.model.job_code import check_code

        check_code(loaded)
        jobs = text.format_count(len(loaded.jobs), "job")
        context.output.note(f"The code of {jobs} matches the graph.")
    chosen = _choose_format(as_format, output, as_json=context.output.as_json)
    if output is not None:
        write_file(output, _render(loaded, chosen).encode(errors="backslashreplace"))
        context.output.note(f"Wrote {output}.")
    elif chosen is Format.TREE:
        context.output.print(_render_tree(loaded, width=context.output.stdout.width))
    else:
        click.echo(_render(loaded, chosen), nl=False)


def _choose_format(name: str | None, output: str | None, *, as_json: bool) -> Format:
    suffix = os.path.splitext(output or "")[1]
    chosen = name or ("json" if as_json else SUFFIXES.get(suffix, "tree"))
    if chosen == "svg":
        raise ConfigurationError(
            "Segue does not draw SVG; let Graphviz do it: "
            f"segue graph --format dot | dot -Tsvg > {output or 'graph.svg'}"
        )
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
            rows.add_row(name, foreign.writes, "", locked, foreign.owner)
        else:
            job = loaded.jobs[branch.name]
            fingerprint = Text(loaded.fingerprints[job.name], style="cyan")
            cells = {"pipeline": loaded.pipeline_of[job.name], "description": job.description}
            last = (cells[column] for column in more)
            rows.add_row(name, job.writes, f"v{job.version}", fingerprint, job.owner, *last)
    return rows
